"""Kaldi's folders: `wav.scp`, and `segments` of long recordings."""

from collections.abc import Iterator

from dac_tokenize.errors import PlanError
from dac_tokenize.references import Reference
from dac_tokenize.sources.records import Found
from dac_tokenize.sources.rows import Columns, list_rows

SIBLINGS = {"text": "text", "utt2spk": "speaker", "utt2lang": "language", "spk2gender": "gender"}
COLUMNS = Columns("path", "offset", "duration", "key")

Row = tuple[str, dict[str, object] | str]


def list_kaldi(found: Found) -> Iterator[Reference]:
    """Lists a `segments` file by the `wav.scp` beside it, or a `wav.scp` alone.

    `text`, `utt2spk` and `utt2lang` beside them are carried as text, speaker and language.
    Commands in `wav.scp` (lines that end with |) are never run; their clips fail.

    Raises:
        PlanError: the `wav.scp` is missing or cannot be read.
    """
    is_segments = found.path.rsplit("/", 1)[-1] == "segments"
    scp = found.sibling("wav.scp")
    if is_segments and not scp.exists():
        raise PlanError(f"{found.uri} needs {scp.uri} beside it, which is not there")
    tables = {
        column: _table(found.sibling(name))
        for name, column in SIBLINGS.items()
        if found.sibling(name).exists()
    }
    rows = _segments(found, _table(scp)) if is_segments else _recordings(found)
    yield from list_rows(found, _with_columns(rows, tables), COLUMNS)


def _lines(found: Found) -> Iterator[tuple[int, str]]:
    with found.open() as file:
        for number, line in enumerate(file, 1):
            text = line.decode("utf-8-sig" if number == 1 else "utf-8", "surrogateescape").strip()
            if text:
                yield number, text


def _table(found: Found) -> dict[str, str]:
    table = {}
    for _, line in _lines(found):
        name, _, value = line.partition(" ") if "\t" not in line else line.partition("\t")
        table[name] = value.strip()
    return table


def _recordings(found: Found) -> Iterator[Row]:
    for number, line in _lines(found):
        name, *rest = line.split(maxsplit=1)
        yield _checked(f"line {number}", name, rest[0] if rest else "", {})


def _segments(found: Found, paths: dict[str, str]) -> Iterator[Row]:
    for number, line in _lines(found):
        place, fields = f"line {number}", line.split()
        if len(fields) != 4:
            yield place, f"{len(fields)} fields; expected utterance, recording, start and end"
            continue
        name, recording, start, end = fields
        if recording not in paths:
            yield place, f"there is no recording {recording!r} in wav.scp"
            continue
        try:
            times = {"offset": float(start), "duration": _difference(start, end)}
        except ValueError:
            yield place, f"start {start!r} and end {end!r}; expected seconds"
            continue
        yield _checked(place, name, paths[recording], {**times, "recording_id": recording})


def _difference(start: str, end: str) -> float:
    """Subtracts times as they are written: 1.3 - 1.1 is 0.2, and not a little less."""
    return round(float(end) - float(start), 9)


def _checked(place: str, name: str, path: str, more: dict[str, object]) -> Row:
    if path.endswith("|"):
        return place, f"{name} is the output of a command, which is not run: {path!r}"
    return place, {"key": name, "path": path, **more}


def _with_columns(rows: Iterator[Row], tables: dict[str, dict[str, str]]) -> Iterator[Row]:
    for place, row in rows:
        if not isinstance(row, str):
            key, speaker = row["key"], None
            for column, table in tables.items():
                owner = speaker if column == "gender" else str(key)
                if owner is not None and owner in table:
                    row[column] = table[owner]
                if column == "speaker":
                    speaker = str(row.get(column))
        yield place, row
