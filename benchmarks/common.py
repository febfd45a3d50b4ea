"""What all benchmarks share: hardware, versions, clip lengths, tables and JSON files."""

import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

FOLDER = Path(__file__).parent
PACKAGES = ("dac-tokenize", "torch", "transformers", "numpy", "pyarrow", "soundfile", "soxr")

# Quantiles of the durations of 568 recorded voice prompts, seconds.
PROMPT_MEDIAN_SECONDS = 1.4
PROMPT_SPREAD = 1.04  # of the logarithm, so that 5 % are over 7.7 s
PROMPT_RANGE_SECONDS = (0.3, 73.0)
SONG_RANGE_SECONDS = (180.0, 300.0)


def hardware() -> dict[str, Any]:
    """Return what a figure depends on: processor, cores, GPU, versions."""
    found = {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
    }
    return found | {name: version(name) for name in PACKAGES}


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def prompt_seconds(total_seconds: float, seed: int = 0) -> list[float]:
    """Return durations drawn as those of voice prompts are, `total_seconds` of them in all."""
    generator = np.random.default_rng(seed)
    durations: list[float] = []
    while sum(durations) < total_seconds:
        drawn = np.exp(generator.normal(np.log(PROMPT_MEDIAN_SECONDS), PROMPT_SPREAD))
        durations.append(float(np.clip(drawn, *PROMPT_RANGE_SECONDS)))
    return durations


def song_seconds(total_seconds: float, seed: int = 0) -> list[float]:
    """Return durations of songs, from 3 to 5 minutes, `total_seconds` of them in all."""
    generator = np.random.default_rng(seed)
    durations: list[float] = []
    while sum(durations) < total_seconds:
        durations.append(float(generator.uniform(*SONG_RANGE_SECONDS)))
    return durations


def synchronize() -> None:
    """Wait for the GPU, if there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Return the seconds that `work` took and what it returned."""
    synchronize()
    start = time.perf_counter()
    result = work()
    synchronize()
    return time.perf_counter() - start, result


def matmul_rate(device: str, dtype: torch.dtype, seconds: float = 1.0) -> float:
    """Return the floating-point operations per second of a square matrix product."""
    # Large enough for a GPU that starting and waiting for a product takes no part in its time.
    size = 8192 if torch.device(device).type == "cuda" else 2048
    left = torch.randn(size, size, device=device).to(dtype)
    right = torch.randn(size, size, device=device).to(dtype)
    best, spent = 0.0, 0.0
    while spent < seconds:
        elapsed, _ = timed(lambda: left @ right)
        spent += elapsed
        best = max(best, 2 * size**3 / elapsed)
    return best


def print_table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print a table in Markdown."""
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max(len(r[i]) for r in [list(columns), *cells]) for i in range(len(columns))]
    for row in [list(columns), ["-" * width for width in widths], *cells]:
        print("| " + " | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) + " |")


def _cell(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def write_json(name: str, values: dict[str, Any]) -> None:
    """Write a benchmark's figures, with the hardware they were measured on."""
    path = FOLDER / f"{name}.json"
    path.write_text(json.dumps({"hardware": hardware()} | values, indent=2) + "\n")
    print(f"\nwritten to {path.relative_to(FOLDER.parent)}")
