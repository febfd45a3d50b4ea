"""What the kernels become on a Hopper GPU, by compiling them for one; none is needed for that."""

import os
import re
import subprocess
import tempfile
from pathlib import Path

import pytest

triton = pytest.importorskip("triton")

from dac_tokenize.codec.precision import PRECISIONS  # noqa: E402
from dac_tokenize.codec.ways import compile_side_by_side, likeliest_way  # noqa: E402
from tests.codec.kernels.hopper import compiled_kernels, hopper, steps_of  # noqa: E402

SHARED_MEMORY_BYTES = 227 * 1024
TOOLS = Path(triton.__file__).parent / "backends/nvidia/bin"
# Everything compiles in minutes; DAC_TOKENIZE_ALL_TILES=1 asks for it. float16 is as bfloat16 but
# for the conversions, and what a short job does not use is the likeliest tile in another size.
EVERY = os.environ.get("DAC_TOKENIZE_ALL_TILES") == "1"
MOST_KERNELS = 20
"""A short job waits for so many."""


def registers_and_stack(built) -> tuple[int, int]:
    """Return what a thread of a kernel takes: registers, and bytes of those that were spilled."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        Path(file.name).write_bytes(built.asm["cubin"])
        usage = subprocess.run(
            [TOOLS / "cuobjdump", "-res-usage", file.name], capture_output=True, text=True
        )
    found = re.search(r"REG:(\d+) STACK:(\d+)", usage.stdout + usage.stderr)
    assert found, usage.stdout + usage.stderr
    return int(found[1]), int(found[2])


@pytest.mark.parametrize("precision", PRECISIONS if EVERY else ["float32", "tf32", "bfloat16"])
@pytest.mark.parametrize("way", range(4) if EVERY else [0])
def test_all_kernels_of_an_encoder(monkeypatch, tmp_path, precision: str, way: int) -> None:
    """Those that a run compiles before its first batch, compiled as it does."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    choose = (lambda key, ways: min(way, len(ways) - 1)) if way else likeliest_way
    steps = steps_of("44khz", precision, choose)
    with hopper():
        compile_side_by_side(steps, 2)
        kernels = compiled_kernels()
    for built in kernels:
        registers, stack = registers_and_stack(built)
        shared = built.metadata.shared
        print(precision, built.metadata.name, f"{registers=} {stack=} {shared=}")
        assert stack == 0, "registers were spilled"
        assert shared <= SHARED_MEMORY_BYTES
    names = {built.metadata.name for built in kernels}
    assert names >= {"first_kernel", "convolve_kernel", "quantize_kernel"}
    products = [k for k in kernels if k.metadata.name in ("convolve_kernel", "unit_kernel")]
    on_ordinary_cores = [k for k in products if "wgmma.mma_async" not in k.asm["ptx"]]
    # In every precision the quantizer's projections are float32 as they are.
    assert len(on_ordinary_cores) == (len(products) if precision == "float32" else 1)
    assert way or len(kernels) <= MOST_KERNELS
