"""One shard, or one manifest, held to the plan: the checks that `verify` and `audit` share."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dac_tokenize import files
from dac_tokenize.corpus.footer import ShardFooter, footer_of
from dac_tokenize.corpus.manifest import Manifest, read_manifest, shards_covered
from dac_tokenize.corpus.parts import PlannedShard
from dac_tokenize.corpus.plan import Plan, load_shard
from dac_tokenize.corpus.record import FOOTER_PREFIX, corpus_schema
from dac_tokenize.corpus.results import ManifestFile, totals
from dac_tokenize.corpus.rows import Problem, check_rows, unreadable_rows
from dac_tokenize.errors import CorpusError


@dataclass(slots=True)
class CheckedShard:
    """One shard as it was found.

    Attributes:
        planned: the shard.
        problems: what is wrong with it.
        size_bytes: size of its file.
        footer: what it says of itself; None where that cannot be read.
        table: its rows; None where they cannot be gone through.
    """

    planned: PlannedShard
    problems: list[Problem] = field(default_factory=list)
    size_bytes: int = 0
    footer: ShardFooter | None = None
    table: pa.Table | None = None


@dataclass(frozen=True, slots=True)
class ShardChecker:
    """Reads a shard once, and holds it to plan and manifest.

    Attributes:
        plan: the corpus's plan.
        manifest: from `usable_manifest`; without one there are no checksums of files.
        thorough: go on where a file's checksum or footer is wrong, which tells that already.
    """

    plan: Plan
    manifest: Manifest | None
    thorough: bool = False

    def check(self, planned: PlannedShard) -> CheckedShard:
        """Return what a shard holds and what is wrong with it; the file is held in memory.

        Args:
            planned: one of the plan's.
        """
        checked = CheckedShard(planned)
        checked.problems.extend(self._problems(checked))
        return checked

    def _problems(self, checked: CheckedShard) -> Iterator[Problem]:
        planned = checked.planned
        data = files.read_bytes(self.plan.shard_url(planned.index))
        if data is None:
            yield Problem("missing", "the plan has this shard, and there is no such file")
            return
        checked.size_bytes = len(data)
        entry = self._entry(planned.index)
        if entry is not None and (problem := _checksum_problem(data, entry)):
            yield Problem("checksum", problem)
            if not self.thorough:
                return
        try:
            # One call for all pages: their checksums are compared where they are read.
            with pq.ParquetFile(io.BytesIO(data), page_checksum_verification=True) as file:
                yield from self._footer(file, checked)
                if checked.footer is None and not self.thorough:
                    return
                table = file.read()
        except (OSError, ValueError, MemoryError, pa.ArrowException) as error:
            yield Problem("damaged", f"no readable Parquet file: {error}")
            return
        if checked.footer is not None:
            yield from self._footer_problems(checked.footer, table, planned)
            yield from self._count_problems(checked.footer, table, planned, entry)
        yield from self._plan_problems(checked.footer, table, planned)
        yield from check_rows(table, self.plan.request.codec)
        checked.table = table if unreadable_rows(table) is None else None

    def _entry(self, index: int) -> ManifestFile | None:
        known = self.manifest.files if self.manifest is not None else ()
        return known[index] if index < len(known) else None

    def _footer(self, file: Any, checked: CheckedShard) -> Iterator[Problem]:
        try:
            checked.footer = footer_of(file, "the file")
        except CorpusError as error:
            yield Problem("footer", str(error))

    def _footer_problems(
        self, footer: ShardFooter, table: pa.Table, planned: PlannedShard
    ) -> Iterator[Problem]:
        request, generation = self.plan.request, self.plan.generation_of(planned.index)
        expected = {
            "shard_fingerprint": planned.fingerprint,
            "plan_fingerprint": generation.fingerprint,
            "index": planned.index,
            "num_shards": generation.end_shard,
            "codec": asdict(request.codec),
            "waveform": asdict(request.waveform),
        }
        for name, value in expected.items():
            for what, found, planned_value in _differences(name, getattr(footer, name), value):
                yield Problem(
                    "footer", f"its footer has {what} {found}, and the plan {planned_value}"
                )
        entries = table.schema.metadata or {}
        described = json.loads(entries.get(f"{FOOTER_PREFIX}codec".encode(), b"{}"))
        if described != dict(footer.codec):
            yield Problem("footer", "its schema names another codec than its footer")
        schema = corpus_schema(request.codec, self.plan.metadata_schema)
        columns = [(column.name, column.type) for column in schema]
        if (has := [(column.name, column.type) for column in table.schema]) != columns:
            yield Problem(
                "footer", f"its columns are {_columns(has)}, and expected are {_columns(columns)}"
            )

    def _count_problems(
        self,
        footer: ShardFooter,
        table: pa.Table,
        planned: PlannedShard,
        entry: ManifestFile | None,
    ) -> Iterator[Problem]:
        stats = footer.stats
        if stats.clips != planned.num_clips:
            yield Problem("counts", f"{stats.clips} clips, and {planned.num_clips} in the plan")
        if stats.failed != len(footer.failures):
            yield Problem(
                "counts", f"{stats.failed} failed inputs, and {len(footer.failures)} listed"
            )
        for name, found in _counts(table).items():
            if found != (said := getattr(stats, name)):
                yield Problem(
                    "counts", f"{name} of all rows is {found}, and its footer says {said}"
                )
        for name, value in asdict(stats).items() if entry is not None else ():
            if value != (said := getattr(entry, name)):
                yield Problem("counts", f"its footer has {name} {value}, and the manifest {said}")

    def _plan_problems(
        self, footer: ShardFooter | None, table: pa.Table, planned: PlannedShard
    ) -> Iterator[Problem]:
        """Hold the rows' keys and sources to the clips of the plan that did not fail."""
        names = ("key", "source_uri", "offset_seconds")
        if any(name not in table.column_names or table.column(name).null_count for name in names):
            return
        failed = {failure.key for failure in footer.failures} if footer is not None else set()
        expected = {
            reference.key: (reference.uri, reference.offset_seconds)
            for reference in load_shard(self.plan, planned.index)
            if reference.key not in failed
        }
        columns: list[list[Any]] = [table.column(name).to_pylist() for name in names]
        keys, uris, offsets = columns
        split = self.plan.request.waveform.channels == "split"
        found = [reference_key(key, split) for key in keys]
        for key, clip, uri, offset in zip(keys, found, uris, offsets, strict=True):
            planned_source = expected.get(clip, (uri, offset))
            if planned_source != (uri, offset):
                yield Problem(
                    "keys",
                    f"the clip {key!r} is of {uri} at {offset:g} s, and in the plan of "
                    f"{planned_source[0]} at {planned_source[1]:g} s",
                    key,
                )
        if split:
            found = list(dict.fromkeys(found))
        if found == list(expected):
            return
        lost = [key for key in expected if key not in set(found)]
        foreign = [key for key in found if key not in expected]
        for what, some in (("misses", lost), ("has, against the plan,", foreign)):
            if some:
                yield Problem("keys", f"it {what} {len(some)} clips, the first {some[0]!r}")
        if not lost and not foreign:
            yield Problem("keys", "its rows are not the plan's clips in their order, each once")


def reference_key(key: str, split: bool) -> str:
    """Return the clip's key for a row's key.

    Args:
        key: of the row.
        split: whether each channel is a row of its own, named `key#channel`.

    >>> reference_key("a#b.wav#1", split=True)
    'a#b.wav'
    """
    return key.rpartition("#")[0] if split else key


def _differences(name: str, found: Any, expected: Any) -> Iterator[tuple[str, Any, Any]]:
    """Yield name, value and expected value; of mappings only the entries that differ."""
    if found == expected:
        return
    if not isinstance(found, Mapping):
        yield name, found, expected
        return
    for entry in sorted({*found, *expected}):
        one, other = found.get(entry), expected.get(entry)
        if one != other:
            yield f"{name} {entry}", repr(one), repr(other)


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


def usable_manifest(plan: Plan) -> tuple[Manifest | None, list[Problem]]:
    """Return the manifest where it can be used, and what is wrong with it.

    Returns:
        None where it cannot be used; the kinds are "unfinished", where there is none, or one from
        before something was added (which can be used), and "manifest".
    """
    try:
        manifest = read_manifest(plan.output)
    except CorpusError as error:
        return None, [Problem("manifest", str(error))]
    if manifest is None:
        return None, [
            Problem(
                "unfinished",
                "there is none: the corpus is not finished; run the encoding again",
            )
        ]
    problems = list(_sum_problems(manifest))
    if not (covered := shards_covered(plan, manifest)):
        return None, [
            Problem(
                "manifest",
                f"it is of the plan {manifest.plan_fingerprint[:12]}... with {len(manifest.files)} "
                f"shards, and the plan is {plan.fingerprint[:12]}... with {plan.num_shards}",
            )
        ]
    if covered < plan.num_shards:
        what = f"{plan.num_shards - covered} shards were added, and the corpus is not finished"
        problems.append(Problem("unfinished", f"{what}; run the encoding again"))
    return manifest, problems


def _sum_problems(manifest: Manifest) -> Iterator[Problem]:
    for name, total in totals(manifest.files).items():
        if total != (said := getattr(manifest, name)):
            yield Problem("manifest", f"it says {name} {said}, and its files have {total}")
