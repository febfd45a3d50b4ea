"""Cutting: every frame kept once, with its context, whatever the blocks."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dac_tokenize.codec.windows import Window, WindowCutter, WindowShape


@st.composite
def shapes(draw: st.DrawFn) -> WindowShape:
    left, right = draw(st.integers(0, 5)), draw(st.integers(0, 5))
    frames = left + right + draw(st.integers(1, 9))
    return WindowShape(frames, left, right, draw(st.integers(1, 7)))


def cut(shape: WindowShape, blocks: list[np.ndarray]) -> list[Window]:
    cutter = WindowCutter((0, 0), shape)
    return [w for block in blocks for w in cutter.push(block)] + list(cutter.finish())


def cut_reference(shape: WindowShape, positions: np.ndarray) -> list[tuple[int, int, int, int]]:
    """(first frame held, held stop, first kept, kept stop), by the definition, all at once."""
    num_frames = -(-len(positions) // shape.positions_per_frame)
    windows, kept = [], 0
    while kept < num_frames:
        held = max(0, kept - shape.left_context)
        if num_frames <= held + shape.frames:
            windows.append((held, num_frames, kept, num_frames))
            break
        stop = held + shape.frames
        windows.append((held, stop, kept, stop - shape.right_context))
        kept = stop - shape.right_context
    return windows


@given(shapes(), st.lists(st.integers(0, 60), max_size=12))
def test_windows_equal_the_definition_for_any_blocks(shape: WindowShape, sizes: list[int]) -> None:
    positions = np.arange(sum(sizes))
    blocks = np.split(positions, np.cumsum(sizes)[:-1]) if sizes else []
    windows = cut(shape, blocks)
    expected = cut_reference(shape, positions)
    found = []
    for window in windows:
        held = window.first_frame - window.keep_start
        found.append((held, held + window.num_frames, window.first_frame, held + window.keep_stop))
        start = held * shape.positions_per_frame
        stop = start + window.num_frames * shape.positions_per_frame
        np.testing.assert_array_equal(window.positions, positions[start:stop])
    assert found == expected
    assert [w.is_last for w in windows] == [False] * (len(windows) - 1) + [True] * bool(windows)


@given(shapes(), st.integers(1, 300))
def test_context_is_whole_inside_a_clip(shape: WindowShape, num_positions: int) -> None:
    for window in cut(shape, [np.zeros(num_positions)]):
        assert window.num_frames <= shape.frames
        if window.first_frame:
            assert window.keep_start == shape.left_context
        if not window.is_last:
            assert window.num_frames - window.keep_stop == shape.right_context


def test_memory_is_one_window_for_a_long_clip() -> None:
    shape = WindowShape(frames=10, left_context=2, right_context=2, positions_per_frame=100)
    cutter = WindowCutter((0, 0), shape)
    for _ in range(1000):
        for _ in cutter.push(np.zeros(70)):
            pass
        assert cutter._held <= shape.frames * shape.positions_per_frame


def test_no_positions_give_no_window() -> None:
    assert cut(WindowShape(4, 1, 1, 3), [np.zeros(0)]) == []
