"""Which of several ways to do a step is taken on a device: measured once, kept for the process."""

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch

Way = Callable[[], None]
Choose = Callable[[Hashable, Sequence[Way]], int]
_RUNS = 3
# A way further down the list must gain this much, so that chance does not decide between equals.
_GAIN = 1.05


class FastestWay:
    """Times the ways of a step where they are first met; takes the fastest ever after.

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
        return self._taken[key]

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


def first_way(key: Hashable, ways: Sequence[Way]) -> int:
    """Take the first without measuring: the one that is likely best."""
    return 0
