"""1-d convolutions on the CPU over hidden states with channels last, without padding.

In float32 a convolution is a sum of matrix products, in most cases one a tap. oneDNN's own
convolution in this layout adds up all channels of all taps in one chain, which costs two to four
times the rounding (512 channels, 7 taps: 1.1e-6 against 2.9e-7 of the result) for some tenth of the
time. At half precision the sum must not be rounded between taps, so there it is oneDNN's
convolution, with weights in its own blocks, reordered once and not in every call.

A DAC downsamples with kernels of twice the stride. Seen as frames of `stride` positions, such a
convolution has two taps and no stride: fewer and larger products, and a way around oneDNN's strided
bfloat16 convolution, which gives wrong sums (16 channels to 32, 8 taps, stride 4, 100 positions, on
a processor with AMX, PyTorch 2.15).
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as functional

Convolve = Callable[[torch.Tensor], torch.Tensor]
"""(rows, n, in) -> (rows, m, out)"""


def convolution(module: Any, dtype: torch.dtype) -> Convolve:
    """Return what a `torch.nn.Conv1d` does, less its padding, in `dtype`."""
    return convolve(
        module.weight.detach(), module.bias.detach(), module.stride[0], module.dilation[0], dtype
    )


def convolve(
    weight: torch.Tensor, bias: torch.Tensor, stride: int, dilation: int, dtype: torch.dtype
) -> Convolve:
    """Return a convolution that reads and writes `dtype`.

    Args:
        weight: shape (out, in, taps).
        bias: shape (out,).
        stride: positions between outputs.
        dilation: positions between taps; 1 where `stride` is not.
        dtype: float32, float16 or bfloat16.
    """
    if weight.shape[1] == stride == dilation == 1:
        return GatheredConvolution(weight, bias)
    if weight.shape[0] == stride == dilation == 1:
        return SpreadConvolution(weight, bias)
    if stride > 1:
        return FramedConvolution(weight, bias, stride, dtype)
    if dtype == torch.float32:
        return SummedConvolution(weight, bias, dilation)
    return PackedConvolution(weight, bias, dilation, dtype)


class SummedConvolution:
    """A convolution of stride 1, as one matrix product for each tap."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor, dilation: int) -> None:
        self._taps = [tap.contiguous() for tap in weight.float().permute(2, 1, 0)]  # (in, out)
        self._bias = bias.float()
        self._dilation = dilation

    def __call__(self, hidden: torch.Tensor) -> torch.Tensor:
        """Convolve `hidden`, float32 of shape (rows, n, in)."""
        return _by_row(self._row, hidden)

    def _row(self, row: torch.Tensor) -> torch.Tensor:
        num_outputs = len(row) - self._dilation * (len(self._taps) - 1)
        summed = torch.addmm(self._bias, row[:num_outputs], self._taps[0])
        for number, tap in enumerate(self._taps[1:], start=1):
            start = number * self._dilation
            summed.addmm_(row[start : start + num_outputs], tap)
        return summed


class FramedConvolution:
    """A strided convolution of twice as many taps, as one of two taps over frames of positions."""

    def __init__(
        self, weight: torch.Tensor, bias: torch.Tensor, stride: int, dtype: torch.dtype
    ) -> None:
        out, channels, taps = weight.shape
        assert taps == 2 * stride, "a DAC downsamples with kernels of twice the stride"
        frames = weight.view(out, channels, 2, stride).transpose(1, 3).transpose(2, 3)
        self._convolve = convolve(frames.reshape(out, stride * channels, 2), bias, 1, 1, dtype)
        self._stride = stride

    def __call__(self, hidden: torch.Tensor) -> torch.Tensor:
        """Convolve `hidden`, shape (rows, n, in)."""
        rows, length, channels = hidden.shape
        num_frames = length // self._stride
        whole = hidden[:, : num_frames * self._stride]
        return self._convolve(whole.reshape(rows, num_frames, self._stride * channels))


class GatheredConvolution:
    """A convolution of one channel, as one product of all taps."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor) -> None:
        self._taps = weight.float()[:, 0].T.contiguous()  # (taps, out)
        self._bias = bias.float()

    def __call__(self, hidden: torch.Tensor) -> torch.Tensor:
        """Convolve `hidden`, shape (rows, n, 1)."""
        return hidden.float()[..., 0].unfold(1, len(self._taps), 1) @ self._taps + self._bias


class SpreadConvolution:
    """A convolution to one channel, as one product for all taps, their results added up."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor) -> None:
        self._taps = weight.float()[0].contiguous()  # (in, taps)
        self._bias = bias.float()

    def __call__(self, hidden: torch.Tensor) -> torch.Tensor:
        """Convolve `hidden`, any float of shape (rows, n, in)."""
        spread = hidden.float() @ self._taps
        num_taps = self._taps.shape[1]
        num_outputs = hidden.shape[1] - num_taps + 1
        summed = self._bias.expand(len(hidden), num_outputs).clone()
        for tap in range(num_taps):
            summed += spread[:, tap : tap + num_outputs, tap]
        return summed[..., None]


class PackedConvolution:
    """A convolution by oneDNN, which adds up in float32 and rounds what comes out."""

    def __init__(
        self,
        weight: torch.Tensor,
        bias: torch.Tensor,
        dilation: int,
        dtype: torch.dtype,
    ) -> None:
        last = torch.channels_last
        self._weight = weight.to(dtype)[:, :, None].contiguous(memory_format=last)
        self._bias = bias.to(dtype)
        self._dilation = [1, dilation]
        self._packs = _can_pack(dtype)
        self._packed: torch.Tensor | None = None

    def __call__(self, hidden: torch.Tensor) -> torch.Tensor:
        """Convolve `hidden`, any float of shape (rows, n, in)."""
        image = hidden.to(self._weight.dtype).transpose(1, 2)[:, :, None]
        convolved = self._by_packed(image) if self._packs else self._by_plain(image)
        return convolved[:, :, 0].transpose(1, 2)

    def _by_plain(self, image: torch.Tensor) -> torch.Tensor:
        return functional.conv2d(image, self._weight, self._bias, dilation=self._dilation)

    def _by_packed(self, image: torch.Tensor) -> torch.Tensor:
        """Call what PyTorch's own compiler calls where weights do not change.

        oneDNN picks the blocks for the first image; for other lengths they serve as well.
        """
        once = [1, 1]
        if self._packed is None:
            reorder: Any = torch._C._nn.mkldnn_reorder_conv2d_weight
            dense = self._weight.to_mkldnn()
            self._packed = reorder(dense, [0, 0], once, self._dilation, 1, list(image.shape))
        convolved: torch.Tensor = torch.ops.mkldnn._convolution_pointwise(
            image, self._packed, self._bias, [0, 0], once, self._dilation, 1, "none", [], ""
        )
        return convolved


def _can_pack(dtype: torch.dtype) -> bool:
    """Say whether this PyTorch and this processor convolve `dtype` with weights packed before."""
    mkldnn: Any = torch.ops.mkldnn
    backend: Any = torch.backends.mkldnn
    if not backend.is_available() or not hasattr(mkldnn, "_convolution_pointwise"):
        return False
    name = {torch.bfloat16: "bf16", torch.float16: "fp16"}[dtype]
    return bool(getattr(mkldnn, f"_is_mkldnn_{name}_supported")())


def _by_row(
    convolve_row: Callable[[torch.Tensor], torch.Tensor], hidden: torch.Tensor
) -> torch.Tensor:
    """Apply a function of (n, in) to each row of `hidden`, without a copy where there is one."""
    results = [convolve_row(row) for row in hidden]
    return results[0][None] if len(results) == 1 else torch.stack(results)
