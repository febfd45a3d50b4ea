"""Making plans: references, however many, into shards, in bounded memory.

Two passes. The first takes the references as they come and spools them to local files, a chunk at
a time, noting 8 bytes a key and a sample of file sizes. The second, when the types of all metadata
columns and the likely seconds of each clip are known, cuts shards and writes the plan's parts.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dac_tokenize import files
from dac_tokenize.cutting import ShardCutter, SizeSamples, estimate_seconds, probe_seconds
from dac_tokenize.errors import CorpusError, PlanError
from dac_tokenize.plan import (
    METADATA_PREFIX,
    REFERENCE_SCHEMA,
    SHARDS_ENTRY,
    SHARDS_PER_PART,
    Plan,
    PlanPart,
    check_vacant,
    load_plan,
    part_checksum,
    plan_json,
    plan_url,
    shard_fingerprint,
)
from dac_tokenize.record import check_metadata_names, corpus_schema
from dac_tokenize.references import Reference
from dac_tokenize.request import PlanRequest
from dac_tokenize.shard import package_versions

SPOOL_ROWS = 20_000
"""References held in memory at once in the first pass."""

Probe = Callable[[str], float | None]


def open_plan(
    output: str, request: PlanRequest, references: Callable[[], Iterable[Reference]]
) -> Plan:
    """Return the plan saved in an output folder, or make and save it.

    Args:
        output: path or URL of the output folder.
        request: what the corpus is asked to be.
        references: lists the inputs; called only where no plan has been saved.

    Raises:
        CorpusMismatchError: the folder holds another corpus, or something else.
        PlanError: the inputs cannot be planned.
        CorpusError: the plan cannot be read or written.
    """
    plan = load_plan(output)
    if plan is None:
        check_vacant(output)
        return make_plan(output, request, references())
    plan.check_request(request)
    return plan


def make_plan(
    output: str,
    request: PlanRequest,
    references: Iterable[Reference],
    *,
    probe: Probe = probe_seconds,
    spool_rows: int = SPOOL_ROWS,
) -> Plan:
    """Plan a corpus and save the plan.

    Args:
        output: path or URL of the output folder.
        request: what the corpus is asked to be.
        references: any number, in the order that the corpus shall have; keys must be unique.
        probe: gives the duration of a file in seconds, or None.
        spool_rows: references held in memory at once.

    Returns:
        The saved plan. The same references and request give the same files, byte for byte.

    Raises:
        PlanError: there are no references, two have one key, or their metadata do not fit.
        CorpusError: the plan cannot be written.
    """
    try:
        with files.temporary_folder(plan_url(output, "spool")) as folder:
            spool = _Spool(folder)
            stream = iter(references)
            while chunk := list(itertools.islice(stream, spool_rows)):
                spool.add(chunk)
            if not spool.num_clips:
                raise PlanError(
                    f"nothing to encode: found no clips in {', '.join(request.inputs)}; give "
                    "files, folders or globs that hold sound"
                )
            spool.check_keys()
            return _save(output, request, spool, spool.samples.bytes_per_second(probe))
    except OSError as error:
        raise CorpusError(
            f"the plan of {output} cannot be written: {error}; nothing was encoded, so free the "
            "space or give another --output, and run again"
        ) from error


def _save(output: str, request: PlanRequest, spool: _Spool, rates: dict[str, float]) -> Plan:
    if (plan := load_plan(output)) is not None:  # another driver was quicker
        plan.check_request(request)
        return plan
    writer = _PartWriter(output, request)
    shards = _cut(spool, request, rates)
    while (head := next(shards, None)) is not None:
        writer.write(itertools.chain([head], itertools.islice(shards, SHARDS_PER_PART - 1)))
    plan = Plan(
        output=output,
        request=request,
        fingerprint=writer.digest.hexdigest(),
        num_shards=writer.num_shards,
        num_clips=spool.num_clips,
        estimated_seconds=writer.seconds,
        bytes_per_second=rates,
        metadata_schema=spool.metadata_schema(),
        parts=tuple(writer.parts),
        package_version=package_versions()["dac-tokenize"],
    )
    corpus_schema(request.codec, plan.metadata_schema)
    files.publish_bytes(plan_json(plan), plan_url(output))
    return plan


class _PartWriter:
    """Writes the parts of a plan and sums them up."""

    def __init__(self, output: str, request: PlanRequest) -> None:
        self._output = output
        self._request = request
        self.parts: list[PlanPart] = []
        self.num_shards = 0
        self.seconds = 0.0
        self.digest = hashlib.sha256(files.canonical_json(request.fingerprint_header()))

    def write(self, shards: Iterator[tuple[pa.Table, float]]) -> None:
        """Write one part with all of the shards given, at least one."""
        name = f"part-{len(self.parts):05d}.parquet"
        entries: list[tuple[str, int, float]] = []
        with files.published(plan_url(self._output, name)) as path:
            head = next(shards)
            with pq.ParquetWriter(str(path), head[0].schema, compression="zstd") as writer:
                for table, seconds in itertools.chain([head], shards):
                    fingerprint = shard_fingerprint(self._request, table)
                    entries.append((fingerprint, table.num_rows, seconds))
                    writer.write_table(table, row_group_size=table.num_rows)
                writer.add_key_value_metadata({SHARDS_ENTRY: json.dumps(entries)})
        self._note(name, entries)

    def _note(self, name: str, entries: list[tuple[str, int, float]]) -> None:
        checksum = part_checksum(fingerprint for fingerprint, _, _ in entries)
        num_clips = sum(clips for _, clips, _ in entries)
        self.parts.append(PlanPart(name, self.num_shards, len(entries), num_clips, checksum))
        self.num_shards += len(entries)
        for fingerprint, _, seconds in entries:
            self.digest.update(fingerprint.encode())
            self.seconds += seconds


def _cut(
    spool: _Spool, request: PlanRequest, rates: dict[str, float]
) -> Iterator[tuple[pa.Table, float]]:
    """Yield the references of each shard, as a table, and their estimated seconds."""
    cutter = ShardCutter(request.shard_seconds, request.max_shard_clips)
    pieces: list[pa.Table] = []
    total = 0.0
    for table in spool.tables():
        first = 0
        for row, seconds in enumerate(_estimates(table, rates)):
            if cutter.starts_shard(seconds):
                pieces.append(table.slice(first, row - first))
                if any(piece.num_rows for piece in pieces):
                    yield pa.concat_tables(pieces), total
                pieces, total, first = [], 0.0, row
            total += seconds
        pieces.append(table.slice(first))
    yield pa.concat_tables(pieces), total


def _estimates(table: pa.Table, rates: dict[str, float]) -> list[float]:
    names = ("uri", "offset_seconds", "duration_seconds", "size_bytes")
    columns: Any = [table.column(name).to_pylist() for name in names]
    return [
        estimate_seconds(uri, offset, duration, size, rates)
        for uri, offset, duration, size in zip(*columns, strict=True)
    ]


class _Spool:
    """References on their way into a plan, in local files of some thousand each."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._schemas: list[pa.Schema] = []
        self._hashes: list[Any] = []
        self.samples = SizeSamples()
        self.num_clips = 0

    def add(self, references: Sequence[Reference]) -> None:
        """Take the next references."""
        table = _reference_table(references)
        path = self._path(len(self._schemas))
        with pa.ipc.new_file(path, table.schema, options=_SPOOL_OPTIONS) as writer:
            writer.write_table(table)
        self._hashes.append(_hashes(reference.key for reference in references))
        self._schemas.append(table.schema)
        self.num_clips += len(references)
        for reference in references:
            if reference.duration_seconds is None and reference.size_bytes is not None:
                self.samples.add(reference.uri, reference.size_bytes)

    def metadata_schema(self) -> pa.Schema:
        """Return the metadata columns of all references, with types that hold all values."""
        columns = list(self._schema())[len(REFERENCE_SCHEMA) :]
        return pa.schema([c.with_name(c.name.removeprefix(METADATA_PREFIX)) for c in columns])

    def tables(self) -> Iterator[pa.Table]:
        """Yield all references, in order, as tables of one schema."""
        schema = self._schema()
        for index in range(len(self._schemas)):
            table = self._read(index)
            columns = [
                table.column(column.name).cast(column.type)
                if column.name in table.column_names
                else pa.nulls(table.num_rows, column.type)
                for column in schema
            ]
            yield pa.table(columns, schema=schema)

    def check_keys(self) -> None:
        """Make sure that no two references have one key, with 8 bytes of memory for each."""
        hashes = np.sort(np.concatenate(self._hashes))
        twice = set(hashes[1:][hashes[1:] == hashes[:-1]][:1000].tolist())
        seen: dict[str, str] = {}
        for index in range(len(self._schemas) if twice else 0):
            table = self._read(index)
            for row in np.flatnonzero(np.isin(self._hashes[index], list(twice))).tolist():
                key, uri = table.column("key")[row].as_py(), table.column("uri")[row].as_py()
                if key in seen:
                    raise PlanError(
                        f"two clips have the key {key!r}: one in {seen[key]}, one in {uri}; keys "
                        "name the rows of a corpus, so give each clip its own, or give each input "
                        "once"
                    )
                seen[key] = uri

    def _schema(self) -> pa.Schema:
        try:
            schema = pa.unify_schemas(self._schemas, promote_options="permissive")
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise PlanError(
                f"a metadata column holds values of types that do not go together: {error}; give "
                "each column values of one type"
            ) from error
        return pa.schema([_without_null(column) for column in schema])

    def _path(self, index: int) -> str:
        return str(self._folder / f"{index:06d}.arrow")

    def _read(self, index: int) -> pa.Table:
        with pa.ipc.open_file(self._path(index)) as reader:
            return reader.read_all()


_SPOOL_OPTIONS = pa.ipc.IpcWriteOptions(compression="zstd")


def _without_null(column: pa.Field[Any]) -> pa.Field[Any]:
    """Make a column in which no clip has a value one of text."""
    return column.with_type(pa.string()) if pa.types.is_null(column.type) else column


def _hashes(keys: Iterable[str]) -> Any:
    digests = (hashlib.blake2b(key.encode(), digest_size=8).digest() for key in keys)
    return np.frombuffer(b"".join(digests), np.uint64)


def _reference_table(references: Sequence[Reference]) -> pa.Table:
    """Return references as a table; metadata columns are in order of their first appearance."""
    names: dict[str, None] = {}
    for reference in references:
        names.update(dict.fromkeys(reference.metadata))
    check_metadata_names(names)
    columns = {}
    for column in REFERENCE_SCHEMA:
        fixed = [getattr(reference, column.name, None) for reference in references]
        columns[column.name] = _column(column.name, fixed, column.type)
    for name in names:
        values = [reference.metadata.get(name) for reference in references]
        columns[METADATA_PREFIX + name] = _column(name, values, None)
    return pa.table(columns)


def _column(name: str, values: list[Any], kind: pa.DataType | None) -> Any:
    try:
        return pa.array(values, type=kind)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, UnicodeEncodeError) as error:
        raise PlanError(
            f"the column {name!r} cannot be kept: {error}; give it values of one type in the "
            "input's table"
        ) from error
