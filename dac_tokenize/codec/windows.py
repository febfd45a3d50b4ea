"""Cut a stream of positions into windows of whole frames with exact context on each side.

The same cutter serves encoding, where a position is a sample and a frame has `hop_length` of them,
and decoding, where a position is a frame of codes. It holds one window's worth of positions at a
time, so a clip may be of any length.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Positions = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class WindowShape:
    """How windows are cut.

    Attributes:
        frames: most frames that a window holds, context included.
        left_context: frames of context before the kept ones, none at the start of a clip.
        right_context: frames of context after the kept ones, none at the end of a clip.
        positions_per_frame: positions along the last axis for one frame.
    """

    frames: int
    left_context: int
    right_context: int
    positions_per_frame: int

    def __post_init__(self) -> None:
        """Refuse windows that would keep nothing."""
        assert self.frames > self.left_context + self.right_context, self


@dataclass(frozen=True, slots=True)
class Window:
    """A span of one clip that is computed in one go.

    Attributes:
        lane: (clip, channel) that it belongs to.
        positions: shape (..., n), the last frame possibly not whole at the end of a clip.
        num_frames: frames that `positions` fill, the last one rounded up.
        keep_start: first frame of the window whose result is kept.
        keep_stop: one past the last frame kept.
        first_frame: frame of the clip that `keep_start` is.
        is_last: whether the clip ends with this window.
    """

    lane: tuple[int, int]
    positions: Positions
    num_frames: int
    keep_start: int
    keep_stop: int
    first_frame: int
    is_last: bool


class WindowCutter:
    """Cut one lane, given block by block, into windows.

    >>> shape = WindowShape(frames=8, left_context=2, right_context=2, positions_per_frame=10)
    >>> cutter = WindowCutter((0, 0), shape)
    >>> windows = [*cutter.push(np.zeros(125)), *cutter.finish()]
    >>> [(w.first_frame, w.keep_start, w.keep_stop, w.num_frames) for w in windows]
    [(0, 0, 6, 8), (6, 2, 6, 8), (10, 2, 5, 5)]
    """

    def __init__(self, lane: tuple[int, int], shape: WindowShape) -> None:
        self.num_positions = 0
        self._lane = lane
        self._shape = shape
        self._blocks: list[Positions] = []
        self._held = 0
        self._held_from_frame = 0
        self._next_frame = 0

    def push(self, block: Positions) -> Iterator[Window]:
        """Take the next positions, shape (..., n); yield the windows that they complete."""
        if block.shape[-1] == 0:
            return
        self.num_positions += block.shape[-1]
        self._blocks.append(block)
        self._held += block.shape[-1]
        # A window is only cut once something is known to follow it: else it is the last one,
        # which needs no right context.
        full = self._shape.frames * self._shape.positions_per_frame
        if self._held <= full:
            return
        held = self._join()
        while held.shape[-1] > full:
            window = self._cut(held[..., :full], is_last=False)
            yield window
            advance = self._next_frame - self._shape.left_context - self._held_from_frame
            held = held[..., advance * self._shape.positions_per_frame :]
            self._held_from_frame += advance
        # A copy, so that the block it was cut from can go.
        self._blocks, self._held = [held.copy()], held.shape[-1]

    def finish(self) -> Iterator[Window]:
        """Yield the last window, if there were any positions at all."""
        if self.num_positions:
            yield self._cut(self._join(), is_last=True)
        self._blocks = []

    def _join(self) -> Positions:
        return self._blocks[0] if len(self._blocks) == 1 else np.concatenate(self._blocks, axis=-1)

    def _cut(self, positions: Positions, is_last: bool) -> Window:
        num_frames = -(-positions.shape[-1] // self._shape.positions_per_frame)
        keep_start = self._next_frame - self._held_from_frame
        keep_stop = num_frames if is_last else num_frames - self._shape.right_context
        window = Window(
            lane=self._lane,
            positions=positions,
            num_frames=num_frames,
            keep_start=keep_start,
            keep_stop=keep_stop,
            first_frame=self._next_frame,
            is_last=is_last,
        )
        self._next_frame += keep_stop - keep_start
        return window
