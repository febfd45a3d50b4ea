"""Proof that a corpus is whole: every shard read and held to manifest, plan and footer.

Each file is read once. Where the corpus is finished its SHA-256 must be the manifest's, so one
changed bit anywhere is found; then its pages' checksums, its footer and all rows are looked at.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dac_tokenize import files
from dac_tokenize.corpus.card import CARD_NAME
from dac_tokenize.corpus.footer import FailedInput, ShardFooter, ShardStats, footer_of
from dac_tokenize.corpus.manifest import FAILED_NAME, MANIFEST_NAME, Manifest, ManifestFile
from dac_tokenize.corpus.manifest import read_manifest as read_manifest
from dac_tokenize.corpus.plan import Plan, PlannedShard, iter_shards, load_plan, load_shard
from dac_tokenize.corpus.reading import read_failed
from dac_tokenize.corpus.record import corpus_schema
from dac_tokenize.corpus.rows import check_rows
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
        finished: whether there is a manifest, without which files have no checksum.
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
    manifest, findings = usable_manifest(plan)
    check = _ShardCheck(plan, manifest)
    shards: list[_Looked] = []
    failures: list[FailedInput] = []
    keys = _Keys()
    with ThreadPoolExecutor(max_workers=max(num_threads, 1)) as pool:
        for looked in _bounded(pool, check, iter_shards(plan), 2 * num_threads):
            keys.add(looked)
            looked.keys = None
            shards.append(looked)
            failures.extend(looked.failures)
            if on_shard is not None:
                on_shard(looked.planned.index)
    findings = [finding for looked in shards for finding in looked.findings] + findings
    findings += keys.findings(plan)
    if manifest is not None and not findings:
        findings += _check_failed(output, failures)
    findings += _strays(plan)
    return Verification(
        num_shards=plan.num_shards,
        rows=sum(looked.stats.rows for looked in shards),
        num_tokens=sum(looked.stats.num_tokens for looked in shards),
        size_bytes=sum(looked.size_bytes for looked in shards),
        finished=manifest is not None,
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
class _ShardCheck:
    """Looks at one shard."""

    plan: Plan
    manifest: Manifest | None

    def __call__(self, planned: PlannedShard) -> _Looked:
        looked = _Looked(planned)
        for kind, message in self._problems(looked):
            path = self.plan.shard_name(planned.index)
            looked.findings.append(Finding(path, kind, message, planned.index))
        if looked.findings:
            looked.stats = ShardStats()
        return looked

    def _problems(self, looked: _Looked) -> Iterator[tuple[str, str]]:
        """Yield what is wrong, as kind and message; stop where more would be only noise."""
        data = files.read_bytes(self.plan.shard_url(looked.planned.index))
        if data is None:
            yield "missing", "the plan has this shard, and there is no such file"
            return
        looked.size_bytes = len(data)
        entry = self._entry(looked.planned.index)
        if entry is not None and (problem := _checksum_problem(data, entry)):
            yield "checksum", problem
            return
        try:
            # One call for all pages: their checksums are compared where they are read.
            with pq.ParquetFile(io.BytesIO(data), page_checksum_verification=True) as file:
                footer = footer_of(file, looked.planned.fingerprint)
                table = file.read()
        except CorpusError as error:
            yield "footer", str(error).replace(looked.planned.fingerprint, "the file")
            return
        except (OSError, ValueError, MemoryError, pa.ArrowException) as error:
            yield "damaged", f"no readable Parquet file: {error}"
            return
        yield from self._footer_problems(footer, table, looked.planned)
        yield from self._count_problems(footer, table, looked.planned, entry)
        yield from self._key_problems(footer, table, looked)
        yield from check_rows(table, self.plan.request.codec)
        looked.failures, looked.stats = footer.failures, footer.stats

    def _entry(self, index: int) -> ManifestFile | None:
        known = self.manifest.files if self.manifest is not None else ()
        return known[index] if index < len(known) else None

    def _footer_problems(
        self, footer: ShardFooter, table: pa.Table, planned: PlannedShard
    ) -> Iterator[tuple[str, str]]:
        request = self.plan.request
        expected = {
            "shard_fingerprint": planned.fingerprint,
            "plan_fingerprint": self.plan.fingerprint,
            "index": planned.index,
            "num_shards": self.plan.num_shards,
            "codec": asdict(request.codec),
            "waveform": asdict(request.waveform),
        }
        for name, value in expected.items():
            if (found := getattr(footer, name)) != value:
                yield "footer", f"its footer has {name} {found}, and the plan {value}"
        schema = corpus_schema(request.codec, self.plan.metadata_schema)
        columns = [(column.name, column.type) for column in schema]
        if (has := [(column.name, column.type) for column in table.schema]) != columns:
            yield "footer", f"its columns are {_columns(has)}, and expected are {_columns(columns)}"

    def _count_problems(
        self,
        footer: ShardFooter,
        table: pa.Table,
        planned: PlannedShard,
        entry: ManifestFile | None,
    ) -> Iterator[tuple[str, str]]:
        stats = footer.stats
        if stats.clips != planned.num_clips:
            yield "counts", f"{stats.clips} clips, and {planned.num_clips} in the plan"
        if stats.failed != len(footer.failures):
            yield "counts", f"{stats.failed} failed inputs, and {len(footer.failures)} listed"
        for name, found in _counts(table).items():
            if found != (said := getattr(stats, name)):
                yield "counts", f"{name} of all rows is {found}, and its footer says {said}"
        for name, value in asdict(stats).items() if entry is not None else ():
            if value != (said := getattr(entry, name)):
                yield "counts", f"its footer has {name} {value}, and the manifest {said}"

    def _key_problems(
        self, footer: ShardFooter, table: pa.Table, looked: _Looked
    ) -> Iterator[tuple[str, str]]:
        """Hold the rows' keys to the clips of the plan that did not fail."""
        failed = {failure.key for failure in footer.failures}
        references = load_shard(self.plan, looked.planned.index)
        expected = [reference.key for reference in references if reference.key not in failed]
        looked.keys = list(map(str, table.column("key").to_pylist()))
        found = looked.keys
        if self.plan.request.waveform.channels == "split":
            found = list(dict.fromkeys(key.rpartition("#")[0] for key in looked.keys))
        if found == expected:
            return
        lost = [key for key in expected if key not in set(found)]
        foreign = [key for key in found if key not in set(expected)]
        for what, keys in (("misses", lost), ("has, against the plan,", foreign)):
            if keys:
                yield "keys", f"it {what} {len(keys)} clips, the first {keys[0]!r}"
        if not lost and not foreign:
            yield "keys", "its rows are not the plan's clips in their order, each once"


def _checksum_problem(data: bytes, entry: ManifestFile) -> str | None:
    if len(data) != entry.size_bytes:
        return f"{len(data):,} bytes, and {entry.size_bytes:,} in the manifest"
    if (digest := hashlib.sha256(data).hexdigest()) != entry.checksum:
        return f"its SHA-256 is {digest[:12]}..., and {entry.checksum[:12]}... in the manifest"
    return None


def _columns(columns: Iterable[tuple[str, Any]]) -> str:
    return ", ".join(f"{name} {kind}" for name, kind in columns)


def _counts(table: pa.Table) -> dict[str, int]:
    """Return the sums over all rows that a footer also states, where the columns have them."""
    counts: dict[str, int] = {}
    for name in ("num_frames", "num_samples"):
        if name in table.column_names:
            counts[name] = sum(value or 0 for value in table.column(name).to_pylist())
    if "audio_codes" in table.column_names:
        inner: Any = table.column("audio_codes").combine_chunks()
        inner = inner.flatten()
        counts["num_tokens"] = len(inner.flatten())
    return counts


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
    pool: ThreadPoolExecutor, check: _ShardCheck, shards: Iterable[PlannedShard], ahead: int
) -> Iterator[_Looked]:
    """Map over shards in order, with only so many under way, so that memory stays bounded."""
    waiting: list[Any] = []
    for planned in shards:
        waiting.append(pool.submit(check, planned))
        if len(waiting) > ahead:
            yield waiting.pop(0).result()
    for future in waiting:
        yield future.result()


def usable_manifest(plan: Plan) -> tuple[Manifest | None, list[Finding]]:
    """Return the manifest where it can be used, and what is wrong with it."""

    def finding(message: str) -> list[Finding]:
        return [Finding(MANIFEST_NAME, "manifest", message)]

    try:
        manifest = read_manifest(plan.output)
    except CorpusError as error:
        return None, finding(str(error))
    if manifest is None:
        return None, finding("there is none: the corpus is not finished; run the encoding again")
    if manifest.plan_fingerprint != plan.fingerprint or len(manifest.files) != plan.num_shards:
        return None, finding(
            f"it is of the plan {manifest.plan_fingerprint[:12]}... with {len(manifest.files)} "
            f"shards, and the plan is {plan.fingerprint[:12]}... with {plan.num_shards}"
        )
    return manifest, list(_sum_findings(manifest))


_SUMS = ("clips", "failed", "rows", "num_frames", "num_tokens", "num_samples", "size_bytes")


def _sum_findings(manifest: Manifest) -> Iterator[Finding]:
    for name in _SUMS:
        total = sum(getattr(entry, name) for entry in manifest.files)
        if total != (said := getattr(manifest, name)):
            message = f"it says {name} {said}, and its files have {total}"
            yield Finding(MANIFEST_NAME, "manifest", message)


def _check_failed(output: str, failures: list[FailedInput]) -> Iterator[Finding]:
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


def _strays(plan: Plan) -> list[Finding]:
    """List files that belong neither to the corpus nor to a run that goes on now.

    In the top folder only left-over temporaries and Parquet files count, for people add to it.
    """
    shards = {plan.shard_name(index).rsplit("/", 1)[-1] for index in range(plan.num_shards)}
    parts = {"plan.json", *(part.name for part in plan.parts)}
    known = {"data": shards, "_plan": parts, "": {CARD_NAME, FAILED_NAME, MANIFEST_NAME}}
    found = []
    for folder, names in known.items():
        url = files.join(plan.output, folder) if folder else plan.output
        for name in files.list_names(url):
            counts = bool(folder) or ".tmp-" in name or name.endswith(".parquet")
            if counts and name not in names and not files.is_living_temporary(url, name):
                path = f"{folder}/{name}" if folder else name
                message = "no file of this corpus; remove it by hand if it is not wanted"
                if ".tmp-" in name:
                    message = "left by a run that died; the next run or --repair removes it"
                found.append(Finding(path, "stray", message))
    return found
