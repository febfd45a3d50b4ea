"""Where the windows of a batch lie at each level of a chain: as 0/1 tensors, or the spans between.

Multiplying by the tensors after each step, or setting the spans to zero, keeps the silence between
windows silent, which is what makes a window in a row see the same zeros as a clip on its own
(`Chain.gap_frames` says how much is needed). A snake of zero is zero and 1-wide convolutions do not
spread, so no other place needs it.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from dac_tokenize.codec.geometry import Chain
from dac_tokenize.codec.rows import PlacedWindow, RowShape

Mask = torch.Tensor | None
Span = tuple[int, int, int]
"""Row, first position, position after the last."""


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


def frame_mask(batch: Sequence[PlacedWindow], shape: RowShape) -> npt.NDArray[np.bool_]:
    """Return where windows lie, shape (rows, frames): all that a chain without deficits needs."""
    mask = np.zeros((shape.rows_per_batch, shape.frames), dtype=np.bool_)
    for placed in batch:
        mask[placed.row, placed.start : placed.start + placed.window.num_frames] = True
    return mask


def level_gaps(batch: Sequence[PlacedWindow], chain: Chain, shape: RowShape) -> list[list[Span]]:
    """Return for every level of `chain` the spans that no window fills."""
    rows: list[list[PlacedWindow]] = [[] for _ in range(shape.rows_per_batch)]
    for placed in batch:
        rows[placed.row].append(placed)
    cache: dict[tuple[int, int], list[Span]] = {}
    for level in chain.levels:
        rate, deficit = level.positions_per_frame, level.deficit
        if (rate, deficit) in cache:
            continue
        gaps = cache[rate, deficit] = []
        for number, row in enumerate(rows):
            filled = 0
            for placed in sorted(row, key=lambda placed: placed.start):
                if placed.start * rate > filled:
                    gaps.append((number, filled, placed.start * rate))
                filled = placed.start * rate + level.length(placed.window.num_frames)
            if filled < level.length(shape.frames):
                gaps.append((number, filled, level.length(shape.frames)))
    return [cache[level.positions_per_frame, level.deficit] for level in chain.levels]


def apply_mask(hidden_states: torch.Tensor, mask: Mask) -> torch.Tensor:
    """Zero `hidden_states`, shape (rows, channels, positions), outside the windows, in place."""
    return hidden_states if mask is None else hidden_states.mul_(mask)
