"""Rows of samples -> latents: transformers' `DacEncoder`, masked after each step."""

from collections.abc import Sequence
from typing import Any

import torch

from dac_tokenize.codec.masks import Mask, apply_mask


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
