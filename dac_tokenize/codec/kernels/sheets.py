"""What the kernels work on: sheets of activations, and weights packed once for matrix products."""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as functional


@dataclass(frozen=True, slots=True)
class Sheet:
    """Activations of one level, channels-last, with positions of zeros around every row.

    The zeros are written once, when the sheet is made: no kernel stores outside the positions, so
    a convolution may read past the ends of a row without asking where they are.

    Attributes:
        data: shape (rows, halo + positions + halo, channels), contiguous.
        halo: positions of zeros at each end.
    """

    data: torch.Tensor
    halo: int

    @classmethod
    def make(
        cls,
        rows: int,
        positions: int,
        channels: int,
        dtype: torch.dtype,
        device: torch.device,
        halo: int = 0,
    ) -> "Sheet":
        """Return a sheet of zeros."""
        shape = (rows, positions + 2 * halo, channels)
        return cls(torch.zeros(shape, dtype=dtype, device=device), halo)

    @property
    def rows(self) -> int:
        """Rows."""
        return self.data.shape[0]

    @property
    def positions(self) -> int:
        """Positions of each row, the zeros around them not counted."""
        return self.data.shape[1] - 2 * self.halo

    @property
    def channels(self) -> int:
        """Channels."""
        return self.data.shape[2]

    @property
    def row_step(self) -> int:
        """Numbers from one row to the next."""
        return self.data.stride(0)

    @property
    def inside(self) -> torch.Tensor:
        """View without the zeros around, shape (rows, positions, channels)."""
        return self.data[:, self.halo : self.halo + self.positions]


@dataclass(frozen=True, slots=True)
class Snake:
    """A snake's parameters, float32 of shape (channels,): alpha and 1 / (alpha + 1e-9)."""

    alpha: torch.Tensor
    reciprocal: torch.Tensor

    @classmethod
    def pack(cls, module: Any, channels: int, device: torch.device) -> "Snake":
        """Take the parameters of a `Snake1d`, ones for the channels that only fill up."""
        alpha = module.alpha.detach().float().flatten()
        alpha = functional.pad(alpha, (0, channels - len(alpha)), value=1.0).to(device)
        return cls(alpha, (alpha + 1e-9).reciprocal())

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Return the snake of float `x`, shape (..., channels): the reference of the kernels'."""
        return x + self.reciprocal * torch.sin(self.alpha * x).pow(2)


@dataclass(frozen=True, slots=True)
class Weights:
    """A convolution as a sum over taps of matrix products (see `convolution.py`).

    Attributes:
        matrix: shape (taps * depth, out_channels); contiguous along the first where it was packed
            so (TF32 on Hopper wants that), else along the second.
        bias: float32, shape (out_channels,).
        taps: matrix products.
        step: positions of the input from one output position to the next.
        tap_step: positions of the input from one tap to the next.
        first: input position that the first tap of output position 0 reads; not positive.
    """

    matrix: torch.Tensor
    bias: torch.Tensor
    taps: int
    step: int
    tap_step: int
    first: int

    @property
    def depth(self) -> int:
        """Products summed in one tap."""
        return self.matrix.shape[0] // self.taps

    @property
    def out_channels(self) -> int:
        """Channels that come out."""
        return self.matrix.shape[1]

    @classmethod
    def pack(
        cls,
        convolution: Any,
        in_channels: int,
        out_channels: int,
        dtype: torch.dtype,
        device: torch.device,
        depth_first: bool = False,
    ) -> "Weights":
        """Pack a `Conv1d`, filled up with zeros to `in_channels` and `out_channels`."""
        weight = convolution.weight.detach().float()  # (out, in, taps)
        fill = (0, 0, 0, in_channels - weight.shape[1], 0, out_channels - weight.shape[0])
        matrix = functional.pad(weight, fill).permute(2, 1, 0).flatten(0, 1)
        bias = functional.pad(
            convolution.bias.detach().float(), (0, out_channels - weight.shape[0])
        )
        (stride,), (dilation,) = convolution.stride, convolution.dilation
        size, (padding,) = weight.shape[2], convolution.padding
        strided = stride > 1
        return cls(
            laid_out(matrix.to(device, dtype), depth_first),
            bias.contiguous().to(device),
            taps=2 if strided else size,
            step=stride,
            tap_step=stride if strided else dilation,
            first=-padding,
        )

    def views(self, source: Sheet, positions: int) -> list[torch.Tensor]:
        """Return what each tap reads, views of shape (rows, positions, depth)."""
        channels = source.channels
        start = source.data.storage_offset() + (source.halo + self.first) * channels
        return [
            source.data.as_strided(
                (source.rows, positions, self.depth),
                (source.row_step, self.step * channels, 1),
                start + tap * self.tap_step * channels,
            )
            for tap in range(self.taps)
        ]

    @property
    def reach(self) -> int:
        """Positions of zeros that a sheet needs around its rows to be read by this."""
        return max(-self.first, self.first + (self.taps - 1) * self.tap_step)


def laid_out(matrix: torch.Tensor, depth_first: bool) -> torch.Tensor:
    """Return `matrix`, shape (depth, channels), contiguous along the first or the second."""
    return matrix.T.contiguous().T if depth_first else matrix.contiguous()


def filled(channels: int) -> int:
    """Return to how many channels `channels` are filled up, so that tiles divide them.

    >>> [filled(n) for n in (12, 24, 64, 96, 192, 1024)]
    [16, 32, 64, 128, 192, 1024]
    """
    if channels <= 64:
        return max(16, 1 << (channels - 1).bit_length())
    return -(-channels // 64) * 64
