"""The files of a plan that hold references: one row group a shard, some shards a file.

So a worker reads just its shard. A part is named for the plan it belongs to, and what it says of
its shards is in its footer.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dac_tokenize import files, publishing
from dac_tokenize.corpus.footer import open_parquet
from dac_tokenize.corpus.record import FOOTER_PREFIX, feature_json
from dac_tokenize.corpus.request import PlanRequest
from dac_tokenize.errors import CorpusError
from dac_tokenize.references import Reference

SHARDS_PER_PART = 100
"""Shards whose references share one file of the plan; with more, footers are slow to read."""

SHARDS_ENTRY = FOOTER_PREFIX + "shards"
"""Footer entry of a part: for each of its shards [fingerprint, clips, estimated seconds]."""

METADATA_PREFIX = "metadata."
"""What the names of metadata columns start with in a part of the plan."""

_COLUMNS: list[pa.Field[Any]] = [
    pa.field("key", pa.string()),
    pa.field("uri", pa.string()),
    pa.field("offset_seconds", pa.float64()),
    pa.field("duration_seconds", pa.float64()),
    pa.field("size_bytes", pa.int64()),
    pa.field("locator", pa.string()),
]
REFERENCE_SCHEMA = pa.schema(_COLUMNS)
"""The columns of a part of the plan; metadata columns follow them."""

_BATCH_ROWS = 20_000

# Keys and paths occur once, and nobody searches: dictionaries and statistics would double the size.
_PARQUET_OPTIONS: Any = {"compression": "zstd", "use_dictionary": False, "write_statistics": False}


@dataclass(frozen=True, slots=True)
class PlanPart:
    """One file of a plan.

    Attributes:
        name: file name in the plan's folder.
        first_shard: number of its first shard.
        num_shards: how many shards it has.
        num_clips: how many clips these have.
        checksum: SHA-256 of the fingerprints of its shards.
    """

    name: str
    first_shard: int
    num_shards: int
    num_clips: int
    checksum: str


@dataclass(frozen=True, slots=True)
class PlannedShard:
    """One shard as planned.

    Attributes:
        index: its number, from 0.
        fingerprint: SHA-256 of all that decides its rows.
        num_clips: its clips.
        estimated_seconds: how much sound these probably have.
    """

    index: int
    fingerprint: str
    num_clips: int
    estimated_seconds: float


class PartWriter:
    """Writes the parts of a plan into a local folder, sums them up, and publishes them.

    Args:
        folder: a local folder.
        request: what the corpus is asked to be.
        first_shard: number of the first shard.

    Attributes:
        num_shards: shards written so far.
        num_clips: their clips.
        estimated_seconds: how much sound these probably have.
    """

    def __init__(self, folder: Path, request: PlanRequest, first_shard: int) -> None:
        self._folder = folder
        self._request = request
        self._first_shard = first_shard
        self._parts: list[PlanPart] = []
        self._digest = hashlib.sha256(files.canonical_json(request.fingerprint_header()))
        self.num_shards = 0
        self.num_clips = 0
        self.estimated_seconds = 0.0

    def write(self, shards: Iterable[tuple[pa.Table, float]]) -> None:
        """Write all shards given: the references of each, and their estimated seconds."""
        waiting = iter(shards)
        while (head := next(waiting, None)) is not None:
            rest = itertools.islice(waiting, SHARDS_PER_PART - 1)
            self._write_part(head[0].schema, itertools.chain([head], rest))

    def _write_part(self, schema: pa.Schema, shards: Iterable[tuple[pa.Table, float]]) -> None:
        entries: list[tuple[str, int, float]] = []
        path = self._path(len(self._parts))
        with pq.ParquetWriter(path, schema, **_PARQUET_OPTIONS) as writer:
            for table, seconds in shards:
                fingerprint = shard_fingerprint(self._request, table)
                entries.append((fingerprint, table.num_rows, seconds))
                writer.write_table(table, row_group_size=table.num_rows)
            writer.add_key_value_metadata({SHARDS_ENTRY: json.dumps(entries)})
        fingerprints = [fingerprint for fingerprint, _, _ in entries]
        num_clips = sum(clips for _, clips, _ in entries)
        first = self._first_shard + self.num_shards
        self._parts.append(
            PlanPart("", first, len(entries), num_clips, _part_checksum(fingerprints))
        )
        self._digest.update("".join(fingerprints).encode())
        self.num_shards += len(entries)
        self.num_clips += num_clips
        self.estimated_seconds += sum(seconds for _, _, seconds in entries)

    def fingerprint(self) -> str:
        """Return the SHA-256 of the request and of all shards' fingerprints."""
        return self._digest.hexdigest()

    def publish(self, output: str) -> tuple[PlanPart, ...]:
        """Move the parts into a plan's folder; return them with their names."""
        mark = self.fingerprint()[:12]
        named = []
        for number, part in enumerate(self._parts):
            named.append(replace(part, name=f"part-{mark}-{number:05d}.parquet"))
            publishing.publish_file(Path(self._path(number)), plan_url(output, named[-1].name))
        return tuple(named)

    def _path(self, number: int) -> str:
        return str(self._folder / f"part-{number:05d}.parquet")


def plan_url(output: str, name: str = "plan.json") -> str:
    """Return the path or URL of a file of an output's plan."""
    return files.join(output, "_plan", name)


@functools.lru_cache(maxsize=64)
def part_shards(output: str, part: PlanPart) -> tuple[PlannedShard, ...]:
    """Return the shards of a part as planned.

    Raises:
        CorpusError: the file is missing, damaged, or another one.
    """
    try:
        with open_parquet(plan_url(output, part.name)) as file:
            entries = json.loads(file.metadata.metadata[SHARDS_ENTRY.encode()])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise damaged_plan(output, f"{part.name} cannot be read ({error})") from error
    shards = tuple(PlannedShard(part.first_shard + i, *entry) for i, entry in enumerate(entries))
    if _part_checksum([shard.fingerprint for shard in shards]) != part.checksum:
        raise damaged_plan(output, f"{part.name} is not the one that the plan was written for")
    return shards


def read_references(
    output: str, part: PlanPart, index: int, request: PlanRequest
) -> list[Reference]:
    """Read the references of one shard.

    Args:
        output: path or URL of the output folder.
        part: the part that has the shard.
        index: the shard's number in its corpus.
        request: what the corpus is asked to be.

    Raises:
        CorpusError: the part is missing or damaged.
    """
    planned = part_shards(output, part)[index - part.first_shard]
    try:
        with open_parquet(plan_url(output, part.name)) as file:
            table = file.read_row_group(index - part.first_shard)
    except (OSError, ValueError) as error:
        raise damaged_plan(output, f"{part.name} cannot be read ({error})") from error
    if shard_fingerprint(request, table) != planned.fingerprint:
        raise damaged_plan(output, f"{part.name} holds other references than it says")
    return references_of(table)


def iter_columns(output: str, part: PlanPart, columns: list[str]) -> Iterator[pa.Table]:
    """Yield some columns of all references of a part, in order, in tables of bounded size.

    Raises:
        CorpusError: the part is missing or damaged.
    """
    try:
        with open_parquet(plan_url(output, part.name)) as file:
            for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=columns):
                yield pa.Table.from_batches([batch])
    except (OSError, ValueError) as error:
        raise damaged_plan(output, f"{part.name} cannot be read ({error})") from error


def shard_fingerprint(request: PlanRequest, references: pa.Table) -> str:
    """Return the SHA-256 of all that decides a shard's rows.

    Args:
        request: what the corpus is asked to be.
        references: the shard's rows of the plan.

    Returns:
        64 hexadecimal digits, the same however the table is laid out in memory or files.
    """
    digest = hashlib.sha256(files.canonical_json(request.fingerprint_header()))
    for column in references.schema:
        values = references.column(column.name).to_pylist()
        kind = feature_json(column.name.removeprefix(METADATA_PREFIX), column.type)
        digest.update(files.canonical_json([column.name, kind, values]))
    return digest.hexdigest()


def references_of(table: pa.Table) -> list[Reference]:
    """Return the references that a table of the plan holds; null metadata are left out."""
    fixed = [table.column(name).to_pylist() for name in REFERENCE_SCHEMA.names]
    names = [name for name in table.schema.names if name.startswith(METADATA_PREFIX)]
    extra = [table.column(name).to_pylist() for name in names]
    references = []
    for row, values in enumerate(zip(*fixed, strict=True)):
        metadata = {
            name.removeprefix(METADATA_PREFIX): column[row]
            for name, column in zip(names, extra, strict=True)
            if column[row] is not None
        }
        fields = dict(zip(REFERENCE_SCHEMA.names, values, strict=True))
        references.append(Reference(**fields, metadata=metadata))
    return references


def _part_checksum(fingerprints: Iterable[str]) -> str:
    return hashlib.sha256("".join(fingerprints).encode()).hexdigest()


def damaged_plan(output: str, what: str) -> CorpusError:
    """Return the error that says what of a plan is damaged, and what to do."""
    return CorpusError(
        f"the plan of {output} is damaged: {what}; what is published stays readable, but to go on, "
        f"bring back {plan_url(output, '')} from a copy, or give another --output"
    )
