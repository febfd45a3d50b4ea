"""References on their way into a plan: spooled to local files, so that memory stays bounded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from dac_tokenize.corpus.cutting import SizeSamples
from dac_tokenize.corpus.keys import KeyFiles, Positions, suspected_twice
from dac_tokenize.corpus.parts import METADATA_PREFIX, REFERENCE_SCHEMA
from dac_tokenize.corpus.record import check_metadata_names
from dac_tokenize.errors import PlanError
from dac_tokenize.references import Reference

_SPOOL_OPTIONS = pa.ipc.IpcWriteOptions(compression="lz4")
_fixed_fields = attrgetter(*REFERENCE_SCHEMA.names)


class Spool:
    """References in local files of some thousand each.

    Args:
        folder: an empty local folder.

    Attributes:
        folder: that folder.
        keys: the references' keys.
        samples: sizes of files whose duration is unknown.
        num_clips: how many references were added, less those left out.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._schemas: dict[pa.Schema, None] = {}
        self._starts = [0]
        self._left_out: dict[int, Any] = {}
        self.keys = KeyFiles(folder / "keys")
        self.samples = SizeSamples()
        self.num_clips = 0

    def add(self, references: Sequence[Reference]) -> None:
        """Take the next references."""
        table = _reference_table(references)
        path = self._path(len(self._starts) - 1)
        with pa.ipc.new_file(path, table.schema, options=_SPOOL_OPTIONS) as writer:
            writer.write_table(table)
        self.keys.add(table)
        self._schemas[table.schema] = None
        self._starts.append(self._starts[-1] + len(references))
        self.num_clips += len(references)
        for reference in references:
            probed = reference.duration_seconds is None and reference.locator is None
            if probed and reference.size_bytes is not None:
                self.samples.add(reference.uri, reference.size_bytes)

    def leave_out(self, positions: Positions) -> None:
        """Drop references, by their numbers in the order in which they were added, each once."""
        for index, rows in self._by_table(positions):
            keep = self._left_out.setdefault(index, np.ones(self._rows_of(index), bool))
            keep[rows] = False
        self.num_clips -= len(positions)

    def metadata_schema(self) -> pa.Schema:
        """Return the metadata columns of all references, with types that hold all values.

        A column in which no reference has a value has the type null.
        """
        try:
            schema = pa.unify_schemas(list(self._schemas), promote_options="permissive")
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise PlanError(
                f"a metadata column holds values of types that do not go together: {error}; give "
                "each column values of one type"
            ) from error
        columns = list(schema)[len(REFERENCE_SCHEMA) :]
        return pa.schema([c.with_name(c.name.removeprefix(METADATA_PREFIX)) for c in columns])

    def tables(self, metadata_schema: pa.Schema) -> Iterator[pa.Table]:
        """Yield all references not left out, in order, as tables of one schema.

        Args:
            metadata_schema: types that hold all values, none of them null.
        """
        extra = [column.with_name(METADATA_PREFIX + column.name) for column in metadata_schema]
        schema = pa.schema([*REFERENCE_SCHEMA, *extra])
        for index in range(len(self._starts) - 1):
            table = self._read(index)
            if (keep := self._left_out.get(index)) is not None:
                table = table.filter(pa.array(keep))
            columns = [
                table.column(column.name).cast(column.type)
                if column.name in table.column_names
                else pa.nulls(table.num_rows, column.type)
                for column in schema
            ]
            yield pa.table(columns, schema=schema)

    def rows(self, positions: Positions, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Yield some columns of the references with these numbers, which must ascend."""
        for index, rows in self._by_table(positions):
            yield from self._read(index).select(list(columns)).take(rows).to_pylist()

    def row(self, position: int, columns: Sequence[str]) -> dict[str, Any]:
        """Return some columns of one reference, by its number."""
        return next(self.rows(np.array([position]), columns))

    def check_keys(self) -> None:
        """Make sure that no two references have one key."""
        seen: dict[str, str] = {}
        for row in self.rows(suspected_twice(self.keys), ("key", "uri")):
            key, uri = row["key"], row["uri"]
            if key in seen:
                raise PlanError(
                    f"two clips have the key {key!r}: one in {seen[key]}, one in {uri}; keys "
                    "name the rows of a corpus, so give each clip its own, or give each input "
                    "once"
                )
            seen[key] = uri

    def _by_table(self, positions: Positions) -> Iterator[tuple[int, Positions]]:
        """Yield numbers of tables, and which of their rows are among ascending positions."""
        ends = np.searchsorted(positions, self._starts)
        for index in np.flatnonzero(np.diff(ends)).tolist():
            yield index, positions[ends[index] : ends[index + 1]] - self._starts[index]

    def _rows_of(self, index: int) -> int:
        return self._starts[index + 1] - self._starts[index]

    def _path(self, index: int) -> str:
        return str(self.folder / f"{index:06d}.arrow")

    def _read(self, index: int) -> pa.Table:
        with pa.ipc.open_file(self._path(index)) as reader:
            return reader.read_all()


def _reference_table(references: Sequence[Reference]) -> pa.Table:
    """Return references as a table; metadata columns are in order of their first appearance."""
    names: dict[str, None] = {}
    for reference in references:
        names.update(dict.fromkeys(reference.metadata))
    check_metadata_names(names)
    columns = {}
    fixed = zip(*map(_fixed_fields, references), strict=True)
    for column, values in zip(REFERENCE_SCHEMA, fixed, strict=True):
        columns[column.name] = _column(column.name, values, column.type)
    for name in names:
        extra = [reference.metadata.get(name) for reference in references]
        columns[METADATA_PREFIX + name] = _column(name, extra, None)
    return pa.table(columns)


def _column(name: str, values: Sequence[Any], kind: pa.DataType | None) -> Any:
    try:
        return pa.array(values, type=kind)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, UnicodeEncodeError) as error:
        raise PlanError(
            f"the column {name!r} cannot be kept: {error}; give it values of one type in the "
            "input's table"
        ) from error
