"""The CPU's encoder against the plain one, over packed rows."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dac_tokenize.codec import tiled
from dac_tokenize.codec.encoder import TiledEncoder, encode_rows
from dac_tokenize.codec.geometry import encoder_chain
from dac_tokenize.codec.masks import level_gaps, level_masks
from dac_tokenize.codec.rows import PlacedWindow, RowShape
from dac_tokenize.codec.windows import Window
from tests.codec.models import PUBLISHED_SHAPES, published_model, random_clip

CPU = torch.device("cpu")


def packed(name: str, rows: int, frames: int, lengths: list[int]):
    """Rows of clips of so many frames, with masks and gaps."""
    model = published_model(name)
    chain = encoder_chain(model.config.downsampling_ratios)
    shape = RowShape(frames, chain.gap_frames, rows, 1)
    batch, ends = [], [0] * rows
    for number, length in enumerate(lengths):
        row = number % rows
        if ends[row] + length <= frames:
            window = Window((number, 0), np.empty(0), length, 0, length, 0, True)
            batch.append(PlacedWindow(window, row, ends[row]))
            ends[row] += length + chain.gap_frames
    masks = level_masks(batch, chain, shape, CPU, torch.float32)
    samples = torch.from_numpy(random_clip(rows * frames * model.config.hop_length, 5))
    samples = samples.reshape(rows, 1, -1)
    if masks[0] is not None:
        samples = samples * masks[0]
    return model.encoder, samples, masks, level_gaps(batch, chain, shape)


@settings(deadline=None, max_examples=25)
@given(
    name=st.sampled_from([*PUBLISHED_SHAPES]),
    rows=st.integers(1, 3),
    lengths=st.lists(st.integers(1, 30), min_size=1, max_size=6),
    tile=st.integers(9, 11),
)
def test_tiles_give_what_the_plain_encoder_gives(name, rows, lengths, tile) -> None:
    encoder, samples, masks, gaps = packed(name, rows, 32, lengths)
    with pytest.MonkeyPatch.context() as patch, torch.inference_mode():
        patch.setattr(tiled, "_TILE_ELEMENTS_PER_THREAD", 1 << tile)
        tiles = TiledEncoder(encoder, torch.float32)(samples.clone(), gaps)
        plain = encode_rows(encoder, samples.clone(), masks)
    scale = float(plain.abs().max())
    torch.testing.assert_close(tiles / scale, plain / scale, rtol=0, atol=2e-5)


@given(
    lengths=st.lists(st.integers(1, 12), max_size=8),
    rows=st.integers(1, 3),
    name=st.sampled_from([*PUBLISHED_SHAPES]),
)
def test_gaps_are_where_masks_are_zero(lengths, rows, name) -> None:
    _, _, masks, gaps = packed(name, rows, 32, lengths)
    chain = encoder_chain(published_model(name).config.downsampling_ratios)
    for mask, spans, level in zip(masks, gaps, chain.levels, strict=True):
        marked = torch.ones(rows, level.length(32))
        for row, start, stop in spans:
            assert start < stop
            marked[row, start:stop] = 0
        found = torch.ones_like(marked) if mask is None else mask[:, 0]
        assert torch.equal(found, marked)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_loses_less_than_a_model_in_half_precision(dtype) -> None:
    encoder, samples, masks, gaps = packed("16khz", 1, 100, [40, 55])
    samples = samples / 8  # within what float16 holds
    with torch.inference_mode():
        tiles = TiledEncoder(encoder, dtype)(samples.clone(), gaps)
        plain = encode_rows(encoder, samples.clone(), masks)
        halved = copy.deepcopy(encoder).to(dtype)
        half = encode_rows(halved, samples.to(dtype), [mask.to(dtype) for mask in masks])

    def error(latents: torch.Tensor) -> float:
        return float((latents[:, :, :40].float() - plain[:, :, :40]).square().mean().sqrt())

    assert tiles.dtype == torch.float32
    assert 0 < error(tiles) < 0.9 * error(half)
