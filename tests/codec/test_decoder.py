"""The CPU's decoder against the plain one, over packed rows."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dac_tokenize.codec import tiled
from dac_tokenize.codec.decoder import RowDecoder, TiledDecoder
from dac_tokenize.codec.geometry import decoder_chain
from dac_tokenize.codec.masks import level_gaps, level_masks
from dac_tokenize.codec.rows import PlacedWindow, RowShape
from dac_tokenize.codec.windows import Window
from tests.codec.models import PUBLISHED_SHAPES, published_model

CPU = torch.device("cpu")


@settings(deadline=None, max_examples=20)
@given(
    name=st.sampled_from([*PUBLISHED_SHAPES]),
    rows=st.integers(1, 2),
    lengths=st.lists(st.integers(1, 14), min_size=1, max_size=3),
    tile=st.integers(9, 11),
)
def test_tiles_give_what_the_plain_decoder_gives(name, rows, lengths, tile) -> None:
    model = published_model(name)
    chain = decoder_chain(model.config.downsampling_ratios[::-1])
    shape = RowShape(16 * len(lengths), chain.gap_frames, rows, 1)
    batch = [
        PlacedWindow(Window((i, 0), np.empty(0), n, 0, n, 0, True), i % rows, 20 * (i // rows))
        for i, n in enumerate(lengths)
    ]
    batch = [placed for placed in batch if placed.start + 14 <= shape.frames]
    latents = torch.randn(rows, model.config.hidden_size, shape.frames)
    with pytest.MonkeyPatch.context() as patch, torch.inference_mode():
        patch.setattr(tiled, "_TILE_ELEMENTS_PER_THREAD", 1 << tile)
        masks = level_masks(batch, chain, shape, CPU, torch.float32)
        plain = RowDecoder(model.decoder, CPU, torch.float32)(latents.clone(), masks)
        gaps = level_gaps(batch, chain, shape)
        tiles = TiledDecoder(model.decoder, torch.float32)(latents.clone(), gaps)
    level = chain.levels[-1]
    for placed in batch:
        first = placed.start * level.positions_per_frame
        span = slice(first, first + level.length(placed.window.num_frames))
        assert float(plain[placed.row, span].abs().max()) > 1e-3
        torch.testing.assert_close(
            tiles[placed.row, span], plain[placed.row, span], rtol=0, atol=2e-5
        )
