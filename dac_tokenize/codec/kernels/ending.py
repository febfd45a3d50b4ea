"""What comes after every convolution: residual, mask and the next snake, in float32 registers."""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl

from dac_tokenize.codec.kernels.sheets import Sheet, Snake


@triton.jit
def snake(x, alpha, reciprocal):
    """Return x + sin(alpha x)^2 / alpha, all float32; `reciprocal` is 1 / (alpha + 1e-9).

    The device library's sine has a slow branch for huge arguments, with a stack frame, in every
    kernel that calls it. The square of a sine has period pi, so the argument is brought to within
    half a pi of zero (pi in three parts, whose products are exact) and a polynomial does the rest,
    to 2 units in the last place of the sine. Beyond 1e7 the parts no longer suffice; there the
    square is held to at most 1, which is less than such an x can resolve.
    """
    angle = x * alpha
    # Adding and taking away 1.5 * 2^23 rounds to a whole number.
    turns = (angle * 0.3183098861837907 + 12582912.0) - 12582912.0
    angle = tl.fma(turns, -3.1414794921875, angle)
    angle = tl.fma(turns, -0.00011315941810607910156, angle)
    angle = tl.fma(turns, -1.9841872589410058936e-09, angle)
    square = angle * angle
    series = tl.fma(square, 2.605750643e-06, -1.980959007e-04)
    series = tl.fma(square, series, 8.333066082e-03)
    series = tl.fma(square, series, -1.666665954e-01)
    sine = tl.fma(square * angle, series, angle)
    return tl.fma(tl.minimum(sine * sine, 1.0), reciprocal, x)


@triton.jit
def finish(
    total,
    inside,
    positions,
    channels,
    num_channels,
    residual,
    residual_row,
    frame_mask,
    positions_per_frame,
    alpha,
    reciprocal,
    plain,
    plain_row,
    snaked,
    snaked_row,
    HAS_RESIDUAL: tl.constexpr,  # noqa: N803 (constants of a kernel are capitals)
    MASKED: tl.constexpr,  # noqa: N803
    PLAIN: tl.constexpr,  # noqa: N803
    SNAKED: tl.constexpr,  # noqa: N803
):
    """Add the residual, mask, and store the result as it is, after the next snake, or both.

    All pointers are those of the row at hand; `total` is float32, (block positions, channels).
    """
    within = inside[:, None]
    at = positions[:, None] * num_channels + channels[None, :]
    if HAS_RESIDUAL:
        total += tl.load(residual + residual_row + at, mask=within, other=0.0).to(tl.float32)
    if MASKED:
        heard = tl.load(frame_mask + positions // positions_per_frame, mask=inside, other=0)
        total = tl.where(heard[:, None] != 0, total, 0.0)
    if PLAIN:
        tl.store(plain + plain_row + at, total.to(plain.dtype.element_ty), mask=within)
    if SNAKED:
        total = snake(
            total,
            tl.load(alpha + channels)[None, :],
            tl.load(reciprocal + channels)[None, :],
        )
        tl.store(snaked + snaked_row + at, total.to(snaked.dtype.element_ty), mask=within)


@dataclass(frozen=True, slots=True)
class Ending:
    """What is to be done with the sums of a convolution, by `finish` or by plain torch.

    Attributes:
        plain: where the result goes as it is; may be `residual`. None: nowhere.
        snaked: where the result goes after `snake`. None: nowhere.
        snake: the next snake.
        residual: what is added; None for nothing.
        frame_mask: uint8, shape (rows, frames), 0 where the result is to be zero; None: nowhere.
    """

    plain: Sheet | None = None
    snaked: Sheet | None = None
    snake: Snake | None = None
    residual: Sheet | None = None
    frame_mask: torch.Tensor | None = None

    def arguments(self, positions: int, unused: torch.Tensor) -> dict[str, Any]:
        """Return the kernels' arguments; `unused` stands for every pointer that is not followed."""
        mask, snake = self.frame_mask, self.snake
        return {
            **_sheet("residual", self.residual, unused),
            "frame_mask": unused if mask is None else mask,
            "mask_row": 0 if mask is None else mask.stride(0),
            "positions_per_frame": 1 if mask is None else positions // mask.shape[1],
            "alpha": unused if snake is None else snake.alpha,
            "reciprocal": unused if snake is None else snake.reciprocal,
            **_sheet("plain", self.plain, unused),
            **_sheet("snaked", self.snaked, unused),
        }

    @property
    def flags(self) -> dict[str, bool]:
        """The kernels' constants."""
        return {
            "HAS_RESIDUAL": self.residual is not None,
            "MASKED": self.frame_mask is not None,
            "PLAIN": self.plain is not None,
            "SNAKED": self.snaked is not None,
        }

    def by_torch(self, total: torch.Tensor) -> None:
        """Do it in plain torch: the reference; `total` is float32, (rows, positions, channels)."""
        if self.residual is not None:
            total = total + self.residual.inside.float()
        if self.frame_mask is not None:
            mask = self.frame_mask.repeat_interleave(total.shape[1] // self.frame_mask.shape[1], 1)
            total = total.masked_fill(mask[:, :, None] == 0, 0.0)
        if self.plain is not None:
            self.plain.inside.copy_(total)
        if self.snaked is not None:
            assert self.snake is not None
            self.snaked.inside.copy_(self.snake(total))


def _sheet(name: str, sheet: Sheet | None, unused: torch.Tensor) -> dict[str, Any]:
    """Return a kernel's arguments for a sheet: where its first position lies, and its row step."""
    if sheet is None:
        return {name: unused, f"{name}_row": 0}
    return {name: sheet.inside, f"{name}_row": sheet.row_step}
