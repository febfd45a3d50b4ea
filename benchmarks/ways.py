"""Ways to do the same to the same clips, taking turns: what `encode` and `decode` compare by."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from benchmarks.common import timed
from benchmarks.memory import peak_bytes, reset_peak_bytes

BATCH = 16
Arrays = list[np.ndarray]


def one_by_one(work: Callable[[Arrays], Arrays], clips: Arrays) -> Arrays:
    """A: one clip at a time."""
    return [work([clip])[0] for clip in clips]


def in_batches(work: Callable[[Arrays], Arrays], clips: Arrays) -> Arrays:
    """B: padded batches in file order."""
    return [r for i in range(0, len(clips), BATCH) for r in work(clips[i : i + BATCH])]


def sorted_batches(work: Callable[[Arrays], Arrays], clips: Arrays) -> Arrays:
    """C: padded batches, sorted by length."""
    order = sorted(range(len(clips)), key=lambda i: clips[i].shape[-1])
    results = in_batches(work, [clips[i] for i in order])
    back: Arrays = [np.empty(0)] * len(clips)
    for i, result in zip(order, results, strict=True):
        back[i] = result
    return back


def take_turns(
    plain: Callable[[Arrays], Arrays],
    ours: Callable[[Arrays], Arrays],
    clips: Arrays,
    device: torch.device,
    repeats: int,
) -> tuple[dict[str, float], dict[str, Arrays], dict[str, int]]:
    """Run the three plain ways and ours, `repeats` times in turn.

    Returns:
        For each way, A to D in order: its best seconds, its results, its peak memory in bytes: of
        the GPU, or of this process, the codec and the clips included.
    """
    ways: dict[str, Callable[[], Arrays]] = {
        "A one by one": lambda: one_by_one(plain, clips),
        "B batches of 16": lambda: in_batches(plain, clips),
        "C sorted batches": lambda: sorted_batches(plain, clips),
        "D dac_tokenize": lambda: ours(clips),
    }
    best, results, peak = dict.fromkeys(ways, math.inf), {}, {}
    for _ in range(repeats):
        for name, way in ways.items():
            on_gpu = device.type == "cuda"
            (torch.cuda.reset_peak_memory_stats if on_gpu else reset_peak_bytes)()
            elapsed, results[name] = timed(way)
            best[name] = min(best[name], elapsed)
            peak[name] = int(torch.cuda.max_memory_allocated() if on_gpu else peak_bytes())
    return best, results, peak


def compared_cells(name: str, ways: dict[str, dict[str, Any]]) -> Sequence[Any]:
    """Return the cells of a table's row that both benchmarks print, `COMPARED_COLUMNS`."""
    speed = {way: figures["hours_per_hour"] for way, figures in ways.items()}
    return [
        name,
        speed[name],
        *(speed[name] / other for other in list(speed.values())[:3]),
        ways[name]["share_of_matmul_rate"],
        ways[name]["peak_bytes"] // 2**20,
    ]


COMPARED_COLUMNS = ("way", "hours/hour", "to A", "to B", "to C", "of matmul", "peak MB")
