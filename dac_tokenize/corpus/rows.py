"""The rows of a shard held to what its codec allows: shapes, ranges, lengths."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from dac_tokenize.codec.checkpoint import CodecIdentity

_NEEDED = ("key", "audio_codes", "num_frames", "num_samples", "duration_seconds")


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a shard.

    Attributes:
        kind: see `dac_tokenize.corpus.verifying.Finding`.
        message: what was found and what was expected.
        key: key of the row; None where it is a matter of the whole file.
    """

    kind: str
    message: str
    key: str | None = None


def unreadable_rows(table: pa.Table) -> str | None:
    """Return why the rows of a shard cannot be gone through; None where they can.

    Args:
        table: its rows.
    """
    if missing := [name for name in _NEEDED if name not in table.column_names]:
        return f"it has no columns {', '.join(missing)}"
    if nulls := [name for name in _NEEDED if table.column(name).null_count]:
        return f"{', '.join(nulls)} hold nulls"
    books: Any = table.column("audio_codes").combine_chunks()
    books = books.flatten()
    if books.null_count or books.flatten().null_count:
        return "some codes are null"
    return None


def check_rows(table: pa.Table, codec: CodecIdentity) -> Iterator[Problem]:
    """Look at all rows of a shard.

    Args:
        table: its rows.
        codec: what made the codes.

    Yields:
        What is wrong: one of the kind "codes" where the rows cannot be gone through; else one for
        each row and test, of the kinds "codes", "frames" and "keys".
    """
    if (why := unreadable_rows(table)) is not None:
        yield Problem("codes", why)
        return
    if not table.num_rows:
        return
    keys = table.column("key").to_pylist()
    if twice := len(keys) - len(set(keys)):
        yield Problem("keys", f"{twice} keys occur twice in it")
    for kind, row, what in _row_problems(table, codec):
        yield Problem(kind, f"the clip {keys[row]!r} {what}", keys[row])


def _row_problems(table: pa.Table, codec: CodecIdentity) -> Iterator[tuple[str, int, str]]:
    """Yield kind, row and what is wrong."""
    lists: Any = table.column("audio_codes").combine_chunks()
    books: Any = lists.flatten()
    num_codebooks = pc.list_value_length(lists).to_numpy(zero_copy_only=False)
    num_frames = pc.list_value_length(books).to_numpy(zero_copy_only=False)
    row_of_book = np.repeat(np.arange(len(lists)), num_codebooks)
    for row in _rows(num_codebooks != codec.num_codebooks):
        yield (
            "codes",
            row,
            f"has {num_codebooks[row]} codebooks, and the codec {codec.num_codebooks}",
        )
    said = table.column("num_frames").to_numpy()
    wrong = np.flatnonzero(num_frames != said[row_of_book])
    for row, book in zip(*np.unique(row_of_book[wrong], return_index=True), strict=True):
        yield (
            "codes",
            int(row),
            f"has codes of {num_frames[wrong[book]]} frames, and its num_frames is {said[row]}",
        )
    codes: Any = books.flatten()
    if len(codes) and pc.max(codes).as_py() >= codec.codebook_size:
        yield from _range_problems(codes.to_numpy(), np.repeat(row_of_book, num_frames), codec)
    yield from _length_problems(table, codec)


def _range_problems(codes: Any, rows: Any, codec: CodecIdentity) -> Iterator[tuple[str, int, str]]:
    wrong = np.flatnonzero(codes >= codec.codebook_size)
    for row in _rows(np.bincount(rows[wrong]) > 0):
        most = codes[wrong[rows[wrong] == row]].max()
        yield (
            "codes",
            row,
            f"has the code {most}, and the codebooks have {codec.codebook_size} entries",
        )


def _length_problems(table: pa.Table, codec: CodecIdentity) -> Iterator[tuple[str, int, str]]:
    """Hold frames and seconds to samples."""
    num_samples = table.column("num_samples").to_numpy()
    num_frames = table.column("num_frames").to_numpy()
    for row in _rows(num_frames != -(-num_samples // codec.hop_length)):
        yield (
            "frames",
            row,
            f"has {num_frames[row]} frames for {num_samples[row]} samples of {codec.hop_length} a "
            "frame",
        )
    seconds = table.column("duration_seconds").to_numpy()
    for row in _rows(seconds != num_samples / codec.sampling_rate):
        yield (
            "frames",
            row,
            f"lasts {seconds[row]} s by its row, and has {num_samples[row]} samples at "
            f"{codec.sampling_rate} Hz",
        )


def _rows(wrong: Any) -> list[int]:
    rows: list[int] = np.flatnonzero(wrong).tolist()
    return rows
