"""The rows of a shard held to what its codec allows: shapes, ranges, lengths."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from dac_tokenize.codec.checkpoint import CodecIdentity

_NEEDED = ("key", "audio_codes", "num_frames", "num_samples", "duration_seconds")


def check_rows(table: pa.Table, codec: CodecIdentity) -> Iterator[tuple[str, str]]:
    """Look at all rows of a shard.

    Args:
        table: its rows.
        codec: what made the codes.

    Yields:
        What is wrong, as kind ("codes", "frames" or "keys") and message, at most one of each test.
    """
    if missing := [name for name in _NEEDED if name not in table.column_names]:
        yield "codes", f"it has no columns {', '.join(missing)}"
        return
    if nulls := [name for name in _NEEDED if table.column(name).null_count]:
        yield "codes", f"{', '.join(nulls)} hold nulls"
        return
    if not table.num_rows:
        return
    keys = table.column("key").to_pylist()
    if twice := len(keys) - len(set(keys)):
        yield "keys", f"{twice} keys occur twice in it"
    lists: Any = table.column("audio_codes").combine_chunks()
    books: Any = lists.flatten()
    codes: Any = books.flatten()
    shapes = _shape_problem(table, lists, books, codec)
    if shapes is not None:
        yield "codes", shapes
    if books.null_count or codes.null_count:
        yield "codes", "some codes are null"
    elif len(codes) and (most := pc.max(codes).as_py()) >= codec.codebook_size:
        yield "codes", f"the code {most}, and the codebooks have {codec.codebook_size} entries"
    yield from _length_problems(table, codec)


def _shape_problem(table: pa.Table, lists: Any, books: Any, codec: CodecIdentity) -> str | None:
    """Name the first row whose codes are not (num_codebooks, num_frames)."""
    num_codebooks = pc.list_value_length(lists).to_numpy(zero_copy_only=False)
    wrong = np.flatnonzero(num_codebooks != codec.num_codebooks)
    if wrong.size:
        row = int(wrong[0])
        return (
            f"{_named(table, row)} has {num_codebooks[row]} codebooks, and the codec "
            f"{codec.num_codebooks}"
        )
    num_frames = pc.list_value_length(books).to_numpy(zero_copy_only=False)
    said = np.repeat(table.column("num_frames").to_numpy(), codec.num_codebooks)
    wrong = np.flatnonzero(num_frames != said)
    if wrong.size:
        at = int(wrong[0])
        return (
            f"{_named(table, at // codec.num_codebooks)} has codes of {num_frames[at]} frames, "
            f"and its num_frames is {said[at]}"
        )
    return None


def _length_problems(table: pa.Table, codec: CodecIdentity) -> Iterator[tuple[str, str]]:
    """Hold frames and seconds to samples."""
    num_samples = table.column("num_samples").to_numpy()
    num_frames = table.column("num_frames").to_numpy()
    wrong = np.flatnonzero(num_frames != -(-num_samples // codec.hop_length))
    if wrong.size:
        row = int(wrong[0])
        yield (
            "frames",
            f"{_named(table, row)} has {num_frames[row]} frames for {num_samples[row]} samples of "
            f"{codec.hop_length} a frame",
        )
    seconds = table.column("duration_seconds").to_numpy()
    wrong = np.flatnonzero(seconds != num_samples / codec.sampling_rate)
    if wrong.size:
        row = int(wrong[0])
        yield (
            "frames",
            f"{_named(table, row)} lasts {seconds[row]} s by its row, and has {num_samples[row]} "
            f"samples at {codec.sampling_rate} Hz",
        )


def _named(table: pa.Table, row: int) -> str:
    return f"the clip {table.column('key')[row].as_py()!r}"
