"""Only what this package has to say reaches the terminal."""

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_OURS = "dac_tokenize"


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Show warnings of this package, and hold back what the libraries say, within the block.

    Beam, transformers and torch report what is no concern of the user's, such as modules that are
    not installed, and Beam logs the traceback of every error that it raises as well.
    """
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("dac-tokenize: %(message)s"))
    handler.addFilter(_is_shown)
    root = logging.getLogger()
    # With a handler in place, `logging.warning` of a library installs none of its own.
    root.addHandler(handler)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.filterwarnings("default", module=_OURS)
            yield
    finally:
        root.removeHandler(handler)


def _is_shown(record: logging.LogRecord) -> bool:
    return record.name.split(".")[0] == _OURS or _runner_logs_are_shown


_runner_logs_are_shown = False


@contextmanager
def runner_logs(shown: bool) -> Iterator[None]:
    """Show what a runner logs, such as where its job can be watched, within the block."""
    global _runner_logs_are_shown
    root = logging.getLogger()
    level = root.level
    _runner_logs_are_shown = shown
    if shown:
        root.setLevel(logging.INFO)
    try:
        yield
    finally:
        root.setLevel(level)
        _runner_logs_are_shown = False
