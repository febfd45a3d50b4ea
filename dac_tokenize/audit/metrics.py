"""How near decoded sound is to its source, in figures. Both must be aligned and of one length.

What needs a library of its own, and is an extra, is in `perceptual`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from dac_tokenize.audit.perceptual import perceptual_scores

Samples = npt.NDArray[np.float32]

STFT_SIZES = (2048, 1024, 512, 256, 128)
"""Window lengths of the multi-scale STFT distance, in samples; hops are a quarter of them."""

MEL_BANDS = 80
MEL_WINDOW_SECONDS = 0.032
MEL_FLOOR = 1e-5  # -100 dB of full scale: what lies below is silence on either side
_STFT_FLOOR = 1e-8


@dataclass(frozen=True, slots=True)
class Quality:
    """How near some sound is to its source.

    Attributes:
        si_sdr_db: scale-invariant signal-to-distortion ratio (dB), higher is nearer; NaN where
            one of both is silent.
        log_mel_db: mean absolute difference of log-mel magnitudes (dB), lower is nearer.
        stft_distance: spectral convergence plus log-magnitude distance, mean over `STFT_SIZES`,
            lower is nearer.
        stoi: short-time objective intelligibility, up to 1; None where not asked for.
        pesq: mean opinion score by ITU-T P.862, 1 to 4.6; None where not asked for.
        visqol: mean opinion score by ViSQOL 3 for all sound, 1 to 4.73; None where not asked for.
    """

    si_sdr_db: float
    log_mel_db: float
    stft_distance: float
    stoi: float | None = None
    pesq: float | None = None
    visqol: float | None = None


METRICS = tuple(field.name for field in fields(Quality))
"""Names of the figures."""


def measure(
    reference: Samples, estimate: Samples, sampling_rate: int, perceptual: Sequence[str] = ()
) -> Quality:
    """Return all figures of an aligned pair.

    Args:
        reference: float32 in [-1, 1], shape (n,), n at least 1.
        estimate: likewise.
        sampling_rate: of both (Hz).
        perceptual: which of `perceptual.SCORES` as well.
    """
    return measure_all(reference, [estimate], sampling_rate, perceptual)[0]


def measure_all(
    reference: Samples,
    estimates: Sequence[Samples],
    sampling_rate: int,
    perceptual: Sequence[str] = (),
) -> list[Quality]:
    """Return all figures of several estimates of one sound; the sound is analysed once.

    Args:
        reference: float32 in [-1, 1], shape (n,), n at least 1.
        estimates: likewise.
        sampling_rate: of all (Hz).
        perceptual: which of `perceptual.SCORES` as well.
    """
    mel = log_mel(reference, sampling_rate)
    distances = multi_scale_stft_distances(reference, estimates)
    return [
        Quality(
            si_sdr_db=si_sdr(reference, estimate),
            log_mel_db=float(np.mean(np.abs(mel - log_mel(estimate, sampling_rate)))),
            stft_distance=distance,
            **perceptual_scores(reference, estimate, sampling_rate, perceptual),
        )
        for estimate, distance in zip(estimates, distances, strict=True)
    ]


def si_sdr(reference: Samples, estimate: Samples) -> float:
    """Return the scale-invariant signal-to-distortion ratio (dB), means taken off.

    As in https://arxiv.org/abs/1811.02508.

    >>> round(si_sdr(np.float32([1, -1, 1, -1]), np.float32([2, -2, 2, -1])), 2)
    13.89
    """
    target = reference.astype(np.float64) - np.mean(reference, dtype=np.float64)
    found = estimate.astype(np.float64) - np.mean(estimate, dtype=np.float64)
    energy = float(target @ target)
    if not energy or not float(found @ found):
        return math.nan
    scaled = (float(found @ target) / energy) * target
    noise = found - scaled
    signal = float(scaled @ scaled)
    return 10 * math.log10(max(signal, 1e-30) / max(float(noise @ noise), 1e-30))


def log_mel(samples: Samples, sampling_rate: int) -> npt.NDArray[np.float32]:
    """Return log-mel magnitudes.

    Args:
        samples: float32, shape (n,).
        sampling_rate: Hz.

    Returns:
        dB of full scale, float32, shape (`MEL_BANDS`, num_windows), never below -100 dB.
    """
    size = mel_window(sampling_rate)
    magnitudes = _magnitudes(samples, size, "constant", 0.0)
    mel = mel_filters(sampling_rate) @ magnitudes
    return np.asarray(20 * np.log10(np.maximum(mel, MEL_FLOOR)), np.float32)


def mel_window(sampling_rate: int) -> int:
    """Return the window length of `log_mel`: a power of two near `MEL_WINDOW_SECONDS`.

    >>> mel_window(16_000), mel_window(44_100)
    (512, 1024)
    """
    return 1 << max(6, round(math.log2(MEL_WINDOW_SECONDS * sampling_rate)))


@functools.cache
def mel_filters(sampling_rate: int) -> npt.NDArray[np.float32]:
    """Return Slaney's mel filters, shape (`MEL_BANDS`, bins)."""
    from transformers.audio_utils import mel_filter_bank

    filters: Any = mel_filter_bank(
        num_frequency_bins=mel_window(sampling_rate) // 2 + 1,
        num_mel_filters=_bands(sampling_rate),
        min_frequency=0.0,
        max_frequency=sampling_rate / 2,
        sampling_rate=sampling_rate,
        norm="slaney",
        mel_scale="slaney",
    )
    return np.ascontiguousarray(filters.T, np.float32)


def _bands(sampling_rate: int) -> int:
    # Windows of very low rates have too few bins for that many filters.
    return min(MEL_BANDS, mel_window(sampling_rate) // 6)


def multi_scale_stft_distances(reference: Samples, estimates: Sequence[Samples]) -> list[float]:
    """Return spectral convergence plus log-magnitude distance of each, mean over `STFT_SIZES`.

    As in https://arxiv.org/abs/1910.11480.
    """
    totals = [0.0] * len(estimates)
    for size in STFT_SIZES:
        wanted = _magnitudes(reference, size, "reflect", _STFT_FLOOR)
        norm, logarithm = np.linalg.norm(wanted), np.log(wanted)
        for place, estimate in enumerate(estimates):
            found = _magnitudes(estimate, size, "reflect", _STFT_FLOOR)
            convergence = np.linalg.norm(wanted - found) / norm
            totals[place] += float(convergence + np.mean(np.abs(logarithm - np.log(found))))
    return [total / len(STFT_SIZES) for total in totals]


def _magnitudes(
    samples: Samples, size: int, pad_mode: str, floor: float
) -> npt.NDArray[np.float32]:
    """Return STFT magnitudes, shape (size / 2 + 1, windows); powers are at least `floor`."""
    import torch

    sound = torch.from_numpy(np.ascontiguousarray(samples, np.float32))
    if len(sound) < size:
        sound = torch.nn.functional.pad(sound, (0, size - len(sound)))
    window = torch.hann_window(size)
    spectrum = torch.stft(
        sound, size, size // 4, window=window, pad_mode=pad_mode, return_complex=True
    )
    power = spectrum.real.square() + spectrum.imag.square()
    return np.asarray(power.clamp(min=floor).sqrt())
