"""Pack windows into rows of one fixed length, with gaps, in bounded memory.

Best-fit decreasing over a pool of waiting windows: the longest first, each into the row that it
fills best. Which windows share a row changes nothing in what comes out (the encoder masks what lies
between them), so packing is free to aim at full rows only.
"""

from bisect import bisect_left, insort
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dac_tokenize.codec.windows import Window


@dataclass(frozen=True, slots=True)
class RowShape:
    """The one shape that every batch has.

    Attributes:
        frames: frames in a row.
        gap_frames: frames of silence between two windows of a row.
        rows_per_batch: rows in a batch.
        lookahead_rows: rows' worth of windows that may wait for a better fit.
    """

    frames: int
    gap_frames: int
    rows_per_batch: int
    lookahead_rows: int


@dataclass(frozen=True, slots=True)
class PlacedWindow:
    """A window and where it lies: `row` in the batch, `start` in frames."""

    window: Window
    row: int
    start: int


Batch = list[PlacedWindow]


class RowPacker:
    """Collect windows and hand out batches of well-filled rows.

    The row that holds the window waiting longest is in every group handed out, so no window waits
    for more than a bounded number of batches.
    """

    def __init__(self, shape: RowShape) -> None:
        self._shape = shape
        self._pool: list[Window] = []
        self._pool_frames = 0

    def add(self, window: Window) -> Iterator[Batch]:
        """Take a window; yield the batches that became ready."""
        self._pool.append(window)
        self._pool_frames += window.num_frames + self._shape.gap_frames
        if self._pool_frames >= self._shape.lookahead_rows * self._shape.frames:
            yield from self._drain(keep_half=True)

    def flush(self) -> Iterator[Batch]:
        """Yield all that is left, the last batch possibly with empty rows."""
        yield from self._drain(keep_half=False)

    def discard(self, clip: int) -> None:
        """Forget the waiting windows of `clip`."""
        self._replace([window for window in self._pool if window.lane[0] != clip])

    def _drain(self, keep_half: bool) -> Iterator[Batch]:
        rows = pack_rows(
            [window.num_frames for window in self._pool],
            self._shape.frames,
            self._shape.gap_frames,
        )
        # Oldest first, so that the emptiest rows, which hold late small windows, tend to wait.
        rows.sort(key=min)
        per_batch = self._shape.rows_per_batch
        if keep_half:
            num_batches = max(1, len(rows) // (2 * per_batch))
            rows = rows[: num_batches * per_batch]
        pool = self._pool
        used = {index for row in rows for index in row}
        self._replace([window for index, window in enumerate(pool) if index not in used])
        for first in range(0, len(rows), per_batch):
            yield self._place(pool, rows[first : first + per_batch])

    def _place(self, pool: Sequence[Window], rows: Sequence[Sequence[int]]) -> Batch:
        batch = []
        for number, row in enumerate(rows):
            start = 0
            for index in row:
                batch.append(PlacedWindow(pool[index], number, start))
                start += pool[index].num_frames + self._shape.gap_frames
        return batch

    def _replace(self, pool: list[Window]) -> None:
        self._pool = pool
        self._pool_frames = sum(w.num_frames + self._shape.gap_frames for w in pool)


def pack_rows(lengths: Sequence[int], row_frames: int, gap_frames: int) -> list[list[int]]:
    """Pack spans into rows by best-fit decreasing.

    Args:
        lengths: frames of each span, each in [1, row_frames].
        row_frames: frames in a row.
        gap_frames: frames between two spans of a row.

    Returns:
        For each row the indices of its spans, in the order in which they lie.

    >>> pack_rows([5, 3, 9, 2], row_frames=10, gap_frames=1)
    [[2], [0, 1], [3]]
    """
    rows: list[list[int]] = []
    room: list[tuple[int, int]] = []  # (frames left, row), sorted
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        need = lengths[index] + gap_frames
        at = bisect_left(room, (need, -1))
        if at < len(room):
            left, row = room.pop(at)
            rows[row].append(index)
        else:
            # The first span of a row needs no gap before it.
            left, row = row_frames + gap_frames, len(rows)
            rows.append([index])
        insort(room, (left - need, row))
    return rows
