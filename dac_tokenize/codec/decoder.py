"""Rows of quantized latents -> samples: transformers' `DacDecoder`, masked after each step."""

from collections.abc import Sequence
from typing import Any

import torch

from dac_tokenize.codec.masks import Mask, apply_mask


def decode_rows(decoder: Any, quantized: torch.Tensor, masks: Sequence[Mask]) -> torch.Tensor:
    """Run the decoder over packed rows.

    Args:
        decoder: a `DacDecoder`.
        quantized: float, shape (rows, hidden_size, row_frames), any value outside the windows.
        masks: one for each level of `decoder_chain`, the input's first.

    Returns:
        Samples in [-1, 1], shape (rows, row_samples).
    """
    after = iter(masks[1:])
    hidden = apply_mask(quantized, masks[0])
    hidden = apply_mask(decoder.conv1(hidden), next(after))
    for block in decoder.block:
        hidden = apply_mask(block.conv_t1(block.snake1(hidden)), next(after))
        for unit in (block.res_unit1, block.res_unit2, block.res_unit3):
            hidden = apply_mask(unit(hidden), next(after))
    samples: torch.Tensor = decoder.tanh(decoder.conv2(decoder.snake1(hidden)))
    return samples.squeeze(1)
