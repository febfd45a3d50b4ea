"""Columns of a batch of `datasets`: read in any form, returned with their Arrow type."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from dac_tokenize.errors import AudioError, ClipError, UsageError


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A row that `datasets` cannot open.

    Attributes:
        error: why.
        path: the path or URL stored in the row, if there is one.
    """

    error: AudioError
    path: str | None


class TypedColumn(list[Any]):
    """A list that Arrow turns into one type, whatever it holds.

    `datasets` fixes a column's type by the first batch that it writes. A column that is null in
    all rows of that batch would have no type, and the first later value would end the run.
    """

    def __init__(self, values: Iterable[Any], kind: pa.DataType) -> None:
        super().__init__(values)
        self.kind = kind

    def __arrow_array__(self, type: pa.DataType | None = None) -> pa.Array[Any]:
        """Returns the values as Arrow's `pa.array` asks for them."""
        return pa.array(list(self), type=self.kind if type is None else type)


def read_column(batch: Any, column: str) -> list[Any]:
    """Returns a column's values, one a row.

    Args:
        batch: what `map(batched=True)` hands to its function, in any Python format.
        column: its name.

    Returns:
        The values. A decoded `Audio` column that cannot be opened as a whole is opened row by row;
        the rows that fail are given as `Unreadable`.

    Raises:
        UsageError: there is no such column, or the batch is no batch.
    """
    if not isinstance(batch, Mapping):
        raise UsageError(
            f"the batch is a {type(batch).__name__}; expected a mapping of columns: take the "
            "dataset with_format(None)"
        )
    if column not in batch:
        raise UsageError(
            f"the batch has no column {column!r}, but {', '.join(map(repr, batch)) or 'none'}; "
            "name the one to use in fn_kwargs"
        )
    try:
        values = batch[column]
    except Exception as error:
        _check_torchcodec(column)
        if not hasattr(batch, "pa_table") or not hasattr(batch, "formatter"):
            raise
        return _read_rows(batch, column, error)
    if isinstance(values, str | bytes | os.PathLike | Mapping) or not hasattr(values, "__len__"):
        raise UsageError(
            f"the column {column!r} holds a {type(values).__name__}; expected a list with one "
            "value a row: call map with batched=True"
        )
    return list(values)


def _check_torchcodec(column: str) -> None:
    """Says so if it is torchcodec, rather than the sound, that kept an `Audio` column shut."""
    try:
        importlib.import_module("torchcodec.decoders")
    # Without FFmpeg's libraries it fails with other errors than ImportError.
    except Exception as error:
        raise UsageError(
            f"`datasets` cannot decode the column {column!r} without torchcodec and FFmpeg "
            f"({_first_line(error)}); install them, or have dac_tokenize decode it: "
            f"dataset.cast_column({column!r}, datasets.Audio(decode=False))"
        ) from error


def _read_rows(batch: Any, column: str, error: Exception) -> list[Any]:
    """Reads a column of a batch of `datasets` one row at a time; bad rows become errors."""
    values: list[Any] = []
    for index in range(batch.pa_table.num_rows):
        row = type(batch)(batch.pa_table.slice(index, 1), batch.formatter)
        try:
            values.append(row[column][0])
        except Exception as row_error:
            stored = batch.pa_table[column][index].as_py()
            why = AudioError(f"`datasets` cannot open it: {_first_line(row_error)}")
            values.append(Unreadable(why, audio_path(stored)))
    if not any(isinstance(value, Unreadable) for value in values):
        raise error
    return values


def audio_path(value: Any) -> str | None:
    """Returns the path or URL that a value of an audio column tells, if it tells one."""
    if isinstance(value, Unreadable):
        path: Any = value.path
    elif isinstance(value, str | os.PathLike):
        path = os.fspath(value)
    elif isinstance(value, Mapping):
        path = value.get("path")
    else:
        path = getattr(getattr(value, "metadata", None), "path", None)
    return None if path is None else str(path)


def row_error(index: int, path: str | None, error: Exception, advice: str) -> ClipError:
    """Returns `error` again, as the same class, with the row it lies in and what to do."""
    kind = type(error) if isinstance(error, ClipError) else ClipError
    named = "" if path is None else f" (path {path!r})"
    return kind(f"row {index} of the batch{named}: {error}; {advice}")


def codes_value(value: Any) -> np.ndarray[Any, np.dtype[Any]]:
    """Returns one row's codes, in any format of `datasets`, as an array.

    Raises:
        UsageError: the codebooks differ in length.
    """
    if hasattr(value, "detach"):
        value = value.detach().cpu()
    if not isinstance(value, list | tuple):
        array = np.asarray(value)
        if array.dtype != object or array.ndim == 0:
            return array
    lanes = [np.asarray(lane) for lane in value]
    if len({lane.shape for lane in lanes}) > 1:
        lengths = sorted({lane.shape for lane in lanes})
        raise UsageError(
            f"its codebooks have the shapes {lengths}; expected (num_codebooks, num_frames)"
        )
    return np.stack(lanes) if lanes else np.empty((0, 0), np.uint16)


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0] if text else 'no message'}"
