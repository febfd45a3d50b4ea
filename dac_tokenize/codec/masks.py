"""Where the windows of a batch lie at each level of a chain, as 0/1 tensors.

Multiplying by them after each step keeps the silence between windows silent, which is what makes
a window in a row see the same zeros as a clip on its own (`Chain.gap_frames` says how much is
needed). A snake of zero is zero and 1-wide convolutions do not spread, so no other place needs it.
"""

from collections.abc import Sequence

import numpy as np
import torch

from dac_tokenize.codec.geometry import Chain
from dac_tokenize.codec.rows import PlacedWindow, RowShape

Mask = torch.Tensor | None


def level_masks(
    batch: Sequence[PlacedWindow],
    chain: Chain,
    shape: RowShape,
    device: torch.device,
    dtype: torch.dtype,
) -> list[Mask]:
    """Return a mask of shape (rows, 1, positions) for every level of `chain`.

    A level that the windows fill wholly has None in place of a mask of ones.
    """
    cache: dict[tuple[int, int], Mask] = {}
    masks = []
    for level in chain.levels:
        rate, deficit = level.positions_per_frame, level.deficit
        if (rate, deficit) not in cache:
            mask = np.zeros((shape.rows_per_batch, 1, level.length(shape.frames)), dtype=np.bool_)
            for placed in batch:
                start = placed.start * rate
                mask[placed.row, 0, start : start + level.length(placed.window.num_frames)] = True
            full = bool(mask.all())
            cache[rate, deficit] = None if full else torch.from_numpy(mask).to(device, dtype)
        masks.append(cache[rate, deficit])
    return masks


def apply_mask(hidden_states: torch.Tensor, mask: Mask) -> torch.Tensor:
    """Zero `hidden_states`, shape (rows, channels, positions), outside the windows, in place."""
    return hidden_states if mask is None else hidden_states.mul_(mask)
