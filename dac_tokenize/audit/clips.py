"""What is measured of one row of the sample, and how samples are put in order."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from dac_tokenize.audit.fidelity import Disagreement
from dac_tokenize.audit.findings import Finding
from dac_tokenize.audit.levels import Levels
from dac_tokenize.audit.metrics import Quality
from dac_tokenize.audit.sampling import Pick
from dac_tokenize.errors import ClipError

Samples = npt.NDArray[np.float32]

_EXPLAINED = 200


@dataclass(frozen=True, slots=True)
class ClipAudit:
    """What was measured of one row.

    Attributes:
        pick: the row.
        duration_seconds: its length.
        source_uri: where its source lies.
        offset_seconds: where it starts there.
        channel: channel of the source; None for the mixdown.
        metadata: its metadata columns.
        lag_samples: samples by which the decoded sound comes late; None without a source.
        expected_lags: what the codec's strides allow of these, the least and the greatest.
        quality: against the source, by number of codebooks; empty without a source.
        agreement: with plain `DacModel`, by codebook; empty where not measured.
        stability: of codes of the decoded sound, by codebook; empty where not measured.
        again: of sound encoded and decoded once more, against the source, by number of codebooks;
            empty where not measured.
        repeat: of the same against the sound decoded first; None where not measured.
        levels: of the decoded sound; None where the codes cannot be decoded.
        findings: what was found wrong.
        disagreement: evidence where codes are not plain `DacModel`'s.
    """

    pick: Pick
    duration_seconds: float
    source_uri: str
    offset_seconds: float
    channel: int | None
    metadata: Mapping[str, Any]
    lag_samples: int | None = None
    expected_lags: tuple[int, int] = (0, 0)
    quality: Mapping[int, Quality] = field(default_factory=dict)
    agreement: tuple[float, ...] = ()
    stability: tuple[float, ...] = ()
    again: Mapping[int, Quality] = field(default_factory=dict)
    repeat: Quality | None = None
    levels: Levels | None = None
    findings: tuple[Finding, ...] = ()
    disagreement: Disagreement | None = None

    @property
    def best(self) -> Quality | None:
        """Quality with all codebooks; None without a source."""
        return self.quality[max(self.quality)] if self.quality else None


@dataclass(frozen=True, slots=True)
class Sound:
    """Source and decoded sound of one row, from its start, at the codec's rate.

    Attributes:
        source: float32, shape (n,); None where it cannot be read.
        decoded: float32, shape (m,).
        error: why there is no source.
    """

    source: Samples | None
    decoded: Samples
    error: ClipError | None = None


def worst_first(clips: Sequence[ClipAudit], found: Sequence[Finding]) -> list[ClipAudit]:
    """Return clips with what the checks of all rows found of them, the worst first.

    Args:
        clips: in any order.
        found: by the checks of all rows.
    """
    return sorted(_with_findings(clips, found), key=badness)


def _with_findings(clips: Sequence[ClipAudit], found: Sequence[Finding]) -> Iterator[ClipAudit]:
    by_key: dict[str, list[Finding]] = {}
    for finding in found:
        by_key.setdefault(finding.key, []).append(finding)
    for clip in clips:
        checked = by_key.get(clip.pick.key, [])
        yield replace(clip, findings=(*checked, *clip.findings))


def badness(clip: ClipAudit) -> tuple[Any, ...]:
    """Return what sorts clips with the worst first: faults, then agreement, then SI-SDR."""
    faults = sum(finding.is_fault for finding in clip.findings)
    shares = sum(clip.agreement) / len(clip.agreement) if clip.agreement else 1.0
    score = clip.best.si_sdr_db if clip.best else math.nan
    return (-faults, shares >= 0.5, math.inf if math.isnan(score) else score, clip.pick)


def explain_swaps(clips: Sequence[ClipAudit]) -> list[ClipAudit]:
    """Name the clip whose codes another one holds, where both are in the sample."""
    wrong = [clip for clip in clips if clip.disagreement is not None][:_EXPLAINED]
    owners = {}
    for clip in wrong:
        assert clip.disagreement is not None
        for other in wrong:
            assert other.disagreement is not None
            if other is not clip and clip.disagreement.is_of(other.disagreement):
                owners[clip.pick] = other.pick.key
    return [
        replace(clip, findings=_named(clip.findings, owners[clip.pick]))
        if clip.pick in owners
        else clip
        for clip in clips
    ]


def _named(findings: Sequence[Finding], owner: str) -> tuple[Finding, ...]:
    return tuple(
        replace(finding, detail=f"{finding.detail}: they are those of {owner!r}")
        if finding.check == "fidelity"
        else finding
        for finding in findings
    )
