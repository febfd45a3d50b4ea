"""What the kernels become on a Hopper GPU, by compiling them for one; none is needed for that."""

import os
import re
import subprocess
import tempfile
from pathlib import Path

import pytest

triton = pytest.importorskip("triton")

from triton.backends.compiler import GPUTarget  # noqa: E402
from triton.compiler import ASTSource  # noqa: E402

from dac_tokenize.codec.kernels import convolution, first, quantize, unit  # noqa: E402
from dac_tokenize.codec.kernels.tiles import (  # noqa: E402
    convolution_tiles,
    input_precision,
    unit_tiles,
)

HOPPER = GPUTarget("cuda", 90, 32)
SHARED_MEMORY_BYTES = 227 * 1024
TOOLS = Path(triton.__file__).parent / "backends/nvidia/bin"
TYPES = {"float16": "*fp16", "bfloat16": "*bf16", "float32": "*fp32", "tf32": "*fp32"}
ACTIVATIONS = ("source", "weight", "second_weight", "residual", "plain", "snaked")
# Row and tap steps are whole positions, of at least 16 channels; positions and frames are any.
ANY_NUMBER = ("taps", "num_positions", "num_samples", "num_frames", "mask_row", "num_codebooks")
FLOATS = (
    *("bias", "alpha", "reciprocal", "inner_alpha", "inner_reciprocal", "second_bias", "samples"),
    *("sums", "projected", "entries", "squares", "contributions"),
)
POINTERS = {"frame_mask": "*u8", "codes": "*u16"} | dict.fromkeys(FLOATS, "*fp32")


def compiled(kernel, precision: str, constants: dict, options: dict) -> dict:
    """Compile for Hopper; return registers, stack and shared memory (bytes), and the PTX."""
    activations = [name for name in ACTIVATIONS if name != "weight" or "source" in kernel.arg_names]
    kinds = POINTERS | {"weight": "*fp32"} | dict.fromkeys(activations, TYPES[precision])
    signature, attributes = {}, {}
    for index, name in enumerate(kernel.arg_names):
        signature[name] = "constexpr" if name in constants else kinds.get(name, "i32")
        if name not in constants and name not in (*ANY_NUMBER, "positions_per_frame"):
            attributes[(index,)] = [["tt.divisibility", 16]]
    source = ASTSource(kernel, signature, constants, attributes)
    built = triton.compile(source, target=HOPPER, options=options)
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        Path(file.name).write_bytes(built.asm["cubin"])
        usage = subprocess.run(
            [TOOLS / "cuobjdump", "-res-usage", file.name], capture_output=True, text=True
        )
    found = re.search(r"REG:(\d+) STACK:(\d+)", usage.stdout + usage.stderr)
    assert found, usage.stdout + usage.stderr
    registers, stack = map(int, found.groups())
    return {
        "registers": registers,
        "stack": stack,
        "shared": built.metadata.shared,
        "ptx": built.asm["ptx"],
    }


def assert_fits(report: dict, *what) -> None:
    print(*what, {name: value for name, value in report.items() if name != "ptx"})
    assert report["stack"] == 0, "registers were spilled"
    assert report["shared"] <= SHARED_MEMORY_BYTES


def flags(residual=False, masked=False, plain=False, snaked=False) -> dict:
    return {"HAS_RESIDUAL": residual, "MASKED": masked, "PLAIN": plain, "SNAKED": snaked}


VARIANTS = {
    "between": flags(snaked=True),
    "unit": flags(residual=True, masked=True, plain=True, snaked=True),
    "last unit": flags(residual=True, masked=True, snaked=True),
    "strided": flags(masked=True, plain=True, snaked=True),
    "last strided": flags(masked=True, snaked=True),
    "last": flags(plain=True),
}
# All combinations compile in minutes; DAC_TOKENIZE_ALL_TILES=1 asks for them. float16 is as
# bfloat16 but for the conversions, and what "unit" does is all that the others do.
EVERY = os.environ.get("DAC_TOKENIZE_ALL_TILES") == "1"


def tile_cases() -> list:
    cases = []
    for precision in TYPES if EVERY else ("float32", "tf32", "bfloat16"):
        for channels in (64, 512):
            for tile in convolution_tiles(precision, channels, channels):
                for variant in VARIANTS if EVERY else ("unit",):
                    cases.append((precision, tile, variant))
    return list(dict.fromkeys(cases))


@pytest.mark.parametrize(("precision", "tile", "variant"), tile_cases(), ids=str)
def test_convolution(precision, tile, variant) -> None:
    constants = VARIANTS[variant] | {
        "PRECISION": input_precision(precision),
        "BLOCK_M": tile.positions,
        "BLOCK_N": tile.channels,
        "BLOCK_K": tile.depth,
        "weight_k" if precision == "tf32" else "weight_n": 1,
    }
    report = compiled(convolution.convolve_kernel, precision, constants, tile.options)
    assert_fits(report, "convolution", precision, tile, variant)
    assert ("wgmma.mma_async" in report["ptx"]) == (precision != "float32")


@pytest.mark.parametrize("precision", list(TYPES) if EVERY else ["bfloat16", "tf32"])
@pytest.mark.parametrize("channels", [64, 128])
def test_unit(precision: str, channels: int) -> None:
    for tile in unit_tiles(precision, channels):
        constants = {
            "PLAIN": True,
            "PRECISION": input_precision(precision),
            "CHANNELS": channels,
            "BLOCK_M": tile.positions,
            "BLOCK_K": tile.depth,
        }
        for name in ("weight", "second_weight"):
            constants[f"{name}_k" if precision == "tf32" else f"{name}_n"] = 1
        report = compiled(unit.unit_kernel, precision, constants, tile.options)
        assert_fits(report, "unit", precision, channels, tile)
        assert "wgmma.mma_async" in report["ptx"]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_first_and_finish(precision: str) -> None:
    options = {"num_warps": 4, "enable_fp_fusion": True}
    sizes = {"TAPS": 7, "BLOCK_M": 64, "BLOCK_N": 64}
    assert_fits(compiled(first.first_kernel, precision, sizes, options), "first", precision)
    if precision == "float32":
        sizes = {"BLOCK_M": 32, "BLOCK_N": 128}
        for variant in VARIANTS.values() if EVERY else [VARIANTS["unit"]]:
            report = compiled(convolution.finish_kernel, precision, sizes | variant, options)
            assert_fits(report, "finish", variant)


@pytest.mark.parametrize(("width", "block_m"), [(128, 32), (256, 16)])
def test_quantizer(width: int, block_m: int) -> None:
    sizes = {"WIDTH": width, "DIM": 8, "BLOCK_M": block_m, "BLOCK_C": 128}
    options = {"num_warps": 4, "enable_fp_fusion": True}
    report = compiled(quantize.quantize_kernel, "float32", sizes, options)
    assert_fits(report, "quantizer", width)
