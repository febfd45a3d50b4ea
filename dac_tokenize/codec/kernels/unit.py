"""A whole residual unit in one kernel, for the narrow early stages.

There the time goes into moving activations: both convolutions of a unit need so few weights that a
block of positions can go through them without leaving the chip.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

import triton
import triton.language as tl

from dac_tokenize.codec.kernels.convolution import convolve_reference
from dac_tokenize.codec.kernels.ending import Ending, finish, snake
from dac_tokenize.codec.kernels.sheets import Sheet, Snake, Weights
from dac_tokenize.codec.kernels.tiles import Tile, input_precision


@triton.jit
def unit_kernel(
    source,
    source_row,
    tap_step,
    weight,
    weight_k,
    weight_n,
    bias,
    taps,
    inner_alpha,
    inner_reciprocal,
    second_weight,
    second_weight_k,
    second_weight_n,
    second_bias,
    num_positions,
    residual,
    residual_row,
    frame_mask,
    mask_row,
    positions_per_frame,
    alpha,
    reciprocal,
    plain,
    plain_row,
    snaked,
    snaked_row,
    PLAIN: tl.constexpr,  # noqa: N803 (constants of a kernel are capitals)
    PRECISION: tl.constexpr,  # noqa: N803
    CHANNELS: tl.constexpr,  # noqa: N803
    BLOCK_M: tl.constexpr,  # noqa: N803
    BLOCK_K: tl.constexpr,  # noqa: N803
):
    """Compute BLOCK_M positions, all channels; the grid is (blocks, rows).

    `source` holds the activations after the unit's first snake; it may not be where the next one's
    are stored, since neighbouring blocks read it.
    """
    row = tl.program_id(1).to(tl.int64)
    positions = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    channels = tl.arange(0, CHANNELS)
    within_k = tl.arange(0, BLOCK_K)
    inside = positions < num_positions
    left = source + row * source_row + positions[:, None] * CHANNELS + within_k[None, :]
    right = weight + within_k[:, None] * weight_k + channels[None, :] * weight_n
    total = tl.zeros((BLOCK_M, CHANNELS), dtype=tl.float32)
    jump = tap_step - CHANNELS
    for k in range(0, taps * CHANNELS, BLOCK_K):
        a = tl.load(left + (k + (k // CHANNELS) * jump), mask=inside[:, None], other=0.0)
        b = tl.load(right + k * weight_k)
        total = tl.dot(a, b, total, input_precision=PRECISION)
    hidden = snake(
        total + tl.load(bias + channels)[None, :],
        tl.load(inner_alpha + channels)[None, :],
        tl.load(inner_reciprocal + channels)[None, :],
    )
    square = channels[:, None] * second_weight_k + channels[None, :] * second_weight_n
    total = tl.dot(
        hidden.to(source.dtype.element_ty),
        tl.load(second_weight + square),
        input_precision=PRECISION,
    )
    total += tl.load(second_bias + channels)[None, :]
    finish(
        total,
        inside,
        positions,
        channels,
        CHANNELS,
        residual,
        row * residual_row,
        frame_mask + row * mask_row,
        positions_per_frame,
        alpha,
        reciprocal,
        plain,
        row * plain_row,
        snaked,
        row * snaked_row,
        True,
        True,
        PLAIN,
        True,
    )


def run_unit(
    source: Sheet,
    first: Weights,
    inner: Snake,
    second: Weights,
    ending: Ending,
    precision: str,
    tile: Tile,
    *,
    compile_only: bool = False,
) -> None:
    """Run a residual unit whose first snake `source` is after.

    Args:
        source: activations after the unit's first snake.
        first: the dilated convolution.
        inner: the snake between the two.
        second: the 1-wide convolution.
        ending: with residual, mask and next snake; `snaked` is not `source`.
        precision: as `DacTokenizer` takes it.
        tile: its `channels` are those of `source`.
        compile_only: compile the kernel, and do nothing with it.
    """
    channels, positions = source.channels, source.positions
    flags = ending.flags
    assert all(on for name, on in flags.items() if name != "PLAIN")
    unit_kernel.run(
        grid=(triton.cdiv(positions, tile.positions), source.rows),
        warmup=compile_only,
        source=first.views(source, positions)[0],
        source_row=source.row_step,
        tap_step=first.tap_step * channels,
        weight=first.matrix,
        weight_k=first.matrix.stride(0),
        weight_n=first.matrix.stride(1),
        bias=first.bias,
        taps=first.taps,
        inner_alpha=inner.alpha,
        inner_reciprocal=inner.reciprocal,
        second_weight=second.matrix,
        second_weight_k=second.matrix.stride(0),
        second_weight_n=second.matrix.stride(1),
        second_bias=second.bias,
        num_positions=positions,
        **ending.arguments(positions, first.bias),
        PLAIN=flags["PLAIN"],
        PRECISION=input_precision(precision),
        CHANNELS=channels,
        BLOCK_M=tile.positions,
        BLOCK_K=tile.depth,
        **tile.options,
    )


def unit_reference(
    source: Sheet, first: Weights, inner: Snake, second: Weights, ending: Ending
) -> None:
    """Do as `run_unit`, in plain torch and float32."""
    hidden = Sheet.make(
        source.rows, source.positions, source.channels, source.data.dtype, source.data.device
    )
    convolve_reference(source, first, source.positions, Ending(snaked=hidden, snake=inner))
    convolve_reference(hidden, second, source.positions, ending)
