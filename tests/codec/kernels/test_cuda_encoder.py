"""The whole encoder of kernels against `encode_rows`, by Triton's interpreter."""

import copy

import numpy as np
import pytest
import torch

pytest.importorskip("triton")

from dac_tokenize.codec.cuda import CudaEncoder
from dac_tokenize.codec.encoder import encode_rows
from dac_tokenize.codec.geometry import encoder_chain
from dac_tokenize.codec.kernels.packed import PackedEncoder
from dac_tokenize.codec.kernels.quantize import KernelQuantizer
from dac_tokenize.codec.masks import level_masks
from dac_tokenize.codec.quantizer import ResidualQuantizer
from dac_tokenize.codec.rows import PlacedWindow, RowShape
from dac_tokenize.codec.stream import fill_rows
from dac_tokenize.codec.ways import compile_side_by_side, likeliest_way
from dac_tokenize.codec.windows import Window
from tests.codec.models import random_clip, random_model

pytestmark = pytest.mark.usefixtures("interpreted")
CPU = torch.device("cpu")
ROWS = 2
SHAPES = {
    "short": {"downsampling_ratios": (2, 4), "frames": 19},
    "12 wide": {"downsampling_ratios": (5,), "frames": 12, "width": 12},
}


def batch_of(chain, frames: int) -> tuple[list[PlacedWindow], torch.Tensor, list]:
    """Two windows in the first row, one in the second; their samples and masks."""
    hop = chain.levels[0].positions_per_frame
    third = frames // 3
    places = [(0, 0, third), (0, third + chain.gap_frames, 2), (1, 0, frames - 1)]
    batch = [
        PlacedWindow(Window((i, 0), random_clip(n * hop, i), n, 0, n, 0, True), row, start)
        for i, (row, start, n) in enumerate(places)
    ]
    shape = RowShape(frames, chain.gap_frames, ROWS, 4)
    samples = torch.from_numpy(fill_rows(batch, shape, np.zeros((1, frames * hop), np.float32)))
    return batch, samples, level_masks(batch, chain, shape, CPU, torch.float32)


def prepared(name: str, precision: str, choose):
    options = dict(SHAPES[name])
    frames, width = options.pop("frames"), options.pop("width", 8)
    torch.manual_seed(0)
    model = random_model(width, n_codebooks=3, codebook_size=64, codebook_dim=5, **options)
    packed = PackedEncoder(model.encoder, precision, CPU)
    plain = ResidualQuantizer(model.quantizer, 3, CPU)
    quantizer = KernelQuantizer(plain, packed.last.out_channels)
    ours = CudaEncoder(packed, quantizer, ROWS, frames, choose)
    return model, plain, ours, batch_of(encoder_chain(options["downsampling_ratios"]), frames)


def assert_as_near(model, samples, masks, latents) -> None:
    """Compared with float64, `latents` err by no more than the plain form does."""
    wide = [mask if mask is None else mask.double() for mask in masks]
    exact = encode_rows(copy.deepcopy(model.encoder).double(), samples.double(), wide)
    plain = encode_rows(model.encoder, samples, masks)
    heard = torch.ones_like(exact[:, :1]) if masks[-1] is None else masks[-1]
    heard = heard.bool().expand_as(exact)
    error, usual = (latents - exact)[heard].norm(), (plain - exact)[heard].norm()
    assert error < 1.2 * usual
    assert error < 1e-5 * exact[heard].norm()


@pytest.mark.parametrize(("name", "library"), [("short", True), ("12 wide", False)])
@torch.inference_mode()
def test_latents_and_codes_are_those_of_the_plain_form(monkeypatch, name, library) -> None:
    if library:
        monkeypatch.setattr("dac_tokenize.codec.kernels.tiles._LIBRARY_CHANNELS", 1)
    model, plain, ours, (_, samples, masks) = prepared(name, "float32", likeliest_way)
    expected = encode_rows(model.encoder, samples, masks)
    latents = ours(samples, masks)
    assert_as_near(model, samples, masks, latents)
    ours.run()
    codes = ours.codes.permute(0, 2, 1).to(torch.int64)
    heard = masks[-1].bool().expand_as(codes)
    assert torch.equal(codes[heard], plain.encode(latents)[heard])
    assert torch.equal(codes[heard], plain.encode(expected)[heard])


@pytest.mark.parametrize(("precision", "way"), [("float16", -1), ("bfloat16", 0)])
@torch.inference_mode()
def test_half_precision_is_near(precision: str, way: int) -> None:
    """As near to float32 as the plain form in the same precision, or nearer."""
    model, _, ours, (_, samples, masks) = prepared(
        "short", precision, lambda key, ways: way % len(ways)
    )
    expected = encode_rows(model.encoder, samples, masks)
    heard = masks[-1].bool().expand_as(expected)
    half = copy.deepcopy(model.encoder).to(ours._packed.dtype)
    halves = [mask if mask is None else mask.to(ours._packed.dtype) for mask in masks]
    rounded = encode_rows(half, samples.to(ours._packed.dtype), halves).float()
    error = (ours(samples, masks) - expected)[heard].norm()
    # The interpreter cuts bfloat16 off where a GPU rounds.
    factor = 1.1 if precision == "float16" else 4.0
    assert 0 < error < factor * (rounded - expected)[heard].norm()


@torch.inference_mode()
def test_rows_wholly_filled_need_no_mask() -> None:
    model, _, ours, (_, samples, _) = prepared("short", "float32", likeliest_way)
    noise = torch.randn_like(samples)
    whole = [None] * 10
    ours.frame_mask.zero_()
    assert_as_near(model, noise, whole, ours(noise, whole))


@torch.inference_mode()
def test_a_batch_leaves_nothing_behind() -> None:
    """Buffers are kept from batch to batch: the second batch is none the wiser."""
    _, _, ours, (_, samples, masks) = prepared("12 wide", "float32", likeliest_way)
    heard = masks[-1].bool()
    first = ours(samples, masks).clone()
    ours(torch.full_like(samples, 5.0), [None] * 10)
    again = ours(samples, masks)
    heard = heard.expand_as(first)
    assert torch.equal(again[heard], first[heard])


@pytest.mark.parametrize(("precision", "library"), [("bfloat16", False), ("float32", True)])
@torch.inference_mode()
def test_compiling_leaves_every_buffer_alone(monkeypatch, precision: str, library: bool) -> None:
    if library:
        monkeypatch.setattr("dac_tokenize.codec.kernels.tiles._LIBRARY_CHANNELS", 1)
    _, _, ours, (_, samples, masks) = prepared("short", precision, likeliest_way)
    ours(samples, masks)
    ours.run()
    latents, codes, sums = ours._latents.data.clone(), ours.codes.clone(), ours._sums.clone()
    ours.samples.fill_(3.0)

    def ran(*_, **__):
        raise AssertionError("a kernel ran")

    monkeypatch.setattr("triton.runtime.interpreter.GridExecutor.__call__", ran)
    monkeypatch.setattr(torch, "mm", ran)
    compile_side_by_side(ours.steps, 1)
    assert torch.equal(ours._latents.data, latents)
    assert torch.equal(ours.codes, codes)
    assert torch.equal(ours._sums, sums)
