"""A codec's encoder on a CUDA device: kernels, graphs, copies beside computing, rows that fit."""

import importlib.util
import os
import shutil
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from dac_tokenize.codec.geometry import Chain
from dac_tokenize.codec.memory import HalvingEncoder, JoinedCodes, rows_that_fit
from dac_tokenize.codec.overlap import CudaStreams, FrameMask, Overlap, Samples
from dac_tokenize.codec.quantizer import ResidualQuantizer

# Beyond so much audio in a batch a device is as busy as it gets, and a short job would wait.
_MOST_SECONDS = 256.0
# Trying all ways compiles as many kernels again: half a minute that a short job has no use for.
_WORK_BEFORE_TIMING_SECONDS = 120.0


def has_kernels(device: torch.device, chain: Chain) -> bool:
    """Return whether `DeviceEncoder` can be used on `device` for an encoder with this chain.

    It needs a CUDA device that Triton compiles for, Triton itself, which comes with PyTorch on
    Linux, the C compiler that it calls (`CC`, or clang or gcc on the path), and an encoder whose
    levels all hold whole frames, as those of all known codecs do.
    """
    if device.type != "cuda" or importlib.util.find_spec("triton") is None:
        return False
    if not (os.environ.get("CC") or shutil.which("clang") or shutil.which("gcc")):
        return False
    cuda: Any = torch.cuda
    return cuda.get_device_capability(device) >= (8, 0) and not any(
        level.deficit for level in chain.levels
    )


class DeviceEncoder:
    """Packed rows to codes on a CUDA device.

    Args:
        encoder: a `DacEncoder`, its weights in float32, on any device.
        quantizer: the plain quantizer, on the device.
        precision: as `DacTokenizer` takes it.
        frames: frames in a row.
        frame_rate: frames per second.
        device: a CUDA device.
        rows: rows to compute at once; None to measure what fits.

    Attributes:
        rows: rows that batches are best packed for.
    """

    def __init__(
        self,
        encoder: Any,
        quantizer: ResidualQuantizer,
        precision: str,
        frames: int,
        frame_rate: float,
        device: torch.device,
        rows: int | None,
    ) -> None:
        # Triton is not there on every machine that runs this package.
        from triton.runtime.errors import OutOfResources

        from dac_tokenize.codec.cuda import CudaEncoder
        from dac_tokenize.codec.kernels.packed import PackedEncoder
        from dac_tokenize.codec.kernels.quantize import KernelQuantizer
        from dac_tokenize.codec.ways import (
            Choose,
            FastestWay,
            WorkingWay,
            cuda_seconds,
            likeliest_way,
        )

        packed = PackedEncoder(encoder, precision, device)
        kernel_quantizer = KernelQuantizer(quantizer, packed.last.out_channels)
        streams = CudaStreams(device)

        def program(choose: Choose, rows: int) -> CudaEncoder:
            return CudaEncoder(packed, kernel_quantizer, rows, frames, choose)

        def make(choose: Choose, rows: int) -> Overlap:
            with torch.cuda.device(device):
                return Overlap(program(choose, rows), streams)

        _compile(partial(program, likeliest_way, 1), device)
        working = partial(make, WorkingWay((OutOfResources,)))
        if rows is None:
            most = max(1, int(_MOST_SECONDS * frame_rate / frames))
            rows = _measured_rows(partial(working, 1), device, most)
        self.rows = rows
        self._device = device
        self._encoder = HalvingEncoder(
            working, rows, torch.OutOfMemoryError, torch.cuda.empty_cache
        )
        fastest = partial(make, FastestWay(cuda_seconds, (OutOfResources,)))
        self._renewal = Once(_WORK_BEFORE_TIMING_SECONDS, partial(self._encoder.renew, fastest))

    def submit(self, samples: Samples, frame_mask: FrameMask) -> JoinedCodes:
        """Start a batch; its `result()` waits for the codes, (rows, num_codebooks, frames).

        Two batches are under way at most: a third waits for the first. So a caller that asks for
        the codes of one only after it has started the next keeps the device busy.

        Args:
            samples: float32, shape (rows, row_samples), zero outside the windows.
            frame_mask: bool, shape (rows, frames), true where windows lie.

        Raises:
            DeviceMemoryError: there is no memory for a single row.
        """
        with torch.cuda.device(self._device):
            self._renewal()
            return self._encoder.submit(samples, frame_mask)


class Once:
    """Does something a while after the first call, in a later call.

    Args:
        seconds: how long after.
        do: what is done.
        clock: seconds since some moment.
    """

    def __init__(
        self, seconds: float, do: Callable[[], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._seconds, self._do, self._clock = seconds, do, clock
        self._due: float | None = None
        self._done = False

    def __call__(self) -> None:
        """Do it if it is time and has not been done."""
        if self._due is None:
            self._due = self._clock() + self._seconds
        if not self._done and self._clock() >= self._due:
            self._done = True
            self._do()


def _compile(make: Callable[[], Any], device: torch.device) -> None:
    """Compile what a program needs, side by side; it is thrown away."""
    from dac_tokenize.codec.ways import compile_side_by_side

    cuda: Any = torch.cuda
    with cuda.device(device):
        try:
            steps = make().steps
        except torch.OutOfMemoryError:  # told when a batch is to be computed
            return
        choose_device = partial(cuda.set_device, cuda.current_device())
        compile_side_by_side(steps, os.cpu_count() or 1, choose_device)


def _measured_rows(make: Callable[[], object], device: torch.device, most: int) -> int:
    """Return how many rows to compute at once, from what a single one takes."""
    cuda: Any = torch.cuda
    cuda.empty_cache()
    before = cuda.memory_allocated(device)
    cuda.reset_peak_memory_stats(device)
    try:
        made = make()
        cuda.synchronize(device)
    except torch.OutOfMemoryError:
        return 1
    bytes_per_row = cuda.max_memory_allocated(device) - before
    del made
    cuda.empty_cache()
    free_bytes, _ = cuda.mem_get_info(device)
    return rows_that_fit(bytes_per_row, free_bytes, most)
