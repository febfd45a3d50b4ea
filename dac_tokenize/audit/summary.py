"""The figures of an audit as plain values: what `report.json` holds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from dac_tokenize.audit.clips import ClipAudit
from dac_tokenize.audit.findings import FAULTS, NOTES
from dac_tokenize.audit.levels import LEVEL_EDGES, level_bin
from dac_tokenize.audit.merging import CorpusScan
from dac_tokenize.audit.metrics import METRICS, Quality
from dac_tokenize.audit.usage import DURATION_EDGES
from dac_tokenize.audit.verdict import judge
from dac_tokenize.corpus.footer import package_versions

if TYPE_CHECKING:
    from dac_tokenize.codec.checkpoint import CodecIdentity
    from dac_tokenize.corpus.reading import CorpusInfo

SCHEMA_VERSION = 1
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
MAX_GROUPS = 50
"""Values of a carried column that are told apart, the most frequent ones."""


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
    quality = quality_by_codebooks([clip.quality for clip in clips])
    fidelity = _codebook_means([clip.agreement for clip in clips])
    stability = _stability(clips)
    best = quality[-1] if quality else {}
    figures: dict[str, float | None] = {
        "faults": scan.findings.num_faults,
        "failed_share": info.failed / info.clips if info.clips else None,
        "near_duplicate_share": scan.near_duplicates / scan.rows if scan.rows else None,
        "agreement": _mean(fidelity),
        "stability": stability["agreement"],
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
        "sound": _sound(scan, clips),
        "sample": {
            "clips": len(clips),
            "measured": sum(clip.best is not None for clip in clips),
            "seconds": math.fsum(clip.duration_seconds for clip in clips),
            **_lags(clips),
        },
        "fidelity": {"agreement_by_codebook": fidelity, "agreement": _mean(fidelity)},
        "stability": stability,
        "quality": quality,
        "rates": rates(info.codec, quality),
        "by_column": by_column(clips),
    }


def _sound(scan: CorpusScan, clips: Sequence[ClipAudit]) -> dict[str, Any]:
    """Return what decoded sound is like: of all rows where these were decoded, else the sample."""
    rows, decoded = scan.levels, scan.decoded
    if not decoded:
        known = [clip.levels for clip in clips if clip.levels is not None]
        counts = np.zeros(len(LEVEL_EDGES) + 1, np.int64)
        for levels in known:
            counts[level_bin(levels.rms_db)] += 1
        rows, decoded = counts.tolist(), len(known)
    return {
        "decoded_rows": decoded,
        "of_rows": scan.rows,
        "edges_db": LEVEL_EDGES,
        "rows": rows,
    }


def _lags(clips: Sequence[ClipAudit]) -> dict[str, Any]:
    """Return where decoded sound lies in time, beside where the codec's strides let it."""
    lags = [clip.lag_samples for clip in clips if clip.lag_samples is not None]
    least, most = clips[0].expected_lags if clips else (0, 0)
    within = [least <= lag <= most for lag in lags]
    return {
        "expected_lag_samples": [least, most],
        "median_lag_samples": _median(lags),
        "lags_as_expected": float(np.mean(within)) if within else None,
    }


def _stability(clips: Sequence[ClipAudit]) -> dict[str, Any]:
    """Return what another round through the codec keeps: codes, and sound."""
    shares = _codebook_means([clip.stability for clip in clips])
    repeats = [clip.repeat for clip in clips if clip.repeat is not None]
    return {
        "agreement_by_codebook": shares,
        "agreement": _mean(shares),
        "against_source": quality_by_codebooks([clip.again for clip in clips]),
        "against_decoded": _metric_quantiles(repeats),
    }


def quality_by_codebooks(qualities: Sequence[Mapping[int, Quality]]) -> list[dict[str, Any]]:
    """Return quantiles of each metric for each number of codebooks, ascending."""
    rows = []
    for count in sorted({count for quality in qualities for count in quality}):
        measured = [quality[count] for quality in qualities if count in quality]
        rows.append({"codebooks": count, "clips": len(measured), **_metric_quantiles(measured)})
    return rows


def _metric_quantiles(qualities: Sequence[Quality]) -> dict[str, dict[str, float]]:
    """Return quantiles by metric, of those that were measured."""
    found = {name: quantiles([getattr(one, name) for one in qualities]) for name in METRICS}
    return {name: summary for name, summary in found.items() if summary is not None}


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
    """Return quantiles for the values of each carried column, the most frequent values first.

    Columns of which nearly every clip has a value of its own, such as texts, are left out, and so
    are nested ones.
    """
    tables = {}
    for name in clips[0].metadata if clips else ():
        groups: dict[str, list[ClipAudit]] = {}
        values = [clip.metadata[name] for clip in clips]
        if any(isinstance(value, list | dict | bytes) for value in values):
            continue
        for clip, value in zip(clips, values, strict=True):
            groups.setdefault("" if value is None else str(value), []).append(clip)
        if 1 < len(groups) <= len(clips) // 2:
            ordered = sorted(groups.items(), key=lambda group: (-len(group[1]), group[0]))
            tables[name] = [_group(value, group) for value, group in ordered[:MAX_GROUPS]]
    return tables


def _group(value: str, clips: Sequence[ClipAudit]) -> dict[str, Any]:
    best = [clip.best for clip in clips if clip.best is not None]
    return {
        "value": value,
        "clips": len(clips),
        "seconds": math.fsum(clip.duration_seconds for clip in clips),
        **_metric_quantiles(best),
        "agreement": _mean([_mean(clip.agreement) for clip in clips]),
        "stability": _mean([_mean(clip.stability) for clip in clips]),
    }


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
