"""The interval arithmetic, held to what the real layers do."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dac_tokenize.codec.geometry import Convolution, decoder_chain, encoder_chain

ratios = st.lists(st.integers(2, 6), min_size=1, max_size=4)


def test_published_shapes_have_the_known_receptive_field() -> None:
    start, stop = encoder_chain([2, 4, 8, 8]).receptive_field
    assert stop - start == 7978
    assert encoder_chain([2, 4, 8, 8]).context_frames == (8, 8)
    assert encoder_chain([2, 4, 8, 8]).gap_frames == 4


@given(
    kernel_size=st.integers(1, 9),
    stride=st.integers(1, 5),
    dilation=st.integers(1, 4),
    padding=st.integers(0, 6),
    length=st.integers(40, 60),
)
def test_convolution_reads_and_lengths_equal_torch(
    kernel_size: int, stride: int, dilation: int, padding: int, length: int
) -> None:
    ours = Convolution(kernel_size, padding, stride, dilation)
    layer = torch.nn.Conv1d(1, 1, kernel_size, stride, padding, dilation)
    _compare(ours, layer, length)


@given(kernel_size=st.integers(1, 9), stride=st.integers(1, 5), length=st.integers(12, 20))
def test_transposed_convolution_reads_and_lengths_equal_torch(
    kernel_size: int, stride: int, length: int
) -> None:
    padding = min(kernel_size // 2, 3)
    ours = Convolution(kernel_size, padding, stride, transposed=True)
    layer = torch.nn.ConvTranspose1d(1, 1, kernel_size, stride, padding)
    _compare(ours, layer, length)


def _compare(ours: Convolution, layer: torch.nn.Module, length: int) -> None:
    """Compare with which inputs have a gradient from the middle output."""
    torch.nn.init.ones_(layer.weight)
    samples = torch.zeros(1, 1, length, requires_grad=True)
    out = layer(samples)
    assert out.shape[-1] == ours.output_length(length)
    middle = out.shape[-1] // 2
    out[0, 0, middle].backward()
    read = np.flatnonzero(samples.grad[0, 0].numpy())
    start, stop = ours.reads(middle, middle + 1)
    inside = [i for i in (start, stop - 1) if 0 <= i < length]
    # With a stride over its kernel a transposed convolution has outputs that read nothing.
    if len(read) == 0:
        assert stop <= start
    elif len(inside) == 2:
        assert (read[0], read[-1] + 1) == (start, stop)


@settings(deadline=None)
@given(ratios)
def test_lengths_are_whole_frames(downsampling_ratios: list[int]) -> None:
    chain = encoder_chain(downsampling_ratios)
    assert all(level.deficit == 0 for level in chain.levels)
    assert chain.levels[0].positions_per_frame == math.prod(downsampling_ratios)
    assert chain.levels[-1].positions_per_frame == 1
    back = decoder_chain(downsampling_ratios[::-1])
    assert back.levels[-1].positions_per_frame == math.prod(downsampling_ratios)


@settings(deadline=None, max_examples=25)
@given(ratios)
def test_context_is_enough_and_no_more(downsampling_ratios: list[int]) -> None:
    for chain in (
        encoder_chain(downsampling_ratios),
        decoder_chain(downsampling_ratios[::-1]),
    ):
        left, right = chain.context_frames
        assert chain._exact(left, right)
        assert not left or not chain._exact(left - 1, right)
        assert not right or not chain._exact(left, right - 1)


@pytest.mark.parametrize("name", ["encoder", "decoder"])
def test_a_frame_reads_nothing_beyond_its_context(name: str) -> None:
    """Against the real model: nothing past the context has a gradient, its ends have."""
    from tests.codec.models import TINY_SHAPE, random_model

    model = random_model(**TINY_SHAPE)
    hop_length = 8
    left, right = encoder_chain([2, 4]).context_frames
    frame, num_frames = left + 3, left + right + 7
    if name == "encoder":
        inputs = torch.randn(1, 1, num_frames * hop_length, requires_grad=True)
        model.encoder(inputs)[..., frame].sum().backward()
        per_frame = inputs.grad.view(num_frames, hop_length).abs().sum(1)
    else:
        left, right = decoder_chain([4, 2]).context_frames
        frame, num_frames = left + 3, left + right + 7
        inputs = torch.randn(1, model.config.hidden_size, num_frames, requires_grad=True)
        out = model.decoder(inputs)[0, 0]
        out[frame * hop_length : (frame + 1) * hop_length].sum().backward()
        per_frame = inputs.grad[0].abs().sum(0)
    read = np.flatnonzero(per_frame.numpy())
    assert read[0] == frame - left
    assert read[-1] == frame + right
