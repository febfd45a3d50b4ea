"""Thresholds, and whether a corpus meets them."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dac_tokenize.errors import ConfigError

THRESHOLDS = {
    "max_faults": ("faults", "faults found by checks"),
    "max_failed_share": ("failed_share", "inputs that gave no codes"),
    "max_near_duplicate_share": ("near_duplicate_share", "rows nearly the same as another"),
    "min_agreement": ("agreement", "codes that are plain DacModel's, in float32"),
    "min_usage": ("usage", "entries used, of the least used codebook"),
    "min_perplexity": ("perplexity", "perplexity of the least even codebook"),
    "min_si_sdr_db": ("si_sdr_db", "SI-SDR against the source (dB), median"),
    "max_log_mel_db": ("log_mel_db", "log-mel distance to the source (dB), median"),
    "max_stft_distance": ("stft_distance", "multi-scale STFT distance, median"),
    "min_stability": ("stability", "codes kept when decoded sound is encoded again"),
    "min_stoi": ("stoi", "STOI, median"),
    "min_pesq": ("pesq", "PESQ, median"),
    "min_visqol": ("visqol", "ViSQOL, median"),
}
"""Name of a threshold to (the figure it bounds, what that is)."""

_AGREEMENT = {"float32": 0.999, "tf32": 0.98, "float16": 0.95, "bfloat16": 0.8}


def default_thresholds(precision: str) -> dict[str, float | None]:
    """Return the thresholds of an audit that names none; None is no bound.

    Args:
        precision: number format in which the corpus was made; fewer codes agree in the shorter
            ones.

    >>> default_thresholds("float32")["min_agreement"]
    0.999
    """
    bounds: dict[str, float | None] = dict.fromkeys(THRESHOLDS)
    bounds["max_faults"] = 0.0
    bounds["max_failed_share"] = 0.01
    bounds["max_near_duplicate_share"] = 0.05
    bounds["min_agreement"] = _AGREEMENT.get(precision, 0.8)
    return bounds


def checked_thresholds(given: Any, precision: str) -> dict[str, float | None]:
    """Return the defaults with what a configuration file says in their place.

    Raises:
        ConfigError: a threshold is unknown or no number.
    """
    bounds = default_thresholds(precision)
    if given is None:
        return bounds
    if not isinstance(given, Mapping):
        raise ConfigError(
            f"'thresholds' is a {type(given).__name__}; expected one a line, such as "
            "'min_agreement: 0.999'"
        )
    for name, value in given.items():
        if name not in THRESHOLDS:
            nearest = difflib.get_close_matches(str(name), THRESHOLDS, n=1, cutoff=0.0)
            raise ConfigError(
                f"'thresholds' has the key {name!r}, which is none; the nearest is {nearest[0]!r}"
            )
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise ConfigError(f"the threshold {name} is {value!r}; expected a number or null")
        bounds[name] = None if value is None else float(value)
    return bounds


@dataclass(frozen=True, slots=True)
class VerdictLine:
    """One threshold and what was found.

    Attributes:
        threshold: its name, a key of `THRESHOLDS`.
        meaning: what it bounds.
        bound: the highest or lowest value allowed; None for no bound.
        value: what was found; None where it was not measured.
        passed: None where there is no bound.
    """

    threshold: str
    meaning: str
    bound: float | None
    value: float | None
    passed: bool | None


def judge(
    figures: Mapping[str, float | None], bounds: Mapping[str, float | None]
) -> list[VerdictLine]:
    """Hold figures to their bounds.

    A figure that has a bound and could not be measured fails it.

    >>> [line.passed for line in judge({"agreement": 0.5}, {"min_agreement": 0.9})]
    [False]
    """
    lines = []
    for name, bound in bounds.items():
        figure, meaning = THRESHOLDS[name]
        value = figures.get(figure)
        if value is not None and math.isnan(value):
            value = None
        passed = None
        if bound is not None:
            over = value is not None and (value <= bound if name[:3] == "max" else value >= bound)
            passed = over
        lines.append(VerdictLine(name, meaning, bound, value, passed))
    return lines
