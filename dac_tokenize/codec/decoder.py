"""Rows of quantized latents -> samples: transformers' `DacDecoder`, silenced after each step.

`RowDecoder` is the plain form, which any device runs; `TiledDecoder` is the CPU's.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as functional

from dac_tokenize.codec.convolutions import convolution, convolve
from dac_tokenize.codec.masks import Mask, Span, apply_mask
from dac_tokenize.codec.tiled import ResidualUnit, Snake, padded, silence, snake_tiles


class RowDecoder:
    """A `DacDecoder` for packed rows.

    Its transposed convolutions have kernels of twice their stride, so each is a plain convolution
    two taps wide that puts out all phases of the stride at once. In that form a frame's result
    hardly ever depends on where in the row it lies; PyTorch's own transposed convolution on the
    CPU differs by rounding from place to place.
    """

    def __init__(self, decoder: Any, device: torch.device, dtype: torch.dtype) -> None:
        self._decoder = decoder.to(device, dtype)
        self._phases = [_phase_convolution(block.conv_t1) for block in decoder.block]

    def __call__(self, quantized: torch.Tensor, masks: Sequence[Mask]) -> torch.Tensor:
        """Decode packed rows.

        Args:
            quantized: float, shape (rows, hidden_size, row_frames), any value outside the windows.
            masks: one for each level of `decoder_chain`, the input's first.

        Returns:
            Samples in [-1, 1], shape (rows, row_samples).
        """
        decoder = self._decoder
        after: Iterator[Mask] = iter(masks)
        hidden = apply_mask(quantized, next(after))
        hidden = apply_mask(decoder.conv1(hidden), next(after))
        for block, (weight, bias) in zip(decoder.block, self._phases, strict=True):
            hidden = _upsample(block.snake1(hidden), weight, bias, block.conv_t1)
            hidden = apply_mask(hidden, next(after))
            for unit in (block.res_unit1, block.res_unit2, block.res_unit3):
                hidden = apply_mask(unit(hidden), next(after))
        samples: torch.Tensor = decoder.tanh(decoder.conv2(decoder.snake1(hidden)))
        return samples.squeeze(1)


class TiledDecoder:
    """What `RowDecoder` does, with the layers of `dac_tokenize.codec.tiled`.

    Args:
        decoder: a `DacDecoder` on the CPU.
        dtype: number format of what the convolutions read and write.
    """

    def __init__(self, decoder: Any, dtype: torch.dtype) -> None:
        self._first = convolution(decoder.conv1, dtype)
        self._blocks = [
            (
                Snake.of(b.snake1),
                _Upsampling(b.conv_t1, dtype),
                [ResidualUnit(u, dtype) for u in (b.res_unit1, b.res_unit2, b.res_unit3)],
            )
            for b in decoder.block
        ]
        self._last_snake = Snake.of(decoder.snake1)
        self._last = convolution(decoder.conv2, dtype)

    def __call__(self, quantized: torch.Tensor, gaps: Sequence[Iterable[Span]]) -> torch.Tensor:
        """Decode packed rows.

        Args:
            quantized: float32, shape (rows, hidden_size, row_frames), any value in the gaps.
            gaps: the spans between windows at each level of `decoder_chain`, the input's first.

        Returns:
            float32 samples in [-1, 1], shape (rows, row_samples).
        """
        after: Iterator[Iterable[Span]] = iter(gaps)
        hidden = silence(quantized.transpose(1, 2).contiguous(), next(after))
        hidden = silence(self._first(padded(hidden, 3)).float(), next(after))
        for snake, upsampling, units in self._blocks:
            hidden = silence(upsampling(snake_tiles(snake, hidden)).float(), next(after))
            for unit in units:
                unit.add_to(hidden)
                silence(hidden, next(after))
        samples = self._last(padded(snake_tiles(self._last_snake, hidden), 3))
        return samples.float().squeeze(2).tanh_()


class _Upsampling:
    """A transposed convolution, whose phases lie in the order of the samples by themselves."""

    def __init__(self, transposed: Any, dtype: torch.dtype) -> None:
        weight, bias = _phase_convolution(transposed)
        self._convolve = convolve(weight, bias, 1, 1, dtype)
        self._stride, self._padding = int(transposed.stride[0]), int(transposed.padding[0])

    def __call__(self, hidden: torch.Tensor) -> torch.Tensor:
        """Upsample `hidden`, shape (rows, n, in)."""
        phases = self._convolve(padded(hidden, 1))
        rows, count, _ = phases.shape
        fine = phases.reshape(rows, count * self._stride, -1)
        return fine[:, self._padding : count * self._stride - self._padding]


def _phase_convolution(transposed: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Return weight (stride * out, in, 2) and bias of the plain convolution for `transposed`."""
    weight = transposed.weight.detach()  # (in, out, 2 stride)
    stride = int(transposed.stride[0])
    assert weight.shape[-1] == 2 * stride, "a DAC upsamples with kernels of twice the stride"
    now, before = weight[..., :stride], weight[..., stride:]
    taps = torch.stack([before, now], dim=-1)  # (in, out, stride, 2)
    phases = taps.permute(2, 1, 0, 3).flatten(0, 1).contiguous()
    return phases, transposed.bias.detach().repeat(stride)


def _upsample(
    hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, transposed: Any
) -> torch.Tensor:
    """Do what `transposed` does to `hidden`, shape (rows, in, n)."""
    stride, padding = int(transposed.stride[0]), int(transposed.padding[0])
    phases = functional.conv1d(hidden, weight, bias, padding=1)  # (rows, stride * out, n + 1)
    rows, _, count = phases.shape
    fine = (
        phases.view(rows, stride, -1, count).permute(0, 2, 3, 1).reshape(rows, -1, count * stride)
    )
    return fine[..., padding : count * stride - padding].contiguous()
