"""Each kernel against its plain reference, over odd shapes, by Triton's interpreter."""

import pytest
import torch
from transformers.models.dac.modeling_dac import Snake1d

pytest.importorskip("triton")

from dac_tokenize.codec.kernels.convolution import (
    convolve,
    convolve_by_library,
    convolve_reference,
)
from dac_tokenize.codec.kernels.ending import Ending
from dac_tokenize.codec.kernels.first import (
    convolve_samples,
    convolve_samples_reference,
    pack_first,
)
from dac_tokenize.codec.kernels.sheets import Sheet, Snake, Weights, filled
from dac_tokenize.codec.kernels.tiles import Tile
from dac_tokenize.codec.kernels.unit import run_unit, unit_reference

pytestmark = pytest.mark.usefixtures("interpreted")
CPU = torch.device("cpu")
TOLERANCES = {
    torch.float32: {"atol": 2e-6, "rtol": 1e-5},
    torch.float16: {"atol": 2e-3, "rtol": 2e-3},
    torch.bfloat16: {"atol": 2e-2, "rtol": 2e-2},
}
PRECISIONS = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}
HALVES = ["float16", "bfloat16"]


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def snake(channels: int) -> Snake:
    module = Snake1d(channels)
    torch.nn.init.uniform_(module.alpha, 0.3, 3.0)
    return Snake.pack(module, filled(channels), CPU)


def noise(rows: int, positions: int, channels: int, dtype: torch.dtype, halo: int = 0) -> Sheet:
    """A sheet of noise; the channels that only fill up are zero, as they are in a codec."""
    sheet = Sheet.make(rows, positions, filled(channels), dtype, CPU, halo)
    sheet.inside[:, :, :channels] = torch.randn(rows, positions, channels).to(dtype)
    return sheet


def endings(rows, positions, channels, dtype, *, residual, mask, plain, snaked):
    """Two equal endings that store in sheets of their own."""
    added = noise(rows, positions, channels, dtype) if residual else None
    frames = torch.rand(rows, 5) < 0.6 if mask else None
    frame_mask = None if frames is None else frames.to(torch.uint8)
    following = snake(channels) if snaked else None

    def one() -> Ending:
        size = filled(channels)
        return Ending(
            Sheet.make(rows, positions, size, dtype, CPU) if plain else None,
            Sheet.make(rows, positions, size, dtype, CPU, halo=4) if snaked else None,
            following,
            None if added is None else Sheet(added.data.clone(), 0),
            frame_mask,
        )

    return one(), one()


def assert_same(ours: Ending, expected: Ending, dtype: torch.dtype) -> None:
    for one, other in ((ours.plain, expected.plain), (ours.snaked, expected.snaked)):
        assert (one is None) == (other is None)
        if one is not None:
            assert one.data.abs().max() > 0.1
            torch.testing.assert_close(one.data, other.data, **TOLERANCES[dtype])


CONVOLUTIONS = {
    "7 taps": {"kernel_size": 7, "padding": 3},
    "7 taps, dilation 3": {"kernel_size": 7, "padding": 9, "dilation": 3},
    "7 taps, dilation 9": {"kernel_size": 7, "padding": 27, "dilation": 9},
    "1 tap": {"kernel_size": 1},
    "3 taps": {"kernel_size": 3, "padding": 1},
    "stride 2": {"kernel_size": 4, "padding": 1, "stride": 2},
    "stride 5": {"kernel_size": 10, "padding": 3, "stride": 5},
    "stride 8": {"kernel_size": 16, "padding": 4, "stride": 8},
}


@pytest.mark.parametrize(
    ("name", "precision"),
    [(name, "float32") for name in CONVOLUTIONS]
    + [(name, half) for name in ("7 taps", "1 tap", "stride 5") for half in HALVES],
)
def test_convolution(name, precision) -> None:
    dtype = PRECISIONS[precision]
    options = CONVOLUTIONS[name]
    stride = options.get("stride", 1)
    positions = 35
    layer = torch.nn.Conv1d(24, 40, **options)
    source = noise(2, positions * stride, 24, dtype, halo=27)
    weights = Weights.pack(layer, 32, 64, dtype, CPU, depth_first=name == "7 taps")
    strided = stride > 1
    made = endings(
        2, positions, 40, dtype, residual=name == "1 tap", mask=strided, plain=True, snaked=True
    )
    tile = Tile(16, 32, 16, 4, 2).fitted(64, weights.depth)
    convolve(source, weights, positions, made[0], precision, tile)
    convolve_reference(source, weights, positions, made[1])
    assert_same(*made, dtype)
    if made[1].residual is None and not strided:
        with torch.inference_mode():
            rounded = layer.to(dtype).float()
            expected = rounded(source.inside[:, :, :24].float().transpose(1, 2))
        ours = made[0].plain.inside[:, :, :40].float().transpose(1, 2)
        torch.testing.assert_close(ours, expected, **TOLERANCES[dtype])


@pytest.mark.parametrize("name", ["7 taps, dilation 9", "1 tap", "stride 5"])
def test_convolution_by_library(name) -> None:
    options = CONVOLUTIONS[name]
    stride = options.get("stride", 1)
    layer = torch.nn.Conv1d(24, 40, **options)
    source = noise(2, 35 * stride, 24, torch.float32, halo=27)
    weights = Weights.pack(layer, 32, 64, torch.float32, CPU)
    wanted = {"residual": True, "mask": True, "plain": True, "snaked": True}
    made = endings(2, 35, 40, torch.float32, **wanted)
    convolve_by_library(source, weights, 35, made[0], torch.empty(2 * 35 * 64 + 3))
    convolve_reference(source, weights, 35, made[1])
    assert_same(*made, torch.float32)


@pytest.mark.parametrize(
    ("precision", "dilation", "plain"),
    [("float32", 1, False), ("float32", 9, True), ("float16", 3, True), ("bfloat16", 9, True)],
)
def test_residual_unit(precision, dilation, plain) -> None:
    dtype = PRECISIONS[precision]
    source = noise(2, 35, 24, dtype, halo=27)
    layers = [
        torch.nn.Conv1d(24, 24, 7, dilation=dilation, padding=3 * dilation),
        torch.nn.Conv1d(24, 24, 1),
    ]
    first, second = (Weights.pack(layer, 32, 32, dtype, CPU) for layer in layers)
    made = endings(2, 35, 24, dtype, residual=True, mask=True, plain=plain, snaked=True)
    inner = snake(24)
    run_unit(source, first, inner, second, made[0], precision, Tile(16, 32, 16, 4, 2))
    unit_reference(source, first, inner, second, made[1])
    assert_same(*made, dtype)


def test_result_may_take_the_place_of_the_residual() -> None:
    source = noise(2, 35, 24, torch.float32, halo=27)
    weights = Weights.pack(torch.nn.Conv1d(24, 40, 1), 32, 64, torch.float32, CPU)
    wanted = {"residual": True, "mask": True, "plain": True, "snaked": True}
    made = endings(2, 35, 40, torch.float32, **wanted)
    shared = made[0].residual
    ours = Ending(shared, made[0].snaked, made[0].snake, shared, made[0].frame_mask)
    convolve(source, weights, 35, ours, "float32", Tile(16, 32, 16, 4, 2))
    convolve_reference(source, weights, 35, made[1])
    assert_same(ours, made[1], torch.float32)


@pytest.mark.parametrize("channels", [12, 64])
def test_first_convolution(channels: int) -> None:
    samples = torch.randn(2, 75)
    layer = torch.nn.Conv1d(1, channels, 7, padding=3)
    weight, bias = pack_first(layer, filled(channels), CPU)
    wanted = {"residual": False, "mask": True, "plain": True, "snaked": True}
    made = endings(2, 75, channels, torch.float32, **wanted)
    convolve_samples(samples, weight, bias, made[0])
    convolve_samples_reference(samples, weight, bias, made[1])
    assert_same(*made, torch.float32)


def test_snake_over_all_magnitudes() -> None:
    """Within rounding of the exact snake wherever the angle itself is exact; finite everywhere."""
    x = torch.cat([torch.randn(400) * 10.0**power for power in range(-6, 7)]).reshape(1, -1, 16)
    module = Snake1d(16)
    module.alpha.data.fill_(2.0)
    packed = Snake.pack(module, 16, CPU)
    identity = torch.nn.Conv1d(16, 16, 1)
    identity.weight.data.copy_(torch.eye(16)[:, :, None])
    identity.bias.data.zero_()
    weights = Weights.pack(identity, 16, 16, torch.float32, CPU)
    snaked = Sheet.make(1, x.shape[1], 16, torch.float32, CPU)
    ending = Ending(snaked=snaked, snake=packed)
    convolve(Sheet(x, 0), weights, x.shape[1], ending, "float32", Tile(64, 16, 16, 4, 1))
    wide = x.double()
    exact = wide + torch.sin(2 * wide) ** 2 / 2
    # A turn more is half a unit in the last place of the angle more where nothing is fused.
    torch.testing.assert_close(snaked.data.double(), exact, atol=1e-7, rtol=4e-7)
    snaked.data.fill_(float("nan"))
    huge = Sheet(torch.full((1, 2, 16), 3e37), 0)
    convolve(huge, weights, 2, ending, "float32", Tile(16, 16, 16, 4, 1))
    assert torch.equal(snaked.data[:, :2], huge.data)
