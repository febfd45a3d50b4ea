"""Seconds to frames, against exact arithmetic."""

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dac_tokenize.errors import AudioError
from dac_tokenize.waveform.segment import seconds_to_frames, segment_frames

RATES = st.sampled_from([1000, 8000, 11_025, 16_000, 22_050, 44_100, 48_000, 384_000])


@given(thousandths=st.integers(0, 10**9), rate=RATES)
def test_rounds_the_decimals_as_written_halves_up(thousandths, rate):
    exact = Fraction(thousandths, 1000) * rate
    expected = math.floor(exact + Fraction(1, 2))
    assert seconds_to_frames(float(f"{thousandths / 1000:.3f}"), rate) == expected


@pytest.mark.parametrize(
    ("seconds", "rate", "frames"),
    [
        (0.00003125, 16_000, 1),
        (0.0005, 1000, 1),
        (0.0015, 1000, 2),
        (0.0025, 1000, 3),
        (1e-7, 16_000, 0),
    ],
)
def test_halves_go_up(seconds, rate, frames):
    assert seconds_to_frames(seconds, rate) == frames


@given(
    offset=st.floats(0, 100),
    duration=st.floats(0.001, 100),
    rate=RATES,
    num_frames=st.none() | st.integers(1, 4_000_000),
)
def test_a_segment_lies_in_its_recording(offset, duration, rate, num_frames):
    try:
        start, stop = segment_frames(offset, duration, rate, num_frames)
    except AudioError:
        assert num_frames is not None or duration * rate < 1
        return
    assert 0 <= start < stop
    assert abs(start - offset * rate) <= 0.5 + 1e-6
    assert stop - start <= duration * rate + 0.5 + 1e-6
    if num_frames is not None:
        assert stop <= num_frames


@given(duration=st.floats(0.001, 10), offsets=st.lists(st.floats(0, 1000), min_size=2), rate=RATES)
def test_equal_durations_give_equal_numbers_of_frames(duration, offsets, rate):
    pieces = [segment_frames(offset, duration, rate, None) for offset in offsets]
    assert len({stop - start for start, stop in pieces}) == 1


@pytest.mark.parametrize(
    ("excess", "fits"), [(0.05, True), (0.1, True), (0.11, False), (1.0, False)]
)
def test_a_rounded_duration_may_pass_the_end(excess, fits):
    if fits:
        assert segment_frames(1.0, 1.0 + excess, 16_000, 32_000) == (16_000, 32_000)
    else:
        with pytest.raises(AudioError, match="past the end of the recording, which lasts 2 s"):
            segment_frames(1.0, 1.0 + excess, 16_000, 32_000)
