"""The figures of an audit as plain values: what `report.json` holds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from dac_tokenize.audit.findings import FAULTS, NOTES
from dac_tokenize.audit.measuring import ClipAudit
from dac_tokenize.audit.scan import CorpusScan
from dac_tokenize.audit.usage import DURATION_EDGES
from dac_tokenize.audit.verdict import judge
from dac_tokenize.corpus.footer import package_versions

if TYPE_CHECKING:
    from dac_tokenize.codec.checkpoint import CodecIdentity
    from dac_tokenize.corpus.reading import CorpusInfo

SCHEMA_VERSION = 1
METRICS = ("si_sdr_db", "log_mel_db", "stft_distance", "stoi", "pesq")
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_MAX_GROUPS = 30


def report_values(
    info: CorpusInfo,
    scan: CorpusScan,
    clips: Sequence[ClipAudit],
    thresholds: Mapping[str, float | None],
) -> dict[str, Any]:
    """Return all figures of an audit; plain values, the same for the same corpus and sample.

    Args:
        info: the corpus in figures.
        scan: of all rows.
        clips: of the sample; `scan.findings` holds theirs too.
        thresholds: from `checked_thresholds`.
    """
    quality = quality_by_codebooks(clips)
    fidelity = _codebook_means([clip.agreement for clip in clips])
    stability = _codebook_means([clip.stability for clip in clips])
    best = quality[-1] if quality else {}
    figures: dict[str, float | None] = {
        "faults": scan.findings.num_faults,
        "failed_share": info.failed / info.clips if info.clips else None,
        "near_duplicate_share": scan.near_duplicates / scan.rows if scan.rows else None,
        "agreement": _mean(fidelity),
        "stability": _mean(stability),
        "usage": min((book.usage for book in scan.usage), default=None),
        "perplexity": min((book.perplexity for book in scan.usage), default=None),
        **{name: best[name]["median"] if name in best else None for name in METRICS},
    }
    lines = judge(figures, thresholds)
    return {
        "schema_version": SCHEMA_VERSION,
        "versions": package_versions(),
        "passed": all(line.passed is not False for line in lines),
        "verdict": [asdict(line) for line in lines],
        "codec": asdict(info.codec),
        "corpus": {
            "rows": scan.rows,
            "clips": info.clips,
            "failed": info.failed,
            "hours": scan.num_samples / info.codec.sampling_rate / 3600,
            "num_frames": scan.num_frames,
            "num_tokens": scan.num_frames * info.codec.num_codebooks,
            "num_shards": info.num_shards,
            "shards_done": info.shards_done,
        },
        "checks": {check: scan.findings.counts[check] for check in [*FAULTS, *NOTES]},
        "findings": [asdict(finding) for finding in scan.findings],
        "usage": [asdict(book) for book in scan.usage],
        "durations": {"edges_seconds": DURATION_EDGES, "rows": scan.durations},
        "sample": {
            "clips": len(clips),
            "measured": sum(clip.best is not None for clip in clips),
            "seconds": math.fsum(clip.duration_seconds for clip in clips),
            "median_lag_samples": _median([clip.lag_samples for clip in clips]),
        },
        "fidelity": {"agreement_by_codebook": fidelity, "agreement": _mean(fidelity)},
        "stability": {"agreement_by_codebook": stability, "agreement": _mean(stability)},
        "quality": quality,
        "rates": rates(info.codec, quality),
        "by_column": by_column(clips),
    }


def quality_by_codebooks(clips: Sequence[ClipAudit]) -> list[dict[str, Any]]:
    """Return quantiles of each metric for each number of codebooks, ascending."""
    counts = sorted({count for clip in clips for count in clip.quality})
    rows = []
    for count in counts:
        measured = [clip.quality[count] for clip in clips if count in clip.quality]
        row: dict[str, Any] = {"codebooks": count, "clips": len(measured)}
        for name in METRICS:
            values = [getattr(quality, name) for quality in measured]
            if (summary := quantiles(values)) is not None:
                row[name] = summary
        rows.append(row)
    return rows


def quantiles(values: Sequence[float | None]) -> dict[str, float] | None:
    """Return mean, median and quantiles of what is a number; None where nothing is.

    >>> quantiles([1.0, None, 3.0])["median"]
    2.0
    """
    known = [value for value in values if value is not None and math.isfinite(value)]
    if not known:
        return None
    found = np.quantile(known, QUANTILES).tolist()
    named = {
        f"q{round(100 * share):02d}": value for share, value in zip(QUANTILES, found, strict=True)
    }
    return {"mean": float(np.mean(known)), "median": named["q50"], **named}


def rates(codec: CodecIdentity, quality: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return token rate and bitrate beside median quality, by number of codebooks."""
    bits = math.log2(codec.codebook_size)
    return [
        {
            "codebooks": row["codebooks"],
            "tokens_per_second": row["codebooks"] * codec.frame_rate,
            "bits_per_second": row["codebooks"] * codec.frame_rate * bits,
            **{name: row[name]["median"] for name in METRICS if name in row},
        }
        for row in quality
    ]


def by_column(clips: Sequence[ClipAudit]) -> dict[str, list[dict[str, Any]]]:
    """Return medians for the values of each carried column that has few of them."""
    tables = {}
    for name in clips[0].metadata if clips else ():
        groups: dict[str, list[ClipAudit]] = {}
        for clip in clips:
            value = clip.metadata[name]
            if isinstance(value, list | dict):
                break
            groups.setdefault("" if value is None else str(value), []).append(clip)
        else:
            if 1 < len(groups) <= min(_MAX_GROUPS, len(clips) // 2):
                tables[name] = [_group(value, group) for value, group in sorted(groups.items())]
    return tables


def _group(value: str, clips: Sequence[ClipAudit]) -> dict[str, Any]:
    best = [clip.best for clip in clips if clip.best is not None]
    row: dict[str, Any] = {"value": value, "clips": len(clips)}
    for name in METRICS:
        row[name] = _median([getattr(quality, name) for quality in best])
    row["agreement"] = _mean([_mean(clip.agreement) for clip in clips])
    return row


def _codebook_means(shares: Sequence[Sequence[float]]) -> list[float]:
    known = [list(row) for row in shares if row]
    if not known:
        return []
    means: list[float] = np.mean(known, axis=0).tolist()
    return means


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _median(values: Sequence[float | None]) -> float | None:
    summary = quantiles(values)
    return None if summary is None else summary["median"]


def mean_agreement(shares: Sequence[float]) -> float | None:
    """Return the mean over codebooks, or None where nothing was measured."""
    return _mean(shares)
