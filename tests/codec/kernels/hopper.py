"""A Hopper GPU as far as compiling goes, on any machine: kernels are made for it, none runs."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from triton.backends.compiler import GPUTarget
from triton.runtime import driver

from dac_tokenize.codec.cuda import CudaEncoder
from dac_tokenize.codec.kernels import convolution, first, quantize, unit
from dac_tokenize.codec.kernels.packed import PackedEncoder
from dac_tokenize.codec.kernels.quantize import KernelQuantizer
from dac_tokenize.codec.quantizer import ResidualQuantizer
from dac_tokenize.codec.ways import Choose, Way, likeliest_way
from tests.codec.models import PUBLISHED_SHAPES, random_model

KERNELS: tuple[Any, ...] = (
    *(convolution.convolve_kernel, convolution.finish_kernel, first.first_kernel),
    *(unit.unit_kernel, quantize.quantize_kernel),
)
CPU = torch.device("cpu")


class Hopper:
    """As much of Triton's driver as compiling asks for."""

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", 90, 32)

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0


@contextlib.contextmanager
def hopper() -> Iterator[None]:
    """Have Triton take this machine for one with a Hopper GPU, with nothing compiled yet."""
    before = driver._active
    driver.set_active(Hopper())
    for kernel in KERNELS:
        kernel.device_caches.clear()
    try:
        yield
    finally:
        driver._active = before
        for kernel in KERNELS:
            kernel.device_caches.clear()


def steps_of(shape: str, precision: str, choose: Choose = likeliest_way) -> list[Way]:
    """Return the steps of a published encoder at full width, as a run takes them."""
    model = random_model(64, **PUBLISHED_SHAPES[shape])
    packed = PackedEncoder(model.encoder, precision, CPU)
    plain = ResidualQuantizer(model.quantizer, model.config.n_codebooks, CPU)
    quantizer = KernelQuantizer(plain, packed.last.out_channels)
    return CudaEncoder(packed, quantizer, 1, 20, choose).steps


def compiled_kernels() -> list[Any]:
    """Return what has been compiled."""
    caches = [cache[0] for kernel in KERNELS for cache in kernel.device_caches.values()]
    return [built for cache in caches for built in cache.values()]
