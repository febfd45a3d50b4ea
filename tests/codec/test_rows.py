"""Packing: everything once, nothing over a row's end, nothing closer than the gap."""

import itertools
from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dac_tokenize.codec.rows import Batch, RowPacker, RowShape, pack_rows
from dac_tokenize.codec.windows import Window

row_shapes = st.builds(
    RowShape,
    frames=st.integers(5, 40),
    gap_frames=st.integers(0, 5),
    rows_per_batch=st.integers(1, 4),
    lookahead_rows=st.integers(1, 12),
)


def window(clip: int, num_frames: int) -> Window:
    return Window((clip, 0), np.zeros(num_frames), num_frames, 0, num_frames, 0, True)


def check_batch(batch: Batch, shape: RowShape) -> None:
    for row in range(shape.rows_per_batch):
        spans = sorted((p.start, p.start + p.window.num_frames) for p in batch if p.row == row)
        assert all(start >= 0 and stop <= shape.frames for start, stop in spans)
        for (_, stop), (start, _) in itertools.pairwise(spans):
            assert start - stop >= shape.gap_frames
    assert all(p.row < shape.rows_per_batch for p in batch)


@given(row_shapes, st.data())
def test_every_window_comes_out_once(shape: RowShape, data: st.DataObject) -> None:
    lengths = data.draw(st.lists(st.integers(1, shape.frames), max_size=60))
    packer = RowPacker(shape)
    batches = [b for i, n in enumerate(lengths) for b in packer.add(window(i, n))]
    batches += packer.flush()
    for batch in batches:
        check_batch(batch, shape)
        assert batch
    clips = Counter(placed.window.lane[0] for batch in batches for placed in batch)
    assert clips == Counter(range(len(lengths)))


@given(row_shapes, st.data())
def test_waiting_is_bounded(shape: RowShape, data: st.DataObject) -> None:
    """The pool never holds more than the lookahead and what came last."""
    packer = RowPacker(shape)
    for clip in range(data.draw(st.integers(0, 80))):
        for _ in packer.add(window(clip, data.draw(st.integers(1, shape.frames)))):
            pass
        assert packer._pool_frames < (shape.lookahead_rows + 2) * (shape.frames + shape.gap_frames)


def test_the_oldest_window_leaves_with_every_group() -> None:
    shape = RowShape(frames=10, gap_frames=1, rows_per_batch=1, lookahead_rows=4)
    packer = RowPacker(shape)
    oldest_waiting, waiting = 0, {0}
    for clip in range(200):
        waiting.add(clip)
        # The first window is small and fits badly; all others fill a row.
        batches = list(packer.add(window(clip, 2 if clip == 0 else 10)))
        if batches:
            left = {p.window.lane[0] for batch in batches for p in batch}
            assert oldest_waiting in left
            waiting -= left
            oldest_waiting = min(waiting, default=clip + 1)


def test_discard_forgets_a_clip() -> None:
    packer = RowPacker(RowShape(10, 1, 1, 100))
    for clip in (0, 1, 0, 2):
        assert not list(packer.add(window(clip, 3)))
    packer.discard(0)
    assert {p.window.lane[0] for b in packer.flush() for p in b} == {1, 2}


@given(st.lists(st.integers(1, 100), max_size=80), st.integers(0, 6))
def test_best_fit_needs_few_rows(lengths: list[int], gap: int) -> None:
    """Never more than 1.7 times the rows that the frames alone would need, plus one."""
    rows = pack_rows(lengths, 100, gap)
    assert sorted(i for row in rows for i in row) == list(range(len(lengths)))
    need = sum(n + gap for n in lengths) / (100 + gap)
    assert len(rows) <= 1.7 * need + 1
