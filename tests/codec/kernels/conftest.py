"""Kernels on the CPU: by Triton's interpreter, which runs them as NumPy."""

import contextlib
import importlib
from types import ModuleType

import numpy as np
import pytest

MODULES = ("convolution", "ending", "first", "quantize", "unit")


@pytest.fixture
def interpreted(monkeypatch):
    """Has every kernel interpreted.

    Setting TRITON_INTERPRET=1 would do so for the whole process, where other tests compile.
    """
    triton = pytest.importorskip("triton")
    from triton.runtime.interpreter import InterpretedFunction
    from triton.runtime.jit import JITFunction

    # It imports what is swapped below, and would do so at the first kernel.
    importlib.import_module("triton.experimental.gluon")
    swapped: dict[int, InterpretedFunction] = {}
    names = [f"dac_tokenize.codec.kernels.{name}" for name in MODULES]
    modules: list[ModuleType] = [importlib.import_module(name) for name in names]
    for module in (triton.language, triton.language.standard, *modules):
        for name, value in list(vars(module).items()):
            if isinstance(value, JITFunction):
                new = swapped.setdefault(id(value), InterpretedFunction(value.fn))
                monkeypatch.setattr(module, name, new)
    monkeypatch.setattr(
        "triton.runtime.interpreter.InterpreterBuilder.create_dot", dot_of_any_type()
    )
    with language_put_back():
        yield


@contextlib.contextmanager
def language_put_back():
    """Put back what the interpreter changes of Triton's language, of which it forgets a part.

    It does so for a kernel, but not for the functions that one calls: nothing would compile after
    it in the same process.
    """
    from triton.runtime.interpreter import _LangPatchScope

    changed: dict[tuple[int, str], tuple[object, object]] = {}
    missing = object()
    plain = _LangPatchScope.set_attr

    def set_attr(scope, obj, name, value):
        changed.setdefault((id(obj), name), (obj, getattr(obj, name, missing)))
        plain(scope, obj, name, value)

    _LangPatchScope.set_attr = set_attr
    try:
        yield
    finally:
        _LangPatchScope.set_attr = plain
        for (_, name), (obj, original) in changed.items():
            if original is not missing:
                setattr(obj, name, original)
            elif hasattr(obj, name):
                delattr(obj, name)


def dot_of_any_type():
    """The interpreter's matrix product, which takes bfloat16 for whole numbers, put right."""
    import triton.language as tl
    from triton.runtime.interpreter import InterpreterBuilder, TensorHandle

    plain = InterpreterBuilder.create_dot

    def widened(handle):
        if handle.dtype != tl.bfloat16:
            return handle
        bits = handle.data.astype(np.uint32) << 16
        return TensorHandle(bits.view(np.float32), tl.float32)

    def create_dot(self, a, b, *others):
        return plain(self, widened(a), widened(b), *others)

    return create_dot
