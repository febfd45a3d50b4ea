"""Which of several ways to do a step is taken on a device; all of them give the same bits.

A short job takes the likeliest, all compiled side by side, so that it does not wait for what it
will not use. A long one measures once and keeps the fastest for the process.
"""

import itertools
from collections.abc import Callable, Hashable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import torch


class Way(Protocol):
    """A step, done in one certain way."""

    def __call__(self, *, compile_only: bool = False) -> None:
        """Do it, or just compile what it needs."""


Choose = Callable[[Hashable, Sequence[Way]], int]
"""Takes what identifies a step and the ways to do it; returns the index of one."""
_RUNS = 3
# A way further down the list must gain this much, so that chance does not decide between equals.
_GAIN = 1.05


def likeliest_way(key: Hashable, ways: Sequence[Way]) -> int:
    """Return 0: ways come with the likeliest first. Runs none."""
    return 0


class WorkingWay:
    """Takes the first way that the device does not refuse, and runs it.

    Args:
        refusals: exceptions by which a way says that this device cannot run it.
    """

    def __init__(self, refusals: tuple[type[Exception], ...]) -> None:
        self._refusals = refusals

    def __call__(self, key: Hashable, ways: Sequence[Way]) -> int:
        """Return the index of the way to take."""
        for index, way in enumerate(ways[:-1]):
            try:
                way()
            except self._refusals:
                continue
            return index
        ways[-1]()
        return len(ways) - 1


class FastestWay:
    """Times the ways of a step where they are first met; takes the fastest ever after, and runs it.

    Args:
        seconds: runs a way and returns how long it took.
        refusals: exceptions by which a way says that this device cannot run it.
    """

    def __init__(
        self, seconds: Callable[[Way], float], refusals: tuple[type[Exception], ...] = ()
    ) -> None:
        self._seconds = seconds
        self._refusals = refusals
        self._taken: dict[Hashable, int] = {}

    def __call__(self, key: Hashable, ways: Sequence[Way]) -> int:
        """Return the index of the way to take for the step that `key` identifies."""
        if key not in self._taken:
            self._taken[key] = self._fastest(ways)
        taken = self._taken[key]
        ways[taken]()  # for the next step, which is timed on what this one gives
        return taken

    def _fastest(self, ways: Sequence[Way]) -> int:
        if len(ways) == 1:
            return 0
        best, fastest = -1, float("inf")
        refused: Exception | None = None
        for index, way in enumerate(ways):
            try:
                way()  # compiles
                seconds = min(self._seconds(way) for _ in range(_RUNS))
            except self._refusals as error:
                refused = error
                continue
            if best < 0 or seconds * _GAIN < fastest:
                best, fastest = index, seconds
        if best < 0:
            assert refused is not None
            raise refused
        return best


def cuda_seconds(way: Way) -> float:
    """Return how long the current CUDA device takes for `way`."""
    cuda: Any = torch.cuda
    start, stop = cuda.Event(enable_timing=True), cuda.Event(enable_timing=True)
    start.record()
    way()
    stop.record()
    stop.synchronize()
    return float(start.elapsed_time(stop)) / 1000.0


def compile_side_by_side(
    ways: Iterable[Way], num_threads: int, prepare: Callable[[], None] = lambda: None
) -> None:
    """Compile what `ways` need, several at once: compilers run without Python's lock.

    The first is compiled before the others, in this thread: what a compiler sets up but once is
    then there. What fails in company is compiled again alone: Triton parses its kernels' source,
    and Python 3.11 cannot always do so in two threads at once (cpython issue 106905).

    Args:
        ways: each compiled once.
        num_threads: how many at once.
        prepare: called first in every other thread, for instance to choose the device.
    """
    waiting = iter(ways)
    for way in itertools.islice(waiting, 1):
        way(compile_only=True)
    with ThreadPoolExecutor(num_threads, "compile", prepare) as pool:
        started = [(way, pool.submit(way, compile_only=True)) for way in waiting]
    for way, compiling in started:
        if compiling.exception() is not None:
            way(compile_only=True)
