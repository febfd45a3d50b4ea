"""Scores of how sound seems to a listener, by libraries of the extra `audit-perceptual`."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from dac_tokenize.errors import UsageError

Samples = npt.NDArray[np.float32]

SCORES = {"stoi": "pystoi", "pesq": "pesq", "visqol": "visqol"}
"""Name of a score to the module that computes it."""

_MIN_STOI_SECONDS = 0.5
_PESQ_RATE = 16_000
_VISQOL_RATE = 48_000


def checked_scores(given: Sequence[str]) -> tuple[str, ...]:
    """Return names of scores, in the order of `SCORES`, each once.

    Raises:
        UsageError: there is no such score, or its library is not installed.
    """
    for name in given:
        if name not in SCORES:
            raise UsageError(f"there is no score {name!r}; there are {', '.join(SCORES)}")
        try:
            importlib.import_module(SCORES[name])
        except ImportError as error:
            raise UsageError(
                f"the score {name!r} needs {SCORES[name]!r}; install it with "
                "pip install 'dac-tokenize[audit-perceptual]'"
            ) from error
    return tuple(name for name in SCORES if name in given)


def perceptual_scores(
    reference: Samples, estimate: Samples, sampling_rate: int, names: Sequence[str]
) -> dict[str, float | None]:
    """Return some scores by name; None where a clip is too short, or has no speech, for one.

    Args:
        reference: float32 in [-1, 1], shape (n,).
        estimate: likewise, aligned.
        sampling_rate: of both (Hz).
        names: from `checked_scores`.
    """
    known = {"stoi": stoi, "pesq": pesq, "visqol": visqol}
    return {name: known[name](reference, estimate, sampling_rate) for name in names}


def stoi(reference: Samples, estimate: Samples, sampling_rate: int) -> float | None:
    """Return the short-time objective intelligibility; None for clips under half a second."""
    if len(reference) < _MIN_STOI_SECONDS * sampling_rate:
        return None
    library: Any = importlib.import_module("pystoi")
    return float(library.stoi(reference, estimate, sampling_rate))


def pesq(reference: Samples, estimate: Samples, sampling_rate: int) -> float | None:
    """Return the wide-band PESQ score at 16 kHz; None where it finds no speech."""
    library: Any = importlib.import_module("pesq")
    try:
        return float(
            library.pesq(_PESQ_RATE, *_at(_PESQ_RATE, reference, estimate, sampling_rate), "wb")
        )
    # The library raises one class for each thing it can miss in a clip: sound, speech, length.
    except Exception:
        return None


def visqol(reference: Samples, estimate: Samples, sampling_rate: int) -> float | None:
    """Return the ViSQOL score for all kinds of sound, at 48 kHz; None for clips under a second."""
    if not np.any(reference):  # it would be told to be perfect
        return None
    pair = _at(_VISQOL_RATE, reference, estimate, sampling_rate)
    try:
        found = _visqol().measure_from_arrays(*(sound.astype(np.float64) for sound in pair), 48_000)
    except ValueError:  # fewer windows than the score compares at once
        return None
    return float(found.moslqo)


@functools.cache
def _visqol() -> Any:
    library: Any = importlib.import_module("visqol")
    api = library.VisqolApi()
    api.create(mode="audio")
    return api


def _at(rate: int, reference: Samples, estimate: Samples, sampling_rate: int) -> list[Any]:
    import soxr

    return [soxr.resample(sound, sampling_rate, rate) for sound in (reference, estimate)]
