"""Parquet files: with embedded sound, as the Hub stores it, or as a manifest."""

import json
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dac_tokenize.errors import PlanError
from dac_tokenize.locators import Cell, dump_locator
from dac_tokenize.references import Reference
from dac_tokenize.sources.records import Found, as_metadata, as_text, faulty
from dac_tokenize.sources.rows import find_columns, list_rows

BATCH_ROWS = 1024
AUDIO_NAMES = ("audio", "speech", "wav", "flac", "mp3", "sound", "bytes")


def list_parquet(found: Found) -> Iterator[Reference]:
    """Lists the rows of a Parquet file, a row group at a time.

    The column of sound is a struct with `bytes` and `path`, or one of bytes named `audio`; the
    others are carried as metadata, but for those that hold bytes. A row's key is its column
    `key`, or the file's key and the row's number. Without such a column the file is a manifest.

    Raises:
        PlanError: it is no Parquet file, or has neither sound nor paths.
    """
    with found.open() as file:
        try:
            parquet = pq.ParquetFile(file)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
            raise PlanError(f"{found.uri} is no Parquet file: {error}") from error
        schema = parquet.schema_arrow
        column = _audio_column(schema)
        if column is not None:
            yield from _embedded(found, parquet, column)
            return
        columns = find_columns(schema.names)
        if columns is None or not _is_text(schema.field(columns.path).type):
            raise PlanError(
                f"{found.uri} has no column of sound or of paths: it has "
                f"{', '.join(f'{field.name} ({field.type})' for field in schema)}; expected "
                "audio (struct<bytes, path>) or, for one, audio_filepath (string)"
            )
        yield from list_rows(found, _rows(found, parquet, schema), columns)


def _audio_column(schema: pa.Schema) -> str | None:
    """Finds the column of sound: declared by `datasets`, a struct with bytes, or named so."""
    structs = [field.name for field in schema if _is_audio_struct(field.type)]
    declared = [name for name in structs if name in _declared_audio(schema)]
    named = [
        name for name in AUDIO_NAMES if name in schema.names and _is_bytes(schema.field(name).type)
    ]
    preferred = [name for name in AUDIO_NAMES if name in structs]
    return next(iter([*declared, *preferred, *structs, *named]), None)


def _declared_audio(schema: pa.Schema) -> list[str]:
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return [name for name, kind in features.items() if kind.get("_type") == "Audio"]
    except (KeyError, ValueError, AttributeError, TypeError):
        return []


def _is_audio_struct(kind: pa.DataType) -> bool:
    if not pa.types.is_struct(kind):
        return False
    return any(field.name == "bytes" and _is_bytes(field.type) for field in kind)


def _is_bytes(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _is_text(kind.value_type)
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _holds_bytes(kind: pa.DataType) -> bool:
    if _is_bytes(kind) or pa.types.is_fixed_size_binary(kind):
        return True
    return any(_holds_bytes(kind.field(i).type) for i in range(kind.num_fields))


def _embedded(found: Found, parquet: Any, column: str) -> Iterator[Reference]:
    others = [
        field.name
        for field in parquet.schema_arrow
        if field.name != column and not _holds_bytes(field.type)
    ]
    first = 0
    for row_group in range(parquet.num_row_groups):
        num_rows = parquet.metadata.row_group(row_group).num_rows
        row = 0
        try:
            for values in _values(parquet, row_group, num_rows, others):
                cell = Cell(column, row_group, row, found.size_bytes)
                key = values.pop("key", None)
                if key is None:
                    key = f"{found.key}/{first + row:09d}"
                yield Reference(
                    key=as_text(str(key)),
                    uri=found.uri,
                    metadata=as_metadata(values),
                    locator=dump_locator(cell),
                )
                row += 1
        except (pa.ArrowException, OSError) as error:
            reason = f"{found.uri}: row group {row_group} is damaged from row {row} on: {error}"
            yield faulty(f"{found.key}/(row group {row_group})", found.uri, reason)
        first += num_rows


def _values(
    parquet: Any, row_group: int, num_rows: int, columns: list[str]
) -> Iterator[dict[str, Any]]:
    if not columns:
        yield from ({} for _ in range(num_rows))
        return
    for batch in parquet.iter_batches(BATCH_ROWS, row_groups=[row_group], columns=columns):
        yield from batch.to_pylist()


def _rows(
    found: Found, parquet: Any, schema: pa.Schema
) -> Iterator[tuple[str, dict[str, Any] | str]]:
    names = [field.name for field in schema if not _holds_bytes(field.type)]
    row = 0
    try:
        for batch in parquet.iter_batches(BATCH_ROWS, columns=names):
            for values in batch.to_pylist():
                yield f"row {row}", values
                row += 1
    except (pa.ArrowException, OSError) as error:
        yield f"row {row}", f"the file is damaged from row {row} on: {error}"
