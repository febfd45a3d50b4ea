"""The first convolution, from samples to channels: 7 products a channel, so no matrix product."""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

from typing import Any

import torch
import torch.nn.functional as functional
import triton
import triton.language as tl

from dac_tokenize.codec.kernels.ending import Ending, finish


@triton.jit
def first_kernel(
    samples,
    num_samples,
    weight,
    bias,
    num_channels,
    frame_mask,
    mask_row,
    positions_per_frame,
    alpha,
    reciprocal,
    plain,
    plain_row,
    snaked,
    snaked_row,
    TAPS: tl.constexpr,  # noqa: N803 (constants of a kernel are capitals)
    BLOCK_M: tl.constexpr,  # noqa: N803
    BLOCK_N: tl.constexpr,  # noqa: N803
):
    """Compute BLOCK_M positions by BLOCK_N channels; the grid is (tiles, rows)."""
    tiles_n = num_channels // BLOCK_N
    tile = tl.program_id(0)
    row = tl.program_id(1).to(tl.int64)
    positions = (tile // tiles_n) * BLOCK_M + tl.arange(0, BLOCK_M)
    channels = (tile % tiles_n) * BLOCK_N + tl.arange(0, BLOCK_N)
    total = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    for tap in tl.static_range(TAPS):
        at = positions + (tap - TAPS // 2)
        heard = (at >= 0) & (at < num_samples)
        sample = tl.load(samples + row * num_samples + at, mask=heard, other=0.0)
        total += sample[:, None] * tl.load(weight + tap * num_channels + channels)[None, :]
    total += tl.load(bias + channels)[None, :]
    finish(
        total,
        positions < num_samples,
        positions,
        channels,
        num_channels,
        samples,
        0,
        frame_mask + row * mask_row,
        positions_per_frame,
        alpha,
        reciprocal,
        plain,
        row * plain_row,
        snaked,
        row * snaked_row,
        False,
        True,
        True,
        True,
    )


def pack_first(
    convolution: Any, channels: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return float32 weight (taps, channels) and bias of a `Conv1d` that reads one channel."""
    fill = channels - convolution.out_channels
    weight = functional.pad(convolution.weight.detach().float()[:, 0].T, (0, fill))
    bias = functional.pad(convolution.bias.detach().float(), (0, fill))
    return weight.contiguous().to(device), bias.to(device)


def convolve_samples(
    samples: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    ending: Ending,
    *,
    compile_only: bool = False,
) -> None:
    """Run the first convolution.

    Args:
        samples: float32, shape (rows, positions), contiguous.
        weight: float32, shape (taps, channels).
        bias: float32, shape (channels,).
        ending: with a mask and both results, and no residual.
        compile_only: compile the kernel, and do nothing with it.
    """
    rows, positions = samples.shape
    taps, channels = weight.shape
    block_n = min(channels & -channels, 64)
    arguments = ending.arguments(positions, bias)
    del arguments["residual"], arguments["residual_row"]
    first_kernel.run(
        grid=(triton.cdiv(positions, 64) * (channels // block_n), rows),
        warmup=compile_only,
        samples=samples,
        num_samples=positions,
        weight=weight,
        bias=bias,
        num_channels=channels,
        **arguments,
        TAPS=taps,
        BLOCK_M=64,
        BLOCK_N=block_n,
        num_warps=4,
        enable_fp_fusion=True,
    )


def convolve_samples_reference(
    samples: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, ending: Ending
) -> None:
    """Do as `convolve_samples`, in plain torch."""
    total = functional.conv1d(samples[:, None], weight.T[:, None], bias, padding=len(weight) // 2)
    ending.by_torch(total.transpose(1, 2))
