"""Every row of a corpus, shard by shard: checks, codebook usage, durations, signatures."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dac_tokenize import files
from dac_tokenize.audit.checks import ROW_COLUMNS, check_against_plan, check_footer, check_row
from dac_tokenize.audit.duplicates import DuplicatePair, SignatureSpool, signature
from dac_tokenize.audit.findings import Finding, Findings
from dac_tokenize.audit.usage import (
    DURATION_EDGES,
    CodebookUsage,
    codebook_usage,
    count_codes,
    duration_bin,
)
from dac_tokenize.corpus.footer import load_footer, open_parquet
from dac_tokenize.corpus.manifest import read_manifest
from dac_tokenize.corpus.plan import load_shard
from dac_tokenize.corpus.record import FOOTER_PREFIX, codes_from_array
from dac_tokenize.errors import CorpusError

if TYPE_CHECKING:
    from dac_tokenize.corpus.plan import Plan

SIMILARITY = 0.8
"""Share of runs in common from which two rows count as near-duplicates."""

_DEAD_PERPLEXITY = 1.05
_DEAD_FRAMES = 200


@dataclass(slots=True)
class ShardScan:
    """What all rows of one shard, or of several, come to.

    Attributes:
        index: number of the shard; -1 for several.
        rows: rows.
        num_frames: frames of all rows.
        num_tokens: codes of all rows.
        num_samples: samples of all rows.
        counts: int64, shape (num_codebooks, codebook_size): how often each entry occurs.
        durations: int64, shape (len(DURATION_EDGES) + 1,): rows by duration.
        findings: what was found.
        places: place of each row that has a signature, among the shard's rows.
        signatures: uint32, shape (len(places), num_hashes).
    """

    index: int
    counts: npt.NDArray[np.int64]
    rows: int = 0
    num_frames: int = 0
    num_tokens: int = 0
    num_samples: int = 0
    durations: npt.NDArray[np.int64] = field(
        default_factory=lambda: np.zeros(len(DURATION_EDGES) + 1, np.int64)
    )
    findings: Findings = field(default_factory=Findings)
    places: list[int] = field(default_factory=list)
    signatures: list[npt.NDArray[np.uint32]] = field(default_factory=list)


def manifest_checksums(output: str) -> dict[str, str]:
    """Return the SHA-256 that a corpus's manifest has for each file; none where there is none."""
    manifest = read_manifest(output)
    return {entry.path: entry.checksum for entry in manifest.files} if manifest else {}


def scan_shard(plan: Plan, index: int, checksums: Mapping[str, str]) -> ShardScan:
    """Check all rows of one shard, one row group in memory at a time.

    Args:
        plan: the corpus's plan.
        index: number of the shard.
        checksums: from `manifest_checksums`.

    Returns:
        The scan; what cannot be read is among its findings.
    """
    codec = plan.request.codec
    scan = ShardScan(index, np.zeros((codec.num_codebooks, codec.codebook_size), np.int64))
    where = plan.shard_name(index)
    url = plan.shard_url(index)
    if not files.exists(url):
        scan.findings.add(Finding("missing-shard", "", where, "run the encoding again to make it"))
        return scan
    seen: list[dict[str, Any]] = []
    try:
        for row in _rows(url):
            _take(scan, row, plan, where)
            seen.append({name: row[name] for name in ("key", "source_uri", "offset_seconds")})
        _check_file(scan, plan, index, seen)
        if where in checksums and (found := files.checksum(url)) != checksums[where]:
            detail = f"SHA-256 {found[:12]}; the manifest says {checksums[where][:12]}"
            scan.findings.add(Finding("checksum", "", where, detail))
    except (CorpusError, OSError, ValueError) as error:
        scan.findings.add(Finding("unreadable", "", where, str(error)))
    return scan


def _take(scan: ShardScan, row: dict[str, Any], plan: Plan, where: str) -> None:
    codec, codes = plan.request.codec, row["audio_codes"]
    scan.findings.extend(check_row(row, codec, where))
    if codes.size:
        count_codes(scan.counts, codes)
        if (values := signature(codes)) is not None:
            scan.places.append(scan.rows)
            scan.signatures.append(values)
    scan.durations[duration_bin(row["num_samples"] / codec.sampling_rate)] += 1
    scan.rows += 1
    scan.num_frames += codes.shape[1]
    scan.num_tokens += codes.size
    scan.num_samples += row["num_samples"]


def _rows(url: str) -> Iterator[dict[str, Any]]:
    with open_parquet(url) as file:
        for group in range(file.num_row_groups):
            table = file.read_row_group(group, columns=list(ROW_COLUMNS))
            columns = {
                name: table.column(name).to_pylist()
                for name in ROW_COLUMNS
                if name != "audio_codes"
            }
            codes = [
                clip
                for chunk in table.column("audio_codes").chunks
                for clip in codes_from_array(chunk)
            ]
            for place, clip in enumerate(codes):
                values = {name: column[place] for name, column in columns.items()}
                yield values | {"audio_codes": clip}


def _check_file(scan: ShardScan, plan: Plan, index: int, seen: list[dict[str, Any]]) -> None:
    url, where = plan.shard_url(index), plan.shard_name(index)
    failed: set[str] = set()
    counted = {
        "rows": scan.rows,
        "num_frames": scan.num_frames,
        "num_tokens": scan.num_tokens,
        "num_samples": scan.num_samples,
    }
    try:
        footer = load_footer(url)
    except CorpusError as error:
        scan.findings.add(Finding("footer", "", where, str(error)))
    else:
        scan.findings.extend(check_footer(footer, plan, index, _schema_codec(url), counted))
        failed = {failure.key for failure in footer.failures}
    split = plan.request.waveform.channels == "split"
    scan.findings.extend(check_against_plan(seen, load_shard(plan, index), failed, split, where))


def _schema_codec(url: str) -> dict[str, Any]:
    with open_parquet(url) as file:
        entries = file.schema_arrow.metadata or {}
    codec: dict[str, Any] = json.loads(entries.get(f"{FOOTER_PREFIX}codec".encode(), b"{}"))
    return codec


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
        findings: what was found.
        near_duplicates: rows that are nearly the same as another one.
    """

    rows: int
    num_frames: int
    num_samples: int
    usage: list[CodebookUsage]
    heat: list[list[float]]
    durations: list[int]
    findings: Findings
    near_duplicates: int


def merge_scans(plan: Plan, scans: Iterable[ShardScan]) -> CorpusScan:
    """Merge the scans of all shards, in any order, in memory that does not grow with their rows."""
    codec = plan.request.codec
    total = ShardScan(-1, np.zeros((codec.num_codebooks, codec.codebook_size), np.int64))
    with SignatureSpool() as spool:
        for scan in scans:
            total.counts += scan.counts
            total.durations += scan.durations
            total.rows += scan.rows
            total.num_frames += scan.num_frames
            total.num_samples += scan.num_samples
            total.findings.merge(scan.findings)
            for place, values in zip(scan.places, scan.signatures, strict=True):
                spool.add((scan.index << 32) | place, values)
        near = _add_duplicates(plan, spool, total.findings)
    usage = codebook_usage(total.counts)
    total.findings.extend(_dead(usage, total.num_frames))
    total.findings.listed.sort(key=lambda one: (one.where, one.key, one.check, one.detail))
    return CorpusScan(
        rows=total.rows,
        num_frames=total.num_frames,
        num_samples=total.num_samples,
        usage=usage,
        heat=_heat(total.counts),
        durations=total.durations.tolist(),
        findings=total.findings,
        near_duplicates=near,
    )


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


_PAIRS_SHOWN = 100


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
