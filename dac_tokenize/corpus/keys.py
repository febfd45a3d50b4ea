"""Which clips have one key, among however many, in bounded memory.

Keys are hashed into 64 bits and spread over local files, so that equal ones meet in one of them;
each file is then looked through by itself. Hashes only say which rows must be looked at: whoever
asks compares the keys themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

COLUMNS = ["key", "uri", "offset_seconds", "duration_seconds", "size_bytes"]
"""The columns of the plan that say which clip is which."""

UNKNOWN_SIZE = -1

_NUM_FILES = 64
_MOST_REPORTED = 1000

_ROW = np.dtype([("key", "<i8"), ("source", "<i8"), ("size", "<i8"), ("position", "<i8")])

Rows = npt.NDArray[Any]
"""Rows of hashed key, hashed source, size in bytes and position among all that were added."""

Positions = npt.NDArray[np.int64]


class KeyFiles:
    """Hashed keys of many clips, in local files.

    Args:
        folder: a local folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._folder.mkdir()
        self._count = 0

    def add(self, table: pa.Table) -> None:
        """Take the next clips: a table with at least `COLUMNS`."""
        rows = np.empty(table.num_rows, _ROW)
        columns: list[list[Any]] = [table.column(name).to_pylist() for name in COLUMNS]
        rows["key"] = _hashes(columns[0])
        rows["source"] = _hashes(zip(*columns[1:4], strict=True))
        rows["size"] = [UNKNOWN_SIZE if size is None else size for size in columns[4]]
        rows["position"] = np.arange(self._count, self._count + table.num_rows)
        self._count += table.num_rows
        file_of = rows["key"] % _NUM_FILES
        order = np.argsort(file_of, kind="stable")
        ends = np.cumsum(np.bincount(file_of, minlength=_NUM_FILES))
        for number, chosen in enumerate(np.split(rows[order], ends[:-1])):
            with self._path(number).open("ab") as file:
                file.write(chosen.tobytes())

    def __iter__(self) -> Iterator[Rows]:
        """Yield the rows of each file, in the order in which they were added."""
        for number in range(_NUM_FILES if self._count else 0):
            yield np.fromfile(self._path(number), _ROW)

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:02d}"


def suspected_twice(keys: KeyFiles) -> Positions:
    """Return positions of clips whose keys may be those of others, ascending; of too many, some."""
    found = [np.empty(0, np.int64)]
    for rows in keys:
        values, first, counts = np.unique(rows["key"], return_index=True, return_counts=True)
        twice = counts > 1
        some = values[twice][np.argsort(first[twice])[:_MOST_REPORTED]]
        found.append(rows["position"][np.isin(rows["key"], some)])
    return np.sort(np.concatenate(found))


@dataclass(frozen=True, slots=True)
class Comparison:
    """New clips held to old ones; all positions ascend.

    Attributes:
        known: positions of new clips that are there already: the same key and the same source.
        changed: new and old positions of those of them that have another size now, in two columns;
            of too many, some.
        suspected: new and old positions of clips that may have one key and have not one source.
    """

    known: Positions
    changed: Positions
    suspected: Positions


def compare(new: KeyFiles, old: KeyFiles) -> Iterator[Comparison]:
    """Hold new clips to old ones, a part of them at a time."""
    for new_rows, old_rows in zip(new, old, strict=False):
        match = _same_key_and_source(new_rows, old_rows)
        known, same = new_rows[match >= 0], old_rows[match[match >= 0]]
        sizes = known["size"], same["size"]
        differ = (sizes[0] != sizes[1]) & (np.minimum(*sizes) != UNKNOWN_SIZE)
        rest = new_rows[match < 0]
        rest = rest[np.isin(rest["key"], old_rows["key"])][:_MOST_REPORTED]
        pairs = [
            (position, other)
            for key, position in zip(rest["key"], rest["position"], strict=True)
            for other in old_rows["position"][old_rows["key"] == key]
        ]
        changed = np.stack([known["position"][differ], same["position"][differ]], axis=1)
        yield Comparison(
            known["position"],
            changed[:_MOST_REPORTED],
            np.array(pairs, np.int64).reshape(-1, 2),
        )


def _same_key_and_source(new: Rows, old: Rows) -> Positions:
    """Return for each new row which old row has its key and its source; -1 where none has."""
    order = np.argsort(_mixed(old), kind="stable")
    mixed = _mixed(old)[order]
    place = np.searchsorted(mixed, _mixed(new))
    place[place == len(mixed)] = 0
    if not len(mixed):
        return np.full(len(new), -1)
    match = order[place]
    same = (old["key"][match] == new["key"]) & (old["source"][match] == new["source"])
    return np.where(same, match, -1)


def _mixed(rows: Rows) -> Positions:
    mixed: Positions = rows["key"] * np.int64(0x9E3779B97F4A7C1) ^ rows["source"]
    return mixed


def _hashes(values: Iterable[Any]) -> Positions:
    """Return hashes that are the same within this process."""
    return np.fromiter(map(hash, values), np.int64)
