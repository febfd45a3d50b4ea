"""How long a GPU's first run in an empty cache compiles, measured without a GPU.

    python -m benchmarks.compiling

A run compiles what a short job needs before its first batch, side by side; Triton keeps it on disk.
Here the same code compiles for a Hopper GPU (sm_90), on one thread and on one for each core.
"""

import argparse
import os
import tempfile
import time

from benchmarks.common import print_table, write_json


def measure(precision: str, shape: str, num_threads: int) -> tuple[int, float]:
    """Compile anew; return how many kernels it was and the seconds."""
    from dac_tokenize.codec.ways import compile_side_by_side
    from tests.codec.kernels.hopper import compiled_kernels, hopper, steps_of

    steps = steps_of(shape, precision)
    with tempfile.TemporaryDirectory() as folder, hopper():
        os.environ["TRITON_CACHE_DIR"] = folder
        start = time.perf_counter()
        compile_side_by_side(steps, num_threads)
        return len(compiled_kernels()), time.perf_counter() - start


def main(given: list[str] | None = None) -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=["16khz", "24khz", "44khz"], default="44khz")
    options = parser.parse_args(given)
    rows = []
    for precision in ("float32", "tf32", "bfloat16"):
        for num_threads in sorted({1, os.cpu_count() or 1}):
            rows.append((precision, num_threads, *measure(precision, options.shape, num_threads)))
    columns = ("precision", "threads", "kernels", "seconds")
    print_table(columns, rows)
    written = [dict(zip(columns, row, strict=True)) for row in rows]
    write_json("compiling", {"shape": options.shape, "target": "sm_90", "runs": written})


if __name__ == "__main__":
    main()
