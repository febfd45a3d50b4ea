"""References on their way into a plan: spooled to local files, so that memory stays bounded."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from dac_tokenize.corpus.cutting import SizeSamples
from dac_tokenize.corpus.plan import METADATA_PREFIX, REFERENCE_SCHEMA
from dac_tokenize.corpus.record import check_metadata_names
from dac_tokenize.errors import PlanError
from dac_tokenize.references import Reference

_SPOOL_OPTIONS = pa.ipc.IpcWriteOptions(compression="zstd")


class Spool:
    """References in local files of some thousand each.

    Args:
        folder: an empty local folder.

    Attributes:
        samples: sizes of files whose duration is unknown.
        num_clips: how many references were added.
    """

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
            probed = reference.duration_seconds is None and reference.locator is None
            if probed and reference.size_bytes is not None:
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
        fixed = [getattr(reference, column.name) for reference in references]
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
