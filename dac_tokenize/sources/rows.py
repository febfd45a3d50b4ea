"""Rows of manifests to references, whatever table they come from."""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dac_tokenize.errors import AudioError, SourceError
from dac_tokenize.references import Reference
from dac_tokenize.sources.records import Found, as_metadata, as_text, faulty
from dac_tokenize.waveform.cells import beside

PATH_COLUMNS = (
    *("audio_filepath", "audio_path", "audio_file", "audio", "file_path", "filepath"),
    *("file_name", "filename", "path", "wav", "file", "uri", "url"),
)
OFFSET_COLUMNS = ("offset", "offset_seconds")
DURATION_COLUMNS = ("duration", "duration_seconds")
KEY_COLUMN = "key"


@dataclass(frozen=True, slots=True)
class Columns:
    """Which columns of a manifest say where the sound lies.

    Attributes:
        path: path or URL of the file.
        offset: start (seconds).
        duration: length (seconds).
        key: the clip's key.
        folder: where relative paths start, seen from the manifest's folder.
    """

    path: str
    offset: str | None = None
    duration: str | None = None
    key: str | None = None
    folder: str = ""


def find_columns(names: Iterable[str]) -> Columns | None:
    """Recognises the columns of a manifest by their names; None where none holds a path.

    >>> find_columns(["audio_filepath", "duration", "text"])
    Columns(path='audio_filepath', offset=None, duration='duration', key=None, folder='')
    """
    there = set(names)

    def first(candidates: tuple[str, ...]) -> str | None:
        return next((name for name in candidates if name in there), None)

    path = first(PATH_COLUMNS)
    if path is None:
        return None
    common_voice = "client_id" in there and path == "path"
    return Columns(
        path=path,
        offset=first(OFFSET_COLUMNS),
        duration=first(DURATION_COLUMNS),
        key=first((KEY_COLUMN,)),
        folder="clips/" if common_voice else "",
    )


def list_rows(
    found: Found, rows: Iterable[tuple[str, Mapping[Any, Any] | str]], columns: Columns
) -> Iterator[Reference]:
    """Makes a reference of every row; of a bad one, a reference that fails with the reason.

    Args:
        found: the manifest.
        rows: where each row stands ("line 7"), and its values or what is wrong with it.
        columns: which of its columns mean what.
    """
    for place, row in rows:
        if isinstance(row, str):
            yield faulty(f"{found.key}/({place})", found.uri, f"{found.uri}, {place}: {row}")
            continue
        try:
            yield _reference(found, place, row, columns)
        except SourceError as error:
            yield faulty(f"{found.key}/({place})", found.uri, error)
        except AudioError as error:
            yield faulty(f"{found.key}/({place})", found.uri, error)


def _reference(found: Found, place: str, row: Mapping[Any, Any], columns: Columns) -> Reference:
    where = f"{found.uri}, {place}"
    path = row.get(columns.path)
    if not isinstance(path, str) or not path.strip():
        raise SourceError(f"{where}: {columns.path} is {path!r}; expected a path or URL")
    if "\0" in path or _has_surrogates(path):
        raise SourceError(f"{where}: {columns.path} is {path!r}, which is no UTF-8 text")
    offset = _seconds(row, columns.offset, where, minimum=0.0)
    duration = _seconds(row, columns.duration, where, minimum=None)
    key = row.get(columns.key) if columns.key else None
    if key is None or key == "":
        key = path_key(path) + ("" if offset is None else segment_key(offset, duration))
    named = {columns.path, columns.offset, columns.duration, columns.key}
    return Reference(
        key=as_text(str(key)),
        uri=beside(found.uri, columns.folder + path if "/" not in path else path),
        offset_seconds=offset or 0.0,
        duration_seconds=duration,
        metadata=as_metadata({name: value for name, value in row.items() if name not in named}),
    )


def _seconds(
    row: Mapping[Any, Any], column: str | None, where: str, minimum: float | None
) -> float | None:
    """Reads a time; `minimum` None asks for more than 0."""
    value = row.get(column) if column else None
    if value is None or value == "":
        return None
    try:
        seconds = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        seconds = math.nan
    if minimum is None and not (seconds > 0 and math.isfinite(seconds)):
        raise AudioError(f"{where}: {column} is {value!r}; expected seconds, more than 0")
    if minimum is not None and not (seconds >= minimum and math.isfinite(seconds)):
        raise AudioError(f"{where}: {column} is {value!r}; expected seconds, 0 or more")
    return seconds


def path_key(path: str) -> str:
    """Makes a key of a path or URL as it is written: no scheme, no root, no way upwards.

    >>> path_key("../wavs//a.wav"), path_key("s3://bucket/a.wav"), path_key("/data/a.wav")
    ('wavs/a.wav', 'bucket/a.wav', 'data/a.wav')
    """
    plain = re.sub(r"^[A-Za-z][A-Za-z0-9+.-]*://", "", path.split("::")[0])
    return "/".join(part for part in plain.split("/") if part not in ("", ".", ".."))


def segment_key(offset: float, duration: float | None) -> str:
    """Names a segment of a file.

    >>> segment_key(12.5, 3.0), segment_key(0.0, None)
    ('#12.5+3', '#0')
    """
    length = "" if duration is None else f"+{duration:.15g}"
    return f"#{offset:.15g}{length}"


def _has_surrogates(text: str) -> bool:
    return any("\ud800" <= sign <= "\udfff" for sign in text)
