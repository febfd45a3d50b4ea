"""Manifests in text: JSON lines, CSV and TSV, in any of the encodings they come in."""

import codecs
import csv
import gzip
import io
import itertools
import json
from collections.abc import Iterator
from typing import Any

from dac_tokenize.errors import PlanError
from dac_tokenize.references import Reference
from dac_tokenize.sources.lhotse import LhotseReader, is_lhotse
from dac_tokenize.sources.records import Found
from dac_tokenize.sources.rows import Columns, find_columns, list_rows
from dac_tokenize.sources.suffixes import plain_suffix_of

MAX_LINE_CHARACTERS = 2**24
BYTE_ORDER_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
NEEDED = "expected a column of paths, for one audio_filepath, path or file_name"

Row = tuple[str, dict[Any, Any] | str]


def list_manifest(found: Found) -> Iterator[Reference]:
    """Lists the rows of a JSONL, CSV or TSV manifest, also one packed by gzip.

    Args:
        found: the manifest.

    Yields:
        A reference for every row, bad ones included.

    Raises:
        PlanError: the manifest as a whole cannot be read, or has no column of paths.
    """
    with found.open() as raw:
        file = gzip.GzipFile(fileobj=raw) if found.path.endswith(".gz") else io.BufferedReader(raw)
        try:
            text = _as_text(file)
            if plain_suffix_of(found.path) in (".csv", ".tsv"):
                yield from _list_table(found, text)
            else:
                yield from _list_lines(found, text)
        except (OSError, EOFError) as error:
            raise PlanError(f"{found.uri} cannot be read: {error}") from error
        except UnicodeError as error:
            raise PlanError(f"{found.uri} is no text in UTF-8 or UTF-16: {error}") from error


def _as_text(file: Any) -> io.TextIOWrapper:
    """Decodes a file by its byte order mark, else as UTF-8; other bytes become surrogates."""
    head = file.read(4)
    file.seek(0)
    encoding = next((e for mark, e in BYTE_ORDER_MARKS.items() if head.startswith(mark)), "utf-8")
    errors = "strict" if encoding == "utf-16" else "surrogateescape"
    return io.TextIOWrapper(file, encoding=encoding, errors=errors, newline="")


def _lines(found: Found, text: io.TextIOWrapper) -> Iterator[str]:
    for number in itertools.count(1):
        line = text.readline(MAX_LINE_CHARACTERS)
        if not line:
            return
        if len(line) >= MAX_LINE_CHARACTERS:
            raise PlanError(f"{found.uri}, line {number}: longer than {MAX_LINE_CHARACTERS} signs")
        yield line


# JSON lines


def _list_lines(found: Found, text: io.TextIOWrapper) -> Iterator[Reference]:
    rows = _json_rows(found, text)
    first = next(rows, None)
    if first is None:
        raise PlanError(f"{found.uri} is empty; expected one JSON object a line")
    place, row = first
    if isinstance(row, str):
        raise PlanError(f"{found.uri}, {place}: {row}")
    rows = itertools.chain([first], rows)
    if is_lhotse(row):
        yield from list_rows(
            found,
            LhotseReader(found).plain_rows(rows),
            Columns("path", "offset", "duration", "key"),
        )
        return
    columns = find_columns(row)
    if columns is None:
        raise PlanError(f"{found.uri} has the columns {', '.join(map(str, row))}; {NEEDED}")
    # later rows may have columns that the first one lacks
    columns = Columns(
        path=columns.path,
        offset=columns.offset or "offset",
        duration=columns.duration or "duration",
        key="key",
        folder=columns.folder,
    )
    yield from list_rows(found, rows, columns)


def _json_rows(found: Found, text: io.TextIOWrapper) -> Iterator[Row]:
    for number, line in enumerate(_lines(found, text), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            yield f"line {number}", f"no JSON: {error}; expected one object a line"
            continue
        if isinstance(row, dict):
            yield f"line {number}", row
        else:
            yield f"line {number}", f"found {type(row).__name__}; expected one JSON object a line"


# CSV and TSV


def _list_table(found: Found, text: io.TextIOWrapper) -> Iterator[Reference]:
    lines = _lines(found, text)
    header = next(lines, None)
    if header is None:
        raise PlanError(f"{found.uri} is empty; expected a header and one row for each clip")
    reader = _reader(found, header, itertools.chain([header], lines))
    try:
        names = next(reader)
        columns = find_columns(names)
        if columns is None:
            raise PlanError(f"{found.uri} has the columns {', '.join(names)}; {NEEDED}")
        yield from list_rows(found, _table_rows(reader, names), columns)
    except csv.Error as error:
        raise PlanError(f"{found.uri}, line {reader.line_num}: {error}") from error


def _reader(found: Found, header: str, lines: Iterator[str]) -> Any:
    if plain_suffix_of(found.path) == ".tsv":  # as Common Voice writes them: quotes are text
        return csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
    delimiter = next((sign for sign in ",;\t" if sign in header), ",")
    return csv.reader(lines, delimiter=delimiter)


def _table_rows(reader: Any, names: list[str]) -> Iterator[Row]:
    for values in reader:
        place = f"line {reader.line_num}"
        if not values:
            continue
        if len(values) != len(names):
            yield place, f"{len(values)} fields; the header has {len(names)}"
        else:
            yield place, dict(zip(names, values, strict=True))
