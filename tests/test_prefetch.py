"""Prefetching: same clips, same order, same samples as one by one; no thread left behind."""

import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dac_tokenize.errors import AudioError, ClipError, PlanError
from dac_tokenize.prefetch import prefetch_waveforms
from dac_tokenize.references import Reference
from dac_tokenize.waveform import Waveform

BLOCK = 1000


class FakeOpener:
    """Clips whose uri says how they turn out: "<blocks>", "bad", "<blocks>-bad"; counts blocks."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.lock = threading.Lock()
        self.seconds = seconds
        self.made = 0
        self.opened: list[tuple[str, str]] = []

    def __call__(self, reference: Reference) -> Waveform:
        with self.lock:
            self.opened.append((reference.key, threading.current_thread().name))
        if reference.uri == "bad":
            raise AudioError(f"{reference.key} is bad")
        if reference.uri == "bug":
            raise ZeroDivisionError("a bug")
        return Waveform(1, 8000, self.blocks(reference))

    def blocks(self, reference: Reference) -> Iterator[np.ndarray]:
        count, _, end = reference.uri.partition("-")
        for index in range(int(count)):
            time.sleep(self.seconds)
            with self.lock:
                self.made += 1
            yield np.full((1, BLOCK), index, np.float32)
        if end == "bad":
            raise AudioError(f"{reference.key} is cut short")


def references(*uris: str, **fields: float) -> list[Reference]:
    return [Reference(f"{i:05}", uri, **fields) for i, uri in enumerate(uris)]


def consume(results) -> list[tuple[str, object, str]]:
    """Reads everything: key, samples read, the error's text."""
    read = []
    for reference, outcome in results:
        if isinstance(outcome, ClipError):
            read.append((reference.key, [], str(outcome)))
            continue
        samples, error = [], ""
        try:
            for block in outcome.blocks:
                samples.extend(block[0, :: BLOCK // 2].tolist())
        except ClipError as clip_error:
            error = str(clip_error)
        read.append((reference.key, samples, error))
    return read


def pool_threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith("dac-tokenize-prefetch")]


@settings(max_examples=60, deadline=None)
@given(
    uris=st.lists(st.sampled_from(["0", "1", "3", "9", "bad", "2-bad", "0-bad"]), max_size=90),
    num_threads=st.integers(1, 5),
    room=st.sampled_from([1, BLOCK, 4 * BLOCK, 1000 * BLOCK]),
    segments=st.booleans(),
)
def test_gives_what_one_by_one_gives(uris, num_threads, room, segments):
    fields = {"duration_seconds": 1.0} if segments else {}
    given_references = references(*uris, **fields)
    plain = consume(prefetch_waveforms(given_references, FakeOpener(), num_threads=0))
    fetched = consume(prefetch_waveforms(given_references, FakeOpener(), num_threads, room))
    assert fetched == plain
    assert [key for key, _, _ in fetched] == [r.key for r in given_references]
    assert pool_threads() == []


def test_works_ahead_in_several_threads():
    opener = FakeOpener(seconds=0.002)
    consume(prefetch_waveforms(references(*["5"] * 40), opener, num_threads=4))
    assert len({thread for _, thread in opener.opened}) == 4


def test_a_long_clip_is_not_read_far_ahead():
    opener = FakeOpener()
    results = prefetch_waveforms(references("100000"), opener, 2, max_buffered_samples=5 * BLOCK)
    _, waveform = next(results)
    for expected in range(50):
        assert next(waveform.blocks)[0, 0] == expected
        assert opener.made <= expected + 1 + 5 + 2
    results.close()


def test_later_clips_cannot_take_all_the_room():
    """The first clip is slow; the others fill the buffer at once, and it still comes through."""
    opener = FakeOpener()
    slow = FakeOpener(seconds=0.01)
    results = prefetch_waveforms(
        references("20", *["50"] * 30),
        lambda reference: (slow if reference.key == "00000" else opener)(reference),
        num_threads=3,
        max_buffered_samples=10 * BLOCK,
    )
    assert [len(samples) for _, samples, _ in consume(results)] == [40] + [100] * 30


def test_segments_of_one_recording_are_read_by_one_thread_in_order():
    opener = FakeOpener(seconds=0.001)
    given_references = references(*["1"] * 50, *["2"] * 50, duration_seconds=1.0)
    consume(prefetch_waveforms(given_references, opener, num_threads=4))
    by_recording = [opener.opened[i] for i in range(100)]
    for first, last in ((0, 50), (50, 100)):
        run = [(k, t) for k, t in by_recording if first <= int(k) < last]
        assert len({thread for _, thread in run}) == 1
        assert run == sorted(run)


@pytest.mark.parametrize("stop_after", [0, 1, 7])
def test_closing_early_ends_the_threads(stop_after):
    results = prefetch_waveforms(references(*["1000"] * 50), FakeOpener(), 4, 10 * BLOCK)
    for _ in range(stop_after):
        next(results)
    assert bool(pool_threads()) == bool(stop_after)
    results.close()
    assert pool_threads() == []


def test_leaving_a_clip_half_read_gives_its_room_back():
    results = prefetch_waveforms(references(*["40"] * 20), FakeOpener(), 2, 10 * BLOCK)
    for _, waveform in results:
        assert next(waveform.blocks)[0, 0] == 0
    assert pool_threads() == []


def test_room_comes_back_when_clips_are_left_half_read():
    opener, blocks_of_last = FakeOpener(), []

    def open_counting(reference):
        waveform = opener(reference)
        if reference.key != "00020":
            return waveform
        counted = (blocks_of_last.append(block) or block for block in waveform.blocks)
        return Waveform(1, 8000, counted)

    results = prefetch_waveforms(references(*["8"] * 21), open_counting, 1, 10 * BLOCK)
    for _ in range(20):
        next(next(results)[1].blocks)
        time.sleep(0.02)  # until others lie in its queue
    deadline = time.monotonic() + 5
    while len(blocks_of_last) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(blocks_of_last) >= 3
    results.close()


def test_a_waveform_left_behind_cannot_be_read():
    results = prefetch_waveforms(references("40", "40"), FakeOpener(), 2)
    _, first = next(results)
    next(results)
    with pytest.raises(RuntimeError, match="after the next one was taken"):
        next(first.blocks)
    results.close()


def test_a_bug_is_raised_in_its_place():
    results = prefetch_waveforms(references("1", "2", "bug", "3"), FakeOpener(), 2)
    assert next(results)[0].key == "00000"
    assert next(results)[0].key == "00001"
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert pool_threads() == []


def test_an_error_of_the_references_is_raised_after_the_clips_before_it():
    def broken() -> Iterator[Reference]:
        yield from references("1", "2")
        raise PlanError("the listing broke")

    results = prefetch_waveforms(broken(), FakeOpener(), 2)
    assert [next(results)[0].key for _ in range(2)] == ["00000", "00001"]
    with pytest.raises(PlanError, match="the listing broke"):
        next(results)


def test_references_are_pulled_as_needed():
    pulled = []

    def endless() -> Iterator[Reference]:
        for index in range(10**9):
            pulled.append(index)
            yield Reference(str(index), "1")

    results = prefetch_waveforms(endless(), FakeOpener(), 2)
    for _ in range(10):
        next(results)
    results.close()
    assert len(pulled) < 100
