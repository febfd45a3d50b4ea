"""The number format in which the convolutions run; the quantizer always compares in float32."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, get_args

import torch

from dac_tokenize.errors import UsageError

Precision = Literal["float32", "tf32", "float16", "bfloat16"]
PRECISIONS: tuple[str, ...] = get_args(Precision)

_DTYPES = {
    "float32": torch.float32,
    "tf32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}


def precision_dtype(precision: str, device: torch.device) -> torch.dtype:
    """Return the dtype of weights and activations for `precision` on `device`.

    Raises:
        UsageError: no such precision, or not on this device.
    """
    if precision not in _DTYPES:
        raise UsageError(f"precision is {precision!r}; expected one of {', '.join(PRECISIONS)}")
    if precision == "tf32" and device.type != "cuda":
        raise UsageError(f"precision tf32 needs a CUDA device; found {device.type!r}, use float32")
    return _DTYPES[precision]


@contextmanager
def float32_rule(precision: str) -> Iterator[None]:
    """Hold float32 products to full precision (or to TF32, where asked) within the block.

    PyTorch lets cuDNN round float32 convolutions to TF32 unless told otherwise, and a program may
    have allowed less for its own matrix products. Both are set here and put back afterwards, so
    that neither what the program chose nor what the codec needs is lost.
    """
    rule = "tf32" if precision == "tf32" else "ieee"
    torch_backends: Any = torch.backends
    backends = [
        torch_backends.cudnn.conv,
        torch_backends.cuda.matmul,
        torch_backends.mkldnn.conv,
        torch_backends.mkldnn.matmul,
    ]
    # oneDNN knows no TF32 on the CPU; what a CUDA run asks for does not concern it.
    rules = [rule, rule, "ieee", "ieee"]
    before = [backend.fp32_precision for backend in backends]
    for backend, chosen in zip(backends, rules, strict=True):
        backend.fp32_precision = chosen
    try:
        yield
    finally:
        for backend, chosen in zip(backends, before, strict=True):
            backend.fp32_precision = chosen
