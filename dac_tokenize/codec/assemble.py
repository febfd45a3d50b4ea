"""Join the results of windows, which come in any order, to clips in the order given."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from dac_tokenize.codec.windows import Window
from dac_tokenize.errors import ClipError


@dataclass(slots=True)
class _Lane:
    num_positions: int = 0
    pieces: dict[int, npt.NDArray[Any]] = field(default_factory=dict)

    def joined(self) -> npt.NDArray[Any]:
        pieces = [self.pieces[first] for first in sorted(self.pieces)]
        return np.ascontiguousarray(np.concatenate(pieces, axis=-1))


@dataclass(slots=True)
class _Clip:
    lanes: list[_Lane] = field(default_factory=list)
    waiting_windows: int = 0
    closed: bool = False
    error: ClipError | None = None


@dataclass(frozen=True, slots=True)
class Assembled:
    """The whole result of one lane of one clip.

    Attributes:
        index: which clip of the stream.
        channel: which lane of the clip.
        result: windows' results joined along the last axis; None after an error.
        num_positions: positions that went in.
        error: why there is no result.
    """

    index: int
    channel: int
    result: npt.NDArray[Any] | None
    num_positions: int
    error: ClipError | None


class Assembler:
    """Join windows to lanes and hand out whole clips in the order in which they were opened."""

    def __init__(self) -> None:
        self._clips: dict[int, _Clip] = {}
        self._next = 0

    def open(self, index: int) -> None:
        """Announce clip `index`; indices count up from 0."""
        self._clips[index] = _Clip()

    def expect(self, window: Window) -> None:
        """Announce a window whose result will come."""
        self._clips[window.lane[0]].waiting_windows += 1

    def deliver(self, window: Window, result: npt.NDArray[Any]) -> None:
        """Take the kept part of a window's result, shape (..., n)."""
        clip = self._clips[window.lane[0]]
        if clip.error is None:
            clip.waiting_windows -= 1
            clip.lanes[window.lane[1]].pieces[window.first_frame] = result

    def close(self, index: int, num_positions: list[int]) -> None:
        """Announce that clip `index` has no more windows; one entry a lane."""
        clip = self._clips[index]
        for lane, count in zip(clip.lanes, num_positions, strict=True):
            lane.num_positions = count
        clip.closed = True

    def add_lanes(self, index: int, num_lanes: int) -> None:
        """Announce how many lanes clip `index` has."""
        self._clips[index].lanes = [_Lane() for _ in range(num_lanes)]

    def fail(self, index: int, error: ClipError) -> None:
        """Give up clip `index` and forget what came of it."""
        clip = self._clips[index]
        clip.error, clip.lanes, clip.closed = error, [], True

    def finished(self) -> Iterator[Assembled]:
        """Yield what is whole, as far as no earlier clip is still waiting."""
        while (clip := self._clips.get(self._next)) is not None:
            if not clip.closed or (clip.error is None and clip.waiting_windows):
                return
            index = self._next
            del self._clips[index]
            self._next += 1
            if clip.error is not None:
                yield Assembled(index, 0, None, 0, clip.error)
            for channel, lane in enumerate(clip.lanes):
                yield Assembled(index, channel, lane.joined(), lane.num_positions, None)
