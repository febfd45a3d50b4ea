"""Every row of a corpus, shard by shard: checks, codebook usage, durations, levels, signatures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dac_tokenize.audit.checks import check_codes
from dac_tokenize.audit.duplicates import signature
from dac_tokenize.audit.findings import Finding, Findings
from dac_tokenize.audit.levels import LEVEL_EDGES, decoded_levels, level_bin
from dac_tokenize.audit.usage import DURATION_EDGES, count_codes, duration_bin
from dac_tokenize.corpus.checking import ShardChecker, usable_manifest
from dac_tokenize.corpus.plan import planned_shard
from dac_tokenize.corpus.record import codes_from_array

if TYPE_CHECKING:
    import pyarrow as pa

    from dac_tokenize.corpus.footer import FailedInput
    from dac_tokenize.corpus.plan import Plan
    from dac_tokenize.tokenizer import DacTokenizer


@dataclass(slots=True)
class ShardScan:
    """What all rows of one shard, or of several, come to.

    Attributes:
        index: number of the shard; -1 for several.
        counts: int64, shape (num_codebooks, codebook_size): how often each entry occurs.
        rows: rows.
        num_frames: frames of all rows.
        num_samples: samples of all rows.
        durations: int64, shape (len(DURATION_EDGES) + 1,): rows by duration.
        decoded: rows that were decoded.
        levels: int64, shape (len(LEVEL_EDGES) + 1,): rows by the level of their decoded sound.
        findings: what was found.
        failures: inputs that gave no row, by the shard's footer.
        places: place of each row that has a signature, among the shard's rows.
        signatures: uint32, shape (num_hashes,) each.
    """

    index: int
    counts: npt.NDArray[np.int64]
    rows: int = 0
    num_frames: int = 0
    num_samples: int = 0
    durations: npt.NDArray[np.int64] = field(
        default_factory=lambda: np.zeros(len(DURATION_EDGES) + 1, np.int64)
    )
    decoded: int = 0
    levels: npt.NDArray[np.int64] = field(
        default_factory=lambda: np.zeros(len(LEVEL_EDGES) + 1, np.int64)
    )
    findings: Findings = field(default_factory=Findings)
    failures: tuple[FailedInput, ...] = ()
    places: list[int] = field(default_factory=list)
    signatures: list[npt.NDArray[np.uint32]] = field(default_factory=list)


def empty_scan(plan: Plan, index: int) -> ShardScan:
    """Return a scan of no rows."""
    codec = plan.request.codec
    return ShardScan(index, np.zeros((codec.num_codebooks, codec.codebook_size), np.int64))


class ShardScanner:
    """Scans shards of one corpus.

    Args:
        plan: the corpus's plan.
        tokenizer: the corpus's codec, to decode all rows; None to decode none.
    """

    def __init__(self, plan: Plan, tokenizer: DacTokenizer | None = None) -> None:
        self._plan = plan
        self._checker = ShardChecker(plan, usable_manifest(plan)[0], thorough=True)
        self._tokenizer = tokenizer

    def scan(self, index: int) -> ShardScan:
        """Check all rows of one shard, which is held in memory.

        Args:
            index: number of the shard.

        Returns:
            The scan; what cannot be read is among its findings.
        """
        scan = empty_scan(self._plan, index)
        where = self._plan.shard_name(index)
        checked = self._checker.check(planned_shard(self._plan, index))
        for problem in checked.problems:
            scan.findings.add(Finding(problem.kind, problem.key or "", where, problem.message))
        if checked.footer is not None:
            scan.failures = checked.footer.failures
        if checked.table is not None:
            for row in _rows(checked.table):
                self._take(scan, row, where)
            if self._tokenizer is not None:
                self._listen(scan, checked.table, self._tokenizer, where)
        return scan

    def _take(self, scan: ShardScan, row: _Row, where: str) -> None:
        codec = self._plan.request.codec
        for check, detail in check_codes(row.codes, codec):
            scan.findings.add(Finding(check, row.key, where, detail))
        if row.codes.size:
            count_codes(scan.counts, row.codes)
            if (values := signature(row.codes)) is not None:
                scan.places.append(scan.rows)
                scan.signatures.append(values)
        scan.durations[duration_bin(row.num_samples / codec.sampling_rate)] += 1
        scan.rows += 1
        scan.num_frames += row.codes.shape[1]
        scan.num_samples += row.num_samples

    def _listen(
        self, scan: ShardScan, table: pa.Table, tokenizer: DacTokenizer, where: str
    ) -> None:
        clips = ((row.codes, row.num_samples) for row in _rows(table))
        for row, levels in zip(_rows(table), decoded_levels(tokenizer, clips), strict=True):
            if levels is None:
                continue
            scan.decoded += 1
            scan.levels[level_bin(levels.rms_db)] += 1
            for check, detail in levels.problems():
                scan.findings.add(Finding(check, row.key, where, detail))


@dataclass(frozen=True, slots=True)
class _Row:
    key: str
    codes: npt.NDArray[np.uint16]
    num_samples: int


def _rows(table: pa.Table) -> Iterator[_Row]:
    keys: list[Any] = table.column("key").to_pylist()
    lengths: list[Any] = table.column("num_samples").to_pylist()
    clips = codes_from_array(table.column("audio_codes").combine_chunks())
    for key, codes, length in zip(keys, clips, lengths, strict=True):
        yield _Row(key, codes, length)
