"""The CPU's layers: channels last, weights laid out once, and tiles that stay in a core's cache.

What `encode_rows` and `RowDecoder` spell out with PyTorch's modules is done here in another order
of the same steps, and the tests hold the two to each other:

- hidden states are (rows, positions, channels), which needs no reordering around a convolution
  (`dac_tokenize.codec.convolutions`);
- a residual unit runs tile by tile along the positions, in place, so that its four steps find
  their operands in the cache, and each position passes through memory once;
- the silence between windows is set to zero span by span, in place of a product with a mask;
- at half precision only what a convolution reads and writes is rounded: the residual stream and
  the snakes stay in float32.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as functional

from dac_tokenize.codec.convolutions import convolution
from dac_tokenize.codec.masks import Span

# 1 MiB of float32. At width 64, on cores with 2 MiB of L2 cache, half of it costs 5 %, a quarter
# 15 %, four times as much 10 % (benchmarks/NOTES.md).
_TILE_ELEMENTS_PER_THREAD = 1 << 18


@dataclass(frozen=True, slots=True)
class Snake:
    """x + sin(alpha x)^2 / alpha for each channel, in float32.

    Attributes:
        alpha: shape (channels,).
        reciprocal: of alpha, kept from infinity as in transformers' `Snake1d`.
    """

    alpha: torch.Tensor
    reciprocal: torch.Tensor

    @classmethod
    def of(cls, module: Any) -> "Snake":
        """Return the snake of a transformers `Snake1d`."""
        alpha = module.alpha.detach().float().flatten()
        return cls(alpha, (alpha + 1e-9).reciprocal())

    def __call__(self, hidden: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
        """Return the snake of `hidden`, shape (rows, n, channels), in `out` if it is given."""
        values = hidden.float()
        waves = torch.mul(values, self.alpha, out=out)
        waves.sin_().square_()
        return torch.addcmul(values, waves, self.reciprocal, out=waves)


class ResidualUnit:
    """A `DacResidualUnit`, run in place and in tiles."""

    def __init__(self, unit: Any, dtype: torch.dtype) -> None:
        self._snakes = Snake.of(unit.snake1), Snake.of(unit.snake2)
        self._wide = convolution(unit.conv1, dtype)
        self._pointwise = convolution(unit.conv2, dtype)
        self._reach = int(unit.conv1.padding[0])

    def add_to(self, hidden: torch.Tensor) -> None:
        """Add the unit's branch to `hidden`, float32 of shape (rows, n, channels), in place."""
        for number in range(len(hidden)):
            self._add_to_row(hidden[number : number + 1])

    def _add_to_row(self, row: torch.Tensor) -> None:
        """Walk along a row with a sliding buffer of snaked values.

        The buffer holds a tile and what the wide convolution reads to both sides of it. What it
        reads to the right of one tile is kept for the next, so a tile may be overwritten at once.
        """
        _, length, channels = row.shape
        reach, step = self._reach, _tile_positions(row)
        snaked = row.new_zeros(1, step + 2 * reach, channels)
        known = 0  # positions of the row that have been snaked
        for start in range(0, length, step):
            stop = min(start + step, length)
            if start:
                snaked[:, : 2 * reach] = snaked[:, step : step + 2 * reach].clone()
            until = min(stop + reach, length)
            at = known - start + reach
            self._snakes[0](row[:, known:until], out=snaked[:, at : at + until - known])
            snaked[:, at + until - known :] = 0
            known = until
            branch = self._wide(snaked[:, : stop - start + 2 * reach])
            row[:, start:stop] += self._pointwise(self._snakes[1](branch))


def snake_tiles(snake: Snake, hidden: torch.Tensor) -> torch.Tensor:
    """Replace `hidden`, float32 of shape (rows, n, channels), by its snake, in tiles."""
    _, length, _ = hidden.shape
    step = _tile_positions(hidden)
    for number in range(len(hidden)):
        for start in range(0, length, step):
            tile = hidden[number : number + 1, start : start + step]
            snake(tile.clone(), out=tile)
    return hidden


def _tile_positions(row: torch.Tensor) -> int:
    """Return how many positions of `row` make a tile; all of them where two tiles would do."""
    _, length, channels = row.shape
    step = _TILE_ELEMENTS_PER_THREAD * torch.get_num_threads() // channels
    return length if length <= 2 * step else step


def silence(hidden: torch.Tensor, gaps: Iterable[Span]) -> torch.Tensor:
    """Set spans (row, start, stop) of `hidden`, shape (rows, n, channels), to zero, in place."""
    for row, start, stop in gaps:
        hidden[row, start:stop] = 0
    return hidden


def padded(hidden: torch.Tensor, padding: int) -> torch.Tensor:
    """Return `hidden`, shape (rows, n, channels), with `padding` zeros before and after."""
    return functional.pad(hidden, (0, 0, padding, padding))
