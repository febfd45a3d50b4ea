"""Clips in, results out, in order and in bounded memory: cut, pack, run, join."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from dac_tokenize.codec.assemble import Assembled, Assembler
from dac_tokenize.codec.rows import Batch, RowPacker, RowShape
from dac_tokenize.codec.windows import Window, WindowCutter, WindowShape
from dac_tokenize.errors import ClipError

Array = npt.NDArray[Any]
RunBatch = Callable[[Batch], list[Array]]
Results = Callable[[], list[Array]]
"""Waits for the results of a batch that was started: one for each of its windows."""


def run_packed(
    clips: Iterable[Iterable[Array]],
    window_shape: WindowShape,
    row_shape: RowShape,
    start_batch: Callable[[Batch], Results],
    under_way: int = 1,
) -> Iterator[Assembled]:
    """Run `start_batch` over all `clips`, packed, and yield what each clip gave.

    Args:
        clips: each an iterable of blocks, shape (lanes, ..., n), at least one position in all.
        window_shape: how clips are cut.
        row_shape: how windows are packed.
        start_batch: takes a batch; returns what waits for the results of the kept frames.
        under_way: batches started before the results of the first are asked for; with 2, a device
            that works on its own has the next batch at hand when it is done with one.

    Yields:
        One item for each lane of each clip, in order. A `ClipError` that a clip's blocks raise
        becomes one item that holds the error; nothing else of that clip comes out.
    """
    assembler, packer = Assembler(), RowPacker(row_shape)
    started: deque[tuple[Batch, Results]] = deque()

    def take(leave: int) -> Iterator[Assembled]:
        while len(started) > leave:
            batch, results = started.popleft()
            for placed, result in zip(batch, results(), strict=True):
                assembler.deliver(placed.window, result)
            yield from assembler.finished()

    def run(batches: Iterator[Batch]) -> Iterator[Assembled]:
        for batch in batches:
            started.append((batch, start_batch(batch)))
            yield from take(leave=under_way - 1)

    for index, blocks in enumerate(clips):
        assembler.open(index)
        try:
            for window in _cut(index, blocks, window_shape, assembler):
                yield from run(packer.add(window))
        except ClipError as error:
            # Batches under way may hold windows of this clip: they come before it is given up.
            yield from take(leave=0)
            packer.discard(index)
            assembler.fail(index, error)
        yield from assembler.finished()
    yield from run(packer.flush())
    yield from take(leave=0)
    yield from assembler.finished()


def at_once(run_batch: RunBatch) -> Callable[[Batch], Results]:
    """Return what starts a batch where starting it is doing it."""

    def start_batch(batch: Batch) -> Results:
        results = run_batch(batch)
        return lambda: results

    return start_batch


def run_in_order(
    windows: Iterable[Window], row_shape: RowShape, run_batch: RunBatch
) -> Iterator[Array]:
    """Run the windows of one lane and yield their results from first to last."""
    packer = RowPacker(row_shape)
    ready: dict[int, tuple[Array, int]] = {}
    next_frame = 0

    def batches() -> Iterator[Batch]:
        for window in windows:
            yield from packer.add(window)
        yield from packer.flush()

    for batch in batches():
        for placed, result in zip(batch, run_batch(batch), strict=True):
            window = placed.window
            ready[window.first_frame] = result, window.keep_stop - window.keep_start
        while next_frame in ready:
            result, num_frames = ready.pop(next_frame)
            next_frame += num_frames
            yield result


def _cut(
    index: int, blocks: Iterable[Array], shape: WindowShape, assembler: Assembler
) -> Iterator[Window]:
    """Yield the windows of all lanes of one clip, announcing each to the assembler."""
    cutters: list[WindowCutter] = []
    for block in blocks:
        if not cutters:
            cutters = [WindowCutter((index, lane), shape) for lane in range(len(block))]
            assembler.add_lanes(index, len(cutters))
        for cutter, positions in zip(cutters, block, strict=True):
            for window in cutter.push(positions):
                assembler.expect(window)
                yield window
    for cutter in cutters:
        for window in cutter.finish():
            assembler.expect(window)
            yield window
    assembler.close(index, [cutter.num_positions for cutter in cutters])


def fill_rows(batch: Batch, row_shape: RowShape, empty_row: Array) -> Array:
    """Lay the windows of a batch into rows.

    Args:
        batch: windows with their places.
        row_shape: the shape of the batch.
        empty_row: what an empty row holds, shape (..., row positions).

    Returns:
        Array of shape (rows, ..., row positions).
    """
    rows = np.repeat(empty_row[None], row_shape.rows_per_batch, axis=0)
    per_frame = empty_row.shape[-1] // row_shape.frames
    for placed in batch:
        start = placed.start * per_frame
        positions = placed.window.positions
        rows[placed.row, ..., start : start + positions.shape[-1]] = positions
    return rows
