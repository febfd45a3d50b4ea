"""Each form of a convolution against PyTorch's own in float64."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dac_tokenize.codec import convolutions
from dac_tokenize.codec.convolutions import convolution


def compared(module: torch.nn.Conv1d, rows: int, positions: int, dtype: torch.dtype):
    """The result, and what float64 gives, as (rows, positions, channels)."""
    hidden = torch.randn(rows, positions, module.in_channels)
    with torch.inference_mode():
        found = convolution(module, dtype)(hidden)
        plain = torch.nn.functional.conv1d(
            hidden.transpose(1, 2).double(),
            module.weight.double(),
            module.bias.double(),
            stride=module.stride,
            dilation=module.dilation,
        )
    return found, plain.transpose(1, 2)


@settings(deadline=None, max_examples=60)
@given(
    channels=st.tuples(st.sampled_from([1, 3, 8, 16, 48]), st.sampled_from([1, 5, 16, 32])),
    taps_dilation=st.sampled_from([(1, 1), (3, 1), (7, 1), (7, 3), (7, 9)]),
    rows=st.integers(1, 3),
    extra=st.integers(0, 40),
    seed=st.integers(0, 999),
)
def test_plain_convolutions(channels, taps_dilation, rows, extra, seed) -> None:
    torch.manual_seed(seed)
    taps, dilation = taps_dilation
    module = torch.nn.Conv1d(*channels, taps, dilation=dilation)
    found, plain = compared(module, rows, (taps - 1) * dilation + 1 + extra, torch.float32)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), plain, rtol=1e-5, atol=1e-5)


@settings(deadline=None, max_examples=40)
@given(
    stride=st.sampled_from([2, 4, 5, 8]),
    rows=st.integers(1, 3),
    extra=st.integers(0, 40),
    seed=st.integers(0, 999),
)
def test_strided_convolutions(stride, rows, extra, seed) -> None:
    torch.manual_seed(seed)
    module = torch.nn.Conv1d(6, 10, 2 * stride, stride=stride)
    found, plain = compared(module, rows, 2 * stride + extra, torch.float32)
    torch.testing.assert_close(found.double(), plain, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("packs", [True, False])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@settings(deadline=None, max_examples=60)
@given(
    channels=st.tuples(st.sampled_from([3, 8, 12, 16, 32]), st.sampled_from([5, 16, 24, 64])),
    shape=st.sampled_from(
        [(1, 1, 1), (3, 1, 1), (7, 1, 1), (7, 1, 3), (7, 1, 9)]
        + [(2 * s, s, 1) for s in (2, 4, 5, 8)]
    ),
    positions=st.lists(st.sampled_from([77, 100, 333, 800]), min_size=1, max_size=2),
)
def test_half_precision_rounds_once(packs, dtype, channels, shape, positions) -> None:
    """In float32 the same sums, rounded once; other lengths find weights packed for the first."""
    if packs and not convolutions._can_pack(dtype):
        pytest.skip(f"this processor packs no {dtype}")
    torch.manual_seed(1)
    taps, stride, dilation = shape
    module = torch.nn.Conv1d(*channels, taps, stride=stride, dilation=dilation)
    module.to(dtype).float()  # weights that are exact in either format
    with pytest.MonkeyPatch.context() as patch:
        if not packs:
            patch.setattr(convolutions, "_can_pack", lambda dtype: False)
        convolve = convolution(module, dtype)
    step = torch.finfo(dtype).eps
    for length in positions:
        hidden = torch.randn(2, length, module.in_channels).to(dtype)
        with torch.inference_mode():
            found = convolve(hidden)
            plain = module.double()(hidden.double().transpose(1, 2)).transpose(1, 2)
            module.float()
        torch.testing.assert_close(found.double(), plain, rtol=step, atol=step / 8)
