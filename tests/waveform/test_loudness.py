"""Loudness: what pyloudnorm measures, whatever the blocks, and clips brought to a target."""

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dac_tokenize.errors import AudioError, UsageError
from dac_tokenize.references import Reference
from dac_tokenize.sources import list_references, shipped_sounds
from dac_tokenize.waveform import (
    WaveformOpener,
    WaveformOptions,
    audio_to_waveform,
    opening,
    read_waveform,
)
from dac_tokenize.waveform.loudness import LoudnessMeter, measure
from tests.waveform.sounds import encode, tones

pyloudnorm = pytest.importorskip("pyloudnorm")


def clip(seconds: float, rate: int, seed: int = 0, depth: float = 2.0) -> np.ndarray:
    """Sound whose level goes up and down, so that gates open and close: (num_samples,)."""
    samples = tones(int(seconds * rate), rate=rate, seed=seed)[:, 0]
    level = 10 ** (depth * (np.sin(np.arange(len(samples)) / rate * 2.5) - 1))
    return (samples * level).astype(np.float32)


@settings(max_examples=60, deadline=None)
@given(
    seconds=st.floats(0.4, 8.0),
    rate=st.sampled_from([8000, 11_025, 16_000, 22_050, 44_100]),
    seed=st.integers(0, 5),
)
def test_measures_what_pyloudnorm_measures(seconds, rate, seed):
    samples = clip(seconds, rate, seed)
    if len(samples) < 0.4 * rate:
        return
    expected = pyloudnorm.Meter(rate).integrated_loudness(samples.astype(np.float64))
    found = measure([samples[None]], 1, rate)[0]
    assert found == pytest.approx(expected, abs=1e-3) if found is not None else expected < -70


def test_measures_exactly_what_pyloudnorm_measures_of_the_shipped_sounds():
    for reference in list_references([shipped_sounds()]):
        samples = read_waveform(reference, 44_100)
        expected = pyloudnorm.Meter(44_100).integrated_loudness(samples[0].astype(np.float64))
        assert measure([samples], 1, 44_100)[0] == pytest.approx(expected, abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(cuts=st.lists(st.integers(1, 31_999), max_size=8, unique=True))
def test_blocks_do_not_change_a_bit(cuts):
    samples = clip(2.0, 16_000)
    meter = LoudnessMeter(16_000)
    for block in np.split(samples, sorted(cuts)):
        meter.add(block)
    assert meter.loudness() == measure([samples[None]], 1, 16_000)[0]


@pytest.mark.parametrize("policy", ["mix", "first", "split"])
@pytest.mark.parametrize("kept_samples", [0, 2**22])
def test_clips_are_brought_to_the_target(policy, kept_samples, tmp_path, monkeypatch):
    monkeypatch.setattr(opening, "KEPT_SAMPLES", kept_samples)
    samples = np.stack([clip(3.0, 44_100, n, depth=0.5) / (1 + n) for n in range(2)], axis=1)
    path = tmp_path / "a.wav"
    path.write_bytes(encode(samples, 44_100, subtype="FLOAT"))
    options = WaveformOptions(channels=policy, loudness=-23.0)
    waveform = WaveformOpener(16_000, options)(Reference("a", str(path)))
    streamed = np.concatenate(list(waveform.blocks), axis=1)
    assert len(waveform.source_loudness) == len(streamed) == waveform.num_channels
    for channel, before in zip(streamed, waveform.source_loudness, strict=True):
        after = pyloudnorm.Meter(16_000).integrated_loudness(channel.astype(np.float64))
        assert after == pytest.approx(-23.0, abs=0.01)
        assert before > -70
    assert np.array_equal(streamed, read_waveform(Reference("a", str(path)), 16_000, options))
    array = {"array": samples.T, "sampling_rate": 44_100}
    assert np.array_equal(streamed, audio_to_waveform(array, 16_000, options=options))


@pytest.mark.parametrize("samples", [np.zeros(48_000), clip(0.3, 16_000), 1e-5 * clip(3.0, 16_000)])
def test_what_has_no_loudness_keeps_its_level(samples, tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(encode(samples[:, None].astype(np.float32), 16_000, subtype="FLOAT"))
    waveform = WaveformOpener(16_000, WaveformOptions(loudness=-20.0))(Reference("a", str(path)))
    assert waveform.source_loudness == (None,)
    assert np.array_equal(np.concatenate(list(waveform.blocks), 1)[0], samples.astype(np.float32))


def test_no_target_no_loudness(tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(encode(tones(20_000), 16_000))
    assert WaveformOpener(16_000)(Reference("a", str(path))).source_loudness is None


def test_bad_sound_fails_when_it_is_measured(tmp_path):
    path = tmp_path / "a.flac"
    path.write_bytes(encode(tones(20_000), 16_000, "FLAC")[:-100])
    with pytest.raises(AudioError):
        WaveformOpener(16_000, WaveformOptions(loudness=-20.0))(Reference("a", str(path)))


def test_without_pyloudnorm(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyloudnorm", None)
    with pytest.raises(UsageError, match=r"pip install 'dac-tokenize\[loudness\]'"):
        WaveformOpener(16_000, WaveformOptions(loudness=-20.0))
    WaveformOpener(16_000)
