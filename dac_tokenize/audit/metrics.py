"""How near decoded sound is to its source, in figures. Both must be aligned and of one length."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dac_tokenize.errors import UsageError

Samples = npt.NDArray[np.float32]

STFT_SIZES = (2048, 1024, 512, 256, 128)
"""Window lengths of the multi-scale STFT distance, in samples; hops are a quarter of them."""

MEL_BANDS = 80
MEL_WINDOW_SECONDS = 0.032
MEL_FLOOR = 1e-5  # -100 dB of full scale: what lies below is silence on either side
_STFT_FLOOR = 1e-8
_MIN_STOI_SECONDS = 0.5


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
    """

    si_sdr_db: float
    log_mel_db: float
    stft_distance: float
    stoi: float | None = None
    pesq: float | None = None


def measure(
    reference: Samples, estimate: Samples, sampling_rate: int, perceptual: bool = False
) -> Quality:
    """Return all figures of an aligned pair.

    Args:
        reference: float32 in [-1, 1], shape (n,), n at least 1.
        estimate: likewise.
        sampling_rate: of both (Hz).
        perceptual: also STOI and PESQ, which need the extra `audit-perceptual`.
    """
    return Quality(
        si_sdr_db=si_sdr(reference, estimate),
        log_mel_db=log_mel_distance(reference, estimate, sampling_rate),
        stft_distance=multi_scale_stft_distance(reference, estimate),
        stoi=stoi(reference, estimate, sampling_rate) if perceptual else None,
        pesq=pesq(reference, estimate, sampling_rate) if perceptual else None,
    )


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


def log_mel_distance(reference: Samples, estimate: Samples, sampling_rate: int) -> float:
    """Return the mean absolute difference of log-mel magnitudes (dB)."""
    difference = log_mel(reference, sampling_rate) - log_mel(estimate, sampling_rate)
    return float(np.mean(np.abs(difference)))


def multi_scale_stft_distance(reference: Samples, estimate: Samples) -> float:
    """Return spectral convergence plus log-magnitude distance, mean over `STFT_SIZES`.

    As in https://arxiv.org/abs/1910.11480.
    """
    total = 0.0
    for size in STFT_SIZES:
        wanted = _magnitudes(reference, size, "reflect", _STFT_FLOOR)
        found = _magnitudes(estimate, size, "reflect", _STFT_FLOOR)
        convergence = np.linalg.norm(wanted - found) / np.linalg.norm(wanted)
        total += float(convergence + np.mean(np.abs(np.log(wanted) - np.log(found))))
    return total / len(STFT_SIZES)


def stoi(reference: Samples, estimate: Samples, sampling_rate: int) -> float | None:
    """Return the short-time objective intelligibility, or None for clips under half a second.

    Raises:
        UsageError: `pystoi` is not installed.
    """
    function = _optional("pystoi", "stoi")
    if len(reference) < _MIN_STOI_SECONDS * sampling_rate:
        return None
    return float(function(reference, estimate, sampling_rate))


def pesq(reference: Samples, estimate: Samples, sampling_rate: int) -> float | None:
    """Return the wide-band PESQ score at 16 kHz, or None where it finds no speech.

    Raises:
        UsageError: `pesq` is not installed.
    """
    import soxr

    function = _optional("pesq", "pesq")
    rate = 16_000
    pair = [soxr.resample(sound, sampling_rate, rate) for sound in (reference, estimate)]
    try:
        return float(function(rate, *pair, "wb"))
    # The library raises one class for each thing it can miss in a clip: sound, speech, length.
    except Exception:
        return None


def _optional(module: str, name: str) -> Any:
    import importlib

    try:
        return getattr(importlib.import_module(module), name)
    except ImportError as error:
        raise UsageError(
            f"perceptual scores need {module!r}; install it with "
            "pip install 'dac-tokenize[audit-perceptual]'"
        ) from error


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
