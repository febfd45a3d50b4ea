"""Proof that a corpus is whole: every shard read and held to manifest, plan and footer.

Each file is read once. Where the corpus is finished its SHA-256 must be the manifest's, so one
changed bit anywhere is found; then its pages' checksums, its footer and all rows are looked at.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa

from dac_tokenize import files, temporaries
from dac_tokenize.corpus.card import CARD_NAME
from dac_tokenize.corpus.checking import ShardChecker, usable_manifest
from dac_tokenize.corpus.footer import FailedInput, ShardStats
from dac_tokenize.corpus.generation import generation_name
from dac_tokenize.corpus.manifest import FAILED_NAME, MANIFEST_NAME
from dac_tokenize.corpus.parts import PlannedShard
from dac_tokenize.corpus.plan import Plan, iter_parts, iter_shards, load_plan
from dac_tokenize.corpus.reading import read_failed
from dac_tokenize.corpus.rows import Problem
from dac_tokenize.errors import CorpusError

NUM_THREADS = 4
"""Shards read at once; each is held in memory while it is looked at."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong with a corpus.

    Attributes:
        path: the file, below the output folder.
        kind: "missing", "checksum", "damaged" (no readable Parquet), "footer", "counts", "keys",
            "codes", "frames", "stray", "manifest" or "failed inputs"; after a repair also
            "changed".
        message: what was found and what was expected.
        index: number of the shard that must be made again; None where it is not a shard's fault.
    """

    path: str
    kind: str
    message: str
    index: int | None = None


@dataclass(frozen=True, slots=True)
class Verification:
    """What was looked at, and what is wrong.

    Attributes:
        num_shards: shards of the plan.
        rows: rows of the shards without a finding.
        num_tokens: their codes.
        size_bytes: bytes read.
        finished: whether there is a manifest of all shards; files not in it have no checksum.
        findings: what is wrong, in order of the shards, then the rest.
    """

    num_shards: int
    rows: int
    num_tokens: int
    size_bytes: int
    finished: bool
    findings: tuple[Finding, ...]

    def bad_shards(self) -> list[int]:
        """Return the numbers of the shards that must be made again, in order."""
        return sorted({f.index for f in self.findings if f.index is not None})


def verify_corpus(
    output: str,
    *,
    num_threads: int = NUM_THREADS,
    on_shard: Callable[[int], None] | None = None,
) -> Verification:
    """Read all of a corpus and list what is wrong with it.

    Args:
        output: path or URL of the output folder.
        num_threads: shards read at once.
        on_shard: called with the number of each shard looked at, in order.

    Returns:
        The findings; none where the corpus is whole. One changed bit in a shard of a finished
        corpus is always found.

    Raises:
        CorpusError: there is no corpus, or its plan is damaged.

    >>> verify_corpus("out").findings  # doctest: +SKIP
    ()
    """
    plan = load_plan(output)
    if plan is None:
        raise CorpusError(f"{output} holds no corpus of dac_tokenize: it has no _plan/plan.json")
    manifest, problems = usable_manifest(plan)
    findings = [Finding(MANIFEST_NAME, "manifest", problem.message) for problem in problems]
    look = _Look(ShardChecker(plan, manifest))
    shards: list[_Looked] = []
    failures: list[FailedInput] = []
    keys = _Keys()
    with ThreadPoolExecutor(max_workers=max(num_threads, 1)) as pool:
        for looked in _bounded(pool, look, iter_shards(plan), 2 * num_threads):
            keys.add(looked)
            looked.keys = None
            shards.append(looked)
            failures.extend(looked.failures)
            if on_shard is not None:
                on_shard(looked.planned.index)
    findings = [finding for looked in shards for finding in looked.findings] + findings
    findings += keys.findings(plan)
    if manifest is not None and not findings:
        findings += check_failed(output, failures)
    findings += strays(plan)
    return Verification(
        num_shards=plan.num_shards,
        rows=sum(looked.stats.rows for looked in shards),
        num_tokens=sum(looked.stats.num_tokens for looked in shards),
        size_bytes=sum(looked.size_bytes for looked in shards),
        finished=manifest is not None and all(one.kind != "unfinished" for one in problems),
        findings=tuple(findings),
    )


@dataclass(slots=True)
class _Looked:
    """One shard as it was found; `stats` stay zero where something is wrong with it."""

    planned: PlannedShard
    findings: list[Finding] = field(default_factory=list)
    failures: tuple[FailedInput, ...] = ()
    stats: ShardStats = field(default_factory=ShardStats)
    size_bytes: int = 0
    keys: list[str] | None = None


@dataclass(frozen=True, slots=True)
class _Look:
    """Looks at one shard, and keeps what is small."""

    checker: ShardChecker

    def __call__(self, planned: PlannedShard) -> _Looked:
        checked = self.checker.check(planned)
        path = self.checker.plan.shard_name(planned.index)
        looked = _Looked(planned, size_bytes=checked.size_bytes)
        for problem in _first_of_each(checked.problems):
            looked.findings.append(Finding(path, problem.kind, problem.message, planned.index))
        if checked.table is not None:
            looked.keys = list(map(str, checked.table.column("key").to_pylist()))
        if checked.footer is not None:
            looked.failures = checked.footer.failures
            if not looked.findings:
                looked.stats = checked.footer.stats
        return looked


def _first_of_each(problems: Iterable[Problem]) -> list[Problem]:
    """Return the first problem of each kind that rows have, with their number, and all others."""
    counts: dict[str, int] = {}
    kept = []
    for problem in problems:
        if problem.key is not None:
            counts[problem.kind] = counts.get(problem.kind, 0) + 1
            if counts[problem.kind] > 1:
                continue
        kept.append(problem)
    return [
        replace(problem, message=f"{problem.message}, and {more:,} more like it")
        if problem.key is not None and (more := counts[problem.kind] - 1)
        else problem
        for problem in kept
    ]


class _Keys:
    """Finds keys that occur twice in a corpus, with 12 bytes of memory for each row."""

    def __init__(self) -> None:
        self._hashes: list[Any] = []
        self._shards: list[Any] = []

    def add(self, looked: _Looked) -> None:
        """Take the keys of one shard."""
        keys = looked.keys or []
        digests = (hashlib.blake2b(key.encode(), digest_size=8).digest() for key in keys)
        self._hashes.append(np.frombuffer(b"".join(digests), np.uint64))
        self._shards.append(np.full(len(keys), looked.planned.index, np.int32))

    def findings(self, plan: Plan) -> list[Finding]:
        """Return one finding for each shard that has a key of an earlier row."""
        hashes, shards = np.concatenate(self._hashes), np.concatenate(self._shards)
        first = np.zeros(hashes.size, bool)
        first[np.unique(hashes, return_index=True)[1]] = True
        again, counts = np.unique(shards[~first], return_counts=True)
        return [
            Finding(
                plan.shard_name(index),
                "keys",
                f"{count} of its rows have keys that other rows of the corpus have",
                index,
            )
            for index, count in zip(again.tolist(), counts.tolist(), strict=True)
        ]


def _bounded(
    pool: ThreadPoolExecutor, look: _Look, shards: Iterable[PlannedShard], ahead: int
) -> Iterator[_Looked]:
    """Map over shards in order, with only so many under way, so that memory stays bounded."""
    waiting: list[Any] = []
    for planned in shards:
        waiting.append(pool.submit(look, planned))
        if len(waiting) > ahead:
            yield waiting.pop(0).result()
    for future in waiting:
        yield future.result()


def check_failed(output: str, failures: list[FailedInput]) -> Iterator[Finding]:
    """Yield what is wrong with the list of failed inputs.

    Args:
        output: path or URL of a finished corpus.
        failures: what the footers of all shards say, in order.
    """
    try:
        listed = read_failed(output)
    except (CorpusError, OSError, ValueError, TypeError, pa.ArrowException) as error:
        yield Finding(FAILED_NAME, "failed inputs", f"it cannot be read: {error}")
        return
    if listed != failures:
        yield Finding(
            FAILED_NAME,
            "failed inputs",
            f"it lists {len(listed)} inputs, and the shards' footers {len(failures)} that differ",
        )


def strays(plan: Plan) -> list[Finding]:
    """List files that belong neither to the corpus nor to a run that goes on now.

    In the top folder only left-over temporaries and Parquet files count, for people add to it.
    """
    shards = {plan.shard_name(index).rsplit("/", 1)[-1] for index in range(plan.num_shards)}
    planned = {generation_name(number) for number in range(len(plan.generations))}
    planned.update(part.name for part in iter_parts(plan))
    known = {"data": shards, "_plan": planned, "": {CARD_NAME, FAILED_NAME, MANIFEST_NAME}}
    found = []
    for folder, names in known.items():
        url = files.join(plan.output, folder) if folder else plan.output
        for name in files.list_names(url):
            counts = bool(folder) or ".tmp-" in name or name.endswith(".parquet")
            if counts and name not in names and not temporaries.is_living_temporary(url, name):
                path = f"{folder}/{name}" if folder else name
                message = "no file of this corpus; remove it by hand if it is not wanted"
                if ".tmp-" in name:
                    message = "left by a run that died; the next run or --repair removes it"
                found.append(Finding(path, "stray", message))
    return found
