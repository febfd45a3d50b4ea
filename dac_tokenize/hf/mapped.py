"""A function for `map` whose cached results end with the version of this package."""

import functools
import importlib
import importlib.metadata
from collections.abc import Callable
from typing import Any, Generic, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


class MapFunction(Generic[P, R]):
    """Wraps a module's function, so that its hash holds the version of this package.

    `datasets` finds the results of an earlier `map` by a hash of the function as pickled. An
    importable function is pickled as its name, so that codes of the codec that came with an older
    version would be taken for those of this one's. Here name and version are pickled.

    Args:
        function: a function at the top of a module, which this object replaces there.
    """

    def __init__(self, function: Callable[P, R]) -> None:
        self._function = function
        functools.update_wrapper(self, function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Calls the function."""
        return self._function(*args, **kwargs)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, str, str]]:
        return (
            _find,
            (self._function.__module__, self._function.__qualname__, _package_version()),
        )

    def __repr__(self) -> str:
        return f"<function {self._function.__module__}.{self._function.__qualname__}>"


def _find(module: str, name: str, _version: str) -> Any:
    return getattr(importlib.import_module(module), name)


def _package_version() -> str:
    try:
        return importlib.metadata.version("dac-tokenize")
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
