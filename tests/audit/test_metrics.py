"""Metrics held to libraries that others rely on; alignment held to known shifts."""

import math

import auraloss
import librosa
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.audio import ScaleInvariantSignalDistortionRatio

from dac_tokenize.audit.alignment import aligned, estimate_lag
from dac_tokenize.audit.metrics import (
    STFT_SIZES,
    log_mel,
    measure,
    mel_window,
    si_sdr,
)
from tests.codec.models import random_clip

RATES = [16_000, 24_000, 44_100]


def pair(seed: int, noise: float = 0.1, num_samples: int = 16_000):
    clean = random_clip(num_samples, seed)
    dirt = np.random.default_rng(seed + 1).standard_normal(num_samples) * noise
    return clean, (0.7 * clean + dirt).astype(np.float32)


@pytest.mark.parametrize("noise", [1e-4, 0.01, 0.1, 1.0])
def test_si_sdr_is_torchmetrics(noise):
    clean, dirty = pair(3, noise)
    theirs = ScaleInvariantSignalDistortionRatio(zero_mean=True)(
        torch.from_numpy(dirty).double(), torch.from_numpy(clean).double()
    )
    assert si_sdr(clean, dirty) == pytest.approx(float(theirs), abs=1e-4)


def test_si_sdr_of_silence_is_no_number():
    assert math.isnan(si_sdr(np.zeros(100, np.float32), random_clip(100, 1)))
    assert math.isnan(si_sdr(random_clip(100, 1), np.zeros(100, np.float32)))


@pytest.mark.parametrize("rate", RATES)
def test_log_mel_is_librosas(rate):
    clean, dirty = pair(7)
    size = mel_window(rate)

    def theirs(samples):
        mel = librosa.feature.melspectrogram(
            y=samples, sr=rate, n_fft=size, hop_length=size // 4, n_mels=80, power=1.0
        )
        return librosa.amplitude_to_db(mel, amin=1e-5, top_db=None)

    np.testing.assert_allclose(log_mel(clean, rate), theirs(clean), atol=2e-2)
    expected = np.mean(np.abs(theirs(clean) - theirs(dirty)))
    assert measure(clean, dirty, rate).log_mel_db == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("noise", [0.01, 0.3])
def test_stft_distance_is_auralosss(noise):
    clean, dirty = pair(9, noise)
    loss = auraloss.freq.MultiResolutionSTFTLoss(
        fft_sizes=list(STFT_SIZES),
        hop_sizes=[size // 4 for size in STFT_SIZES],
        win_lengths=list(STFT_SIZES),
    )
    theirs = loss(torch.from_numpy(dirty)[None, None], torch.from_numpy(clean)[None, None])
    assert measure(clean, dirty, 16_000).stft_distance == pytest.approx(float(theirs), rel=1e-4)


@pytest.mark.parametrize("num_samples", [1, 50, 1000])
def test_short_clips_have_figures(num_samples):
    clean, dirty = pair(13, 0.1, num_samples)
    quality = measure(clean, dirty, 16_000)
    assert math.isfinite(quality.log_mel_db)
    assert math.isfinite(quality.stft_distance)


@settings(max_examples=50, deadline=None)
@given(lag=st.integers(-400, 400), seed=st.integers(0, 1000))
def test_a_shift_is_found_and_taken_back(lag, seed):
    sound = random_clip(3000, seed)
    late = np.concatenate([np.zeros(max(lag, 0), np.float32), sound[max(-lag, 0) :]])
    assert estimate_lag(sound, late, (-700, 700)) == lag
    first, second = aligned(sound, late, lag)
    np.testing.assert_array_equal(first, second)
    assert len(first) >= 3000 - abs(lag)
