"""The scans of all shards together, and what only all of them can tell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from dac_tokenize.audit.duplicates import DuplicatePair, SignatureSpool
from dac_tokenize.audit.findings import Finding, Findings
from dac_tokenize.audit.scan import ShardScan, empty_scan
from dac_tokenize.audit.usage import CodebookUsage, codebook_usage
from dac_tokenize.corpus.checking import usable_manifest
from dac_tokenize.corpus.footer import open_parquet
from dac_tokenize.corpus.manifest import MANIFEST_NAME
from dac_tokenize.corpus.verifying import check_failed, strays

if TYPE_CHECKING:
    from dac_tokenize.corpus.footer import FailedInput
    from dac_tokenize.corpus.plan import Plan

SIMILARITY = 0.8
"""Share of runs in common from which two rows count as near-duplicates."""

_DEAD_PERPLEXITY = 1.05
_DEAD_FRAMES = 200
_PAIRS_SHOWN = 100


@dataclass(frozen=True, slots=True)
class CorpusScan:
    """What all rows of a corpus come to.

    Attributes:
        rows: rows.
        num_frames: frames of all rows.
        num_samples: samples of all rows.
        usage: of each codebook.
        heat: share of each entry by codebook, entries sorted by frequency and joined to at most
            128 columns: shape (num_codebooks, columns).
        durations: rows by duration, see `DURATION_EDGES`.
        decoded: rows that were decoded.
        levels: rows by the level of their decoded sound, see `LEVEL_EDGES`.
        findings: what was found.
        near_duplicates: rows that are nearly the same as another one.
    """

    rows: int
    num_frames: int
    num_samples: int
    usage: list[CodebookUsage]
    heat: list[list[float]]
    durations: list[int]
    decoded: int
    levels: list[int]
    findings: Findings
    near_duplicates: int


def merge_scans(plan: Plan, scans: Iterable[ShardScan]) -> CorpusScan:
    """Merge the scans of all shards, in any order, in memory that does not grow with their rows."""
    total = empty_scan(plan, -1)
    failures: dict[int, tuple[FailedInput, ...]] = {}
    with SignatureSpool() as spool:
        for scan in scans:
            total.counts += scan.counts
            total.durations += scan.durations
            total.levels += scan.levels
            total.rows += scan.rows
            total.decoded += scan.decoded
            total.num_frames += scan.num_frames
            total.num_samples += scan.num_samples
            total.findings.merge(scan.findings)
            if scan.failures:
                failures[scan.index] = scan.failures
            for place, values in zip(scan.places, scan.signatures, strict=True):
                spool.add((scan.index << 32) | place, values)
        near = _add_duplicates(plan, spool, total.findings)
    usage = codebook_usage(total.counts)
    total.findings.extend(_dead(usage, total.num_frames))
    listed = [one for index in sorted(failures) for one in failures[index]]
    total.findings.extend(_of_the_corpus(plan, listed, total.findings.num_faults == 0))
    total.findings.listed.sort(key=lambda one: (one.where, one.key, one.check, one.detail))
    return CorpusScan(
        rows=total.rows,
        num_frames=total.num_frames,
        num_samples=total.num_samples,
        usage=usage,
        heat=_heat(total.counts),
        durations=total.durations.tolist(),
        decoded=total.decoded,
        levels=total.levels.tolist(),
        findings=total.findings,
        near_duplicates=near,
    )


def _of_the_corpus(
    plan: Plan, failures: list[FailedInput], shards_are_whole: bool
) -> Iterator[Finding]:
    """Yield what is wrong beside the shards, as `verify_corpus` finds it."""
    manifest, problems = usable_manifest(plan)
    for problem in problems:
        yield Finding(problem.kind, "", MANIFEST_NAME, problem.message)
    if manifest is not None and shards_are_whole:
        for one in check_failed(plan.output, failures):
            yield Finding(one.kind, "", one.path, one.message)
    for one in strays(plan):
        yield Finding(one.kind, "", one.path, one.message)


def _dead(usage: list[CodebookUsage], num_frames: int) -> Iterator[Finding]:
    for book in usage:
        if num_frames >= _DEAD_FRAMES and book.perplexity < _DEAD_PERPLEXITY:
            detail = f"codebook {book.codebook} has a perplexity of {book.perplexity:.2f}"
            yield Finding("dead-codebook", "", "", detail)


def _add_duplicates(plan: Plan, spool: SignatureSpool, findings: Findings) -> int:
    """Add findings for pairs; return how many rows have a near-duplicate before them."""
    later: set[int] = set()
    shown: list[DuplicatePair] = []
    for pair in spool.pairs(SIMILARITY):
        if pair.other not in later:
            later.add(pair.other)
            if len(shown) < _PAIRS_SHOWN:
                shown.append(pair)
    keys = _keys(plan, [row for pair in shown for row in (pair.one, pair.other)])
    for pair in shown:
        detail = f"{pair.similarity:.0%} of its runs are those of {keys[pair.one]!r}"
        where = plan.shard_name(pair.other >> 32)
        findings.add(Finding("near-duplicate", keys[pair.other], where, detail))
    findings.counts.update(Counter({"near-duplicate": len(later) - len(shown)}))
    return len(later)


def _keys(plan: Plan, rows: list[int]) -> dict[int, str]:
    keys: dict[int, str] = {}
    for index in sorted({row >> 32 for row in rows}):
        with open_parquet(plan.shard_url(index)) as file:
            column = file.read(columns=["key"]).column("key")
        keys.update({row: column[row & 0xFFFFFFFF].as_py() for row in rows if row >> 32 == index})
    return keys


def _heat(counts: npt.NDArray[np.int64]) -> list[list[float]]:
    """Return shares by rank, joined to a width that a picture can show."""
    ordered = -np.sort(-counts, axis=1)
    columns = min(128, counts.shape[1])
    edges = np.linspace(0, counts.shape[1], columns, endpoint=False).astype(int)
    joined = np.add.reduceat(ordered, edges, axis=1)
    totals = np.maximum(joined.sum(axis=1, keepdims=True), 1)
    shares: list[list[float]] = np.round(joined / totals, 6).tolist()
    return shares
