"""One convolution as an implicit matrix product, with what follows it in the same kernel.

Every convolution of the encoder is the same walk over channels-last activations that are zero
outside their positions: output position m sums, over `taps` taps, the products of `depth` numbers
that lie side by side. A plain convolution has a tap for each of its own and `depth` channels; one
of stride s and kernel size 2 s has two taps of s times its channels, since the s positions that a
tap covers lie side by side too; a 1-wide one has a single tap.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

import torch
import triton
import triton.language as tl

from dac_tokenize.codec.kernels.ending import Ending, finish
from dac_tokenize.codec.kernels.sheets import Sheet, Weights
from dac_tokenize.codec.kernels.tiles import Tile, input_precision


@triton.jit
def convolve_kernel(
    source,
    source_row,
    step,
    tap_step,
    weight,
    weight_k,
    weight_n,
    bias,
    taps,
    depth,
    num_positions,
    num_channels,
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
    HAS_RESIDUAL: tl.constexpr,  # noqa: N803 (constants of a kernel are capitals)
    MASKED: tl.constexpr,  # noqa: N803
    PLAIN: tl.constexpr,  # noqa: N803
    SNAKED: tl.constexpr,  # noqa: N803
    PRECISION: tl.constexpr,  # noqa: N803
    BLOCK_M: tl.constexpr,  # noqa: N803
    BLOCK_N: tl.constexpr,  # noqa: N803
    BLOCK_K: tl.constexpr,  # noqa: N803
):
    """Compute BLOCK_M positions by BLOCK_N channels; the grid is (tiles, rows)."""
    # Tiles of the same positions are neighbours, so that they find the activations in the cache.
    tiles_n = num_channels // BLOCK_N
    tile = tl.program_id(0)
    row = tl.program_id(1).to(tl.int64)
    positions = (tile // tiles_n) * BLOCK_M + tl.arange(0, BLOCK_M)
    channels = (tile % tiles_n) * BLOCK_N + tl.arange(0, BLOCK_N)
    within_k = tl.arange(0, BLOCK_K)
    inside = positions < num_positions
    left = source + row * source_row + positions[:, None] * step + within_k[None, :]
    right = weight + within_k[:, None] * weight_k + channels[None, :] * weight_n
    total = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    # Within a tap, what follows lies side by side; from the end of one to the next is a jump.
    jump = tap_step - depth
    for k in range(0, taps * depth, BLOCK_K):
        a = tl.load(left + (k + (k // depth) * jump), mask=inside[:, None], other=0.0)
        b = tl.load(right + k * weight_k)
        total = tl.dot(a, b, total, input_precision=PRECISION)
    total += tl.load(bias + channels)[None, :]
    finish(
        total,
        inside,
        positions,
        channels,
        num_channels,
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
        HAS_RESIDUAL,
        MASKED,
        PLAIN,
        SNAKED,
    )


@triton.jit
def finish_kernel(
    sums,
    bias,
    num_positions,
    num_channels,
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
    HAS_RESIDUAL: tl.constexpr,  # noqa: N803 (constants of a kernel are capitals)
    MASKED: tl.constexpr,  # noqa: N803
    PLAIN: tl.constexpr,  # noqa: N803
    SNAKED: tl.constexpr,  # noqa: N803
    BLOCK_M: tl.constexpr,  # noqa: N803
    BLOCK_N: tl.constexpr,  # noqa: N803
):
    """Do what follows a convolution whose float32 `sums` a library has computed."""
    tiles_n = num_channels // BLOCK_N
    tile = tl.program_id(0)
    row = tl.program_id(1).to(tl.int64)
    positions = (tile // tiles_n) * BLOCK_M + tl.arange(0, BLOCK_M)
    channels = (tile % tiles_n) * BLOCK_N + tl.arange(0, BLOCK_N)
    inside = positions < num_positions
    at = positions[:, None] * num_channels + channels[None, :]
    total = tl.load(sums + row * num_positions * num_channels + at, mask=inside[:, None], other=0.0)
    total += tl.load(bias + channels)[None, :]
    finish(
        total,
        inside,
        positions,
        channels,
        num_channels,
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
        HAS_RESIDUAL,
        MASKED,
        PLAIN,
        SNAKED,
    )


def convolve(
    source: Sheet,
    weights: Weights,
    positions: int,
    ending: Ending,
    precision: str,
    tile: Tile,
    *,
    compile_only: bool = False,
) -> None:
    """Run a convolution and its ending.

    Args:
        source: what it reads, with at least `weights.reach` positions of zeros around.
        weights: its weights.
        positions: output positions of a row.
        ending: what is done with the sums. It may store where `source` lies only if a position
            of the output reads just that position.
        precision: as `DacTokenizer` takes it.
        tile: its `channels` and `depth` divide those of `weights`.
        compile_only: compile the kernel, and do nothing with it.
    """
    channels = weights.out_channels
    grid = (triton.cdiv(positions, tile.positions) * (channels // tile.channels), source.rows)
    convolve_kernel.run(
        grid=grid,
        warmup=compile_only,
        source=weights.views(source, positions)[0],
        source_row=source.row_step,
        step=weights.step * source.channels,
        tap_step=weights.tap_step * source.channels,
        weight=weights.matrix,
        weight_k=weights.matrix.stride(0),
        weight_n=weights.matrix.stride(1),
        bias=weights.bias,
        taps=weights.taps,
        depth=weights.depth,
        num_positions=positions,
        num_channels=channels,
        **ending.arguments(positions, weights.bias),
        **ending.flags,
        PRECISION=input_precision(precision),
        BLOCK_M=tile.positions,
        BLOCK_N=tile.channels,
        BLOCK_K=tile.depth,
        **tile.options,
    )


def convolve_by_library(
    source: Sheet,
    weights: Weights,
    positions: int,
    ending: Ending,
    sums: torch.Tensor,
    *,
    compile_only: bool = False,
) -> None:
    """Do as `convolve` with the vendor's matrix products, one for each tap, float32 only.

    Args:
        source: as for `convolve`.
        weights: as for `convolve`.
        positions: as for `convolve`.
        ending: as for `convolve`.
        sums: float32 scratch, at least rows * positions * channels numbers, flat.
        compile_only: compile the kernel for the ending, and do nothing with it.
    """
    rows, channels = source.rows, weights.out_channels
    total = sums[: rows * positions * channels].view(rows, positions, channels)
    if not compile_only:
        add_products(source, weights, positions, total)
    block_n = min(channels & -channels, 128)
    finish_kernel.run(
        grid=(triton.cdiv(positions, 32) * (channels // block_n), rows),
        warmup=compile_only,
        sums=total,
        bias=weights.bias,
        num_positions=positions,
        num_channels=channels,
        **ending.arguments(positions, weights.bias),
        **ending.flags,
        BLOCK_M=32,
        BLOCK_N=block_n,
        num_warps=4,
        enable_fp_fusion=True,
    )


def add_products(source: Sheet, weights: Weights, positions: int, total: torch.Tensor) -> None:
    """Set `total`, shape (rows, positions, channels), to the sums of a convolution without bias.

    Row by row: a library may add up otherwise for another number of rows, and how many there are
    depends on a device's memory.
    """
    matrices = weights.matrix.unflatten(0, (weights.taps, weights.depth))
    for tap, view in enumerate(weights.views(source, positions)):
        for row in range(source.rows):
            if tap == 0:
                torch.mm(view[row], matrices[tap], out=total[row])
            else:
                total[row].addmm_(view[row], matrices[tap])


def convolve_reference(source: Sheet, weights: Weights, positions: int, ending: Ending) -> None:
    """Do as `convolve`, in plain torch and float32."""
    wide = Sheet(source.data.float(), source.halo)
    matrix = weights.matrix.float().unflatten(0, (weights.taps, weights.depth))
    views = weights.views(wide, positions)
    ending.by_torch(sum(view @ tap for view, tap in zip(views, matrix, strict=True)) + weights.bias)
