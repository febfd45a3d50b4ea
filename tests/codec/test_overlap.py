"""Copies beside computing, by streams that do their work as late as they may, in any order."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dac_tokenize.codec.overlap import Overlap

ROWS, SAMPLES, FRAMES, BOOKS = 2, 6, 3, 4


class Event:
    def __init__(self) -> None:
        self.come = False


class LazyStreams:
    """Queues whose work is done when the host waits for it, or earlier where `eager` says so."""

    def __init__(self, eager) -> None:
        self.queues: list[list] = []
        self._eager = eager

    def stream(self) -> list:
        self.queues.append([])
        return self.queues[-1]

    def on(self, stream, work) -> None:
        stream.append(work)
        self._some()

    def mark(self, stream) -> Event:
        event = Event()
        stream.append(event)
        return event

    def wait(self, stream, event) -> None:
        stream.append((event,))
        self._some()

    def settle(self, event) -> None:
        # In the order that hides least: what comes last is done first, where nothing stops it.
        while not event.come:
            assert any(self._step(queue) for queue in reversed(self.queues)), "a deadlock"

    def host_room(self, like: torch.Tensor) -> torch.Tensor:
        return torch.empty_like(like)

    def captured(self, work, stream):
        work()
        return work

    def _some(self) -> None:
        for number in self._eager():
            self._step(self.queues[number % len(self.queues)])

    def _step(self, queue) -> bool:
        if not queue:
            return False
        if isinstance(queue[0], tuple) and not queue[0][0].come:
            return False
        work = queue.pop(0)
        if isinstance(work, Event):
            work.come = True
        elif not isinstance(work, tuple):
            with torch.inference_mode():
                work()
        return True


class Sums:
    """A program whose codes tell the batch that they come from."""

    def __init__(self) -> None:
        self.samples = torch.zeros(ROWS, SAMPLES)
        self.frame_mask = torch.zeros(ROWS, FRAMES, dtype=torch.uint8)
        self.codes = torch.zeros(ROWS, FRAMES, BOOKS, dtype=torch.uint16)

    def run(self) -> None:
        total = self.samples.sum(1)[:, None, None] + self.frame_mask[:, :, None]
        self.codes.copy_((total + 100 * torch.arange(BOOKS)).to(torch.int64))


def batch(number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    samples = np.full((ROWS, SAMPLES), number, np.float32) + np.arange(ROWS)[:, None]
    mask = (np.arange(ROWS * FRAMES) + number).reshape(ROWS, FRAMES) % 2 == 0
    codes = samples.sum(1)[:, None, None] + mask[:, None] + 100 * np.arange(BOOKS)[:, None]
    return samples, mask, codes


@given(st.lists(st.booleans(), min_size=1, max_size=8), st.integers(1, 3), st.data())
def test_every_batch_gets_its_own_codes(asked_at_once, depth, data) -> None:
    """Whatever the streams do first and whenever somebody asks, each batch gets its codes."""
    steps = st.lists(st.integers(0, 2), max_size=4)
    overlap = Overlap(Sums(), LazyStreams(lambda: data.draw(steps)), depth)
    pending = []
    for number, at_once in enumerate(asked_at_once):
        samples, mask, expected = batch(number)
        pending.append((overlap.submit(samples, mask), expected))
        # The caller's arrays are its own again.
        samples[:], mask[:] = -1, False
        if at_once:
            assert np.array_equal(pending[-1][0].result(), expected)
    for handle, expected in reversed(pending):
        codes = handle.result()
        assert codes.dtype == np.uint16
        assert codes.flags.c_contiguous
        assert np.array_equal(codes, expected)
        assert handle.result() is codes


def test_nothing_waits_before_somebody_asks() -> None:
    streams = LazyStreams(lambda: [])
    overlap = Overlap(Sums(), streams, depth=2)
    first = overlap.submit(*batch(0)[:2])
    overlap.submit(*batch(1)[:2])
    assert all(queue for queue in streams.queues)  # nothing done yet
    overlap.submit(*batch(2)[:2])  # takes the memory of the first
    assert np.array_equal(first.result(), batch(0)[2])
    overlap.settle()
    assert not any(streams.queues)


@pytest.mark.parametrize("forgotten", [0, 1])
def test_these_streams_notice_a_wait_left_out(forgotten: int) -> None:
    """The test of the test: without one of the two waits, codes are wrong."""

    class Forgetful(LazyStreams):
        waits = 0

        def wait(self, stream, event) -> None:
            Forgetful.waits += 1
            if (Forgetful.waits - 1) % 2 != forgotten:
                super().wait(stream, event)

    overlap = Overlap(Sums(), Forgetful(lambda: []))
    assert not np.array_equal(overlap.submit(*batch(5)[:2]).result(), batch(5)[2])
