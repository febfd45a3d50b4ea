"""A codec's encoder on a CUDA device: kernels, graphs, copies beside computing, rows that fit."""

import importlib.util
import os
import shutil
from collections.abc import Callable
from typing import Any

import torch

from dac_tokenize.codec.geometry import Chain
from dac_tokenize.codec.memory import HalvingEncoder, JoinedCodes, rows_that_fit
from dac_tokenize.codec.overlap import CudaStreams, FrameMask, Overlap, Samples
from dac_tokenize.codec.quantizer import ResidualQuantizer

# Beyond so much audio in a batch a device is as busy as it gets, and a short job would wait.
_MOST_SECONDS = 256.0


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
        from dac_tokenize.codec.ways import FastestWay, cuda_seconds, first_way

        packed = PackedEncoder(encoder, precision, device)
        kernel_quantizer = KernelQuantizer(quantizer, packed.last.out_channels)
        fastest = FastestWay(cuda_seconds, (OutOfResources,))
        streams = CudaStreams(device)

        def make(rows: int, choose: Any = fastest) -> Overlap:
            with torch.cuda.device(device):
                program = CudaEncoder(packed, kernel_quantizer, rows, frames, choose)
                return Overlap(program, streams)

        if rows is None:
            most = max(1, int(_MOST_SECONDS * frame_rate / frames))
            rows = _measured_rows(lambda: make(1, first_way), device, most)
        self.rows = rows
        self._device = device
        self._encoder = HalvingEncoder(make, rows, torch.OutOfMemoryError, torch.cuda.empty_cache)

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
            return self._encoder.submit(samples, frame_mask)


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
