"""Rows of samples -> latents: transformers' `DacEncoder`, silenced after each step.

`encode_rows` is the plain form, which any device runs; `TiledEncoder` is the CPU's.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch

from dac_tokenize.codec.convolutions import convolution
from dac_tokenize.codec.masks import Mask, Span, apply_mask
from dac_tokenize.codec.tiled import ResidualUnit, Snake, padded, silence, snake_tiles


def encode_rows(encoder: Any, samples: torch.Tensor, masks: Sequence[Mask]) -> torch.Tensor:
    """Run the encoder over packed rows.

    Args:
        encoder: a `DacEncoder`.
        samples: float, shape (rows, 1, row_samples), zero outside the windows.
        masks: one for each level of `encoder_chain`, the input's first.

    Returns:
        Latents, shape (rows, hidden_size, row_frames); outside the windows they mean nothing.
    """
    after = iter(masks[1:])
    hidden = apply_mask(encoder.conv1(samples), next(after))
    for block in encoder.block:
        for unit in (block.res_unit1, block.res_unit2, block.res_unit3):
            hidden = apply_mask(unit(hidden), next(after))
        hidden = apply_mask(block.conv1(block.snake1(hidden)), next(after))
    latents: torch.Tensor = encoder.conv2(encoder.snake1(hidden))
    return latents


class TiledEncoder:
    """What `encode_rows` does, with the layers of `dac_tokenize.codec.tiled`.

    Args:
        encoder: a `DacEncoder` on the CPU.
        dtype: number format of what the convolutions read and write.
    """

    def __init__(self, encoder: Any, dtype: torch.dtype) -> None:
        self._first = convolution(encoder.conv1, dtype)
        self._blocks = [
            (
                [ResidualUnit(u, dtype) for u in (b.res_unit1, b.res_unit2, b.res_unit3)],
                Snake.of(b.snake1),
                convolution(b.conv1, dtype),
                int(b.conv1.padding[0]),
            )
            for b in encoder.block
        ]
        self._last_snake = Snake.of(encoder.snake1)
        self._last = convolution(encoder.conv2, dtype)

    def __call__(self, samples: torch.Tensor, gaps: Sequence[Iterable[Span]]) -> torch.Tensor:
        """Run the encoder over packed rows.

        Args:
            samples: float32, shape (rows, 1, row_samples), zero outside the windows.
            gaps: the spans between windows at each level of `encoder_chain`, the input's first.

        Returns:
            float32 latents, shape (rows, hidden_size, row_frames).
        """
        after: Iterator[Iterable[Span]] = iter(gaps[1:])
        hidden = silence(self._first(padded(samples.transpose(1, 2), 3)).float(), next(after))
        for units, snake, strided, padding in self._blocks:
            for unit in units:
                unit.add_to(hidden)
                silence(hidden, next(after))
            hidden = strided(padded(snake_tiles(snake, hidden), padding)).float()
            silence(hidden, next(after))
        latents = self._last(padded(snake_tiles(self._last_snake, hidden), 1))
        return latents.float().transpose(1, 2)
