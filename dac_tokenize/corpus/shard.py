"""One Parquet file of a corpus: written by row groups, published whole, known by its footer.

Nothing in the file depends on when or where it was written: the same input gives the same bytes.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from dac_tokenize import files, publishing, temporaries
from dac_tokenize.corpus.footer import (
    ShardFooter,
    footer_entries,
    footer_of,
    loaded_or_none,
    open_parquet,
    open_shard,
)
from dac_tokenize.corpus.record import Record, record_batch

ROW_GROUP_ROWS = 1000
ROW_GROUP_BYTES = 32 << 20
"""A row group ends at this many rows, or at this many bytes of codes as uint16."""

_CODES_PATH = "audio_codes.list.element.list.element"


@dataclass(frozen=True, slots=True)
class ShardFile:
    """A published shard as a file.

    Attributes:
        rows: its rows.
        size_bytes: its size.
        codes_bytes: of these, what the column of codes takes.
        checksum: SHA-256 of the file; None where it was not asked for.
    """

    rows: int
    size_bytes: int
    codes_bytes: int
    checksum: str | None


class ShardWriter:
    """Writes records to a Parquet file that appears only when it is whole.

    Args:
        url: final place of the file, in any store.
        schema: from `dac_tokenize.corpus.record.corpus_schema`.
        row_group_rows: most rows of a row group.
        row_group_bytes: a row group ends when its codes reach this size as uint16.

    Leaving the ``with`` block without `publish` leaves nothing behind.

    >>> with ShardWriter("memory://out/train.parquet", schema) as writer:  # doctest: +SKIP
    ...     for record in records:
    ...         writer.write(record)
    ...     file = writer.publish(footer)
    """

    def __init__(
        self,
        url: str,
        schema: pa.Schema,
        *,
        row_group_rows: int = ROW_GROUP_ROWS,
        row_group_bytes: int = ROW_GROUP_BYTES,
    ) -> None:
        self._url = url
        self._schema = schema
        self._row_group_rows = row_group_rows
        self._row_group_bytes = row_group_bytes
        self._records: list[Record] = []
        self._bytes = 0
        self._path = temporaries.temporary_path(url)
        self._writer: Any = None

    def __enter__(self) -> Self:
        try:
            self._writer = pq.ParquetWriter(
                str(self._path),
                self._schema,
                compression="zstd",
                use_dictionary=True,
                write_statistics=_plain_columns(self._schema),
                write_page_checksum=True,
            )
        except BaseException:  # a full disk, most likely: what was made of the file goes
            self._path.unlink(missing_ok=True)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            with contextlib.suppress(OSError):
                self._writer.close()
        finally:
            self._path.unlink(missing_ok=True)

    def write(self, record: Record) -> None:
        """Add a row.

        Raises:
            OSError: the disk is full or gone.
        """
        self._records.append(record)
        self._bytes += record.audio_codes.size * 2
        if len(self._records) >= self._row_group_rows or self._bytes >= self._row_group_bytes:
            self._flush()

    def publish(self, footer: ShardFooter) -> ShardFile:
        """Write the footer and give the file its name; nothing can be written after that.

        Args:
            footer: what the file says of itself.

        Returns:
            Size and checksum of the file.

        Raises:
            OSError: the disk is full or gone, or the store refused the file.
        """
        self._flush()
        self._writer.add_key_value_metadata(footer_entries(footer))
        self._writer.close()
        path = str(self._path)
        with open_parquet(path) as written:
            file = replace(_described(written.metadata, path), checksum=files.checksum(path))
        publishing.publish_file(self._path, self._url)
        return file

    def _flush(self) -> None:
        if self._records:
            batch = record_batch(self._records, self._schema)
            self._writer.write_batch(batch, row_group_size=len(self._records))
            self._records, self._bytes = [], 0


def _plain_columns(schema: pa.Schema) -> list[str]:
    """Return the columns worth statistics: flat ones, so neither codes nor nested metadata."""
    return [column.name for column in schema if not pa.types.is_nested(column.type)]


def read_shard(url: str) -> tuple[ShardFooter, ShardFile] | None:
    """Read what a published shard says of itself, and what it is as a file, without its checksum.

    Both come from one opening: in a store far away that is most of what a resumed run does. None
    where the shard must be made (again).
    """
    return loaded_or_none(_load_shard, url)


def _load_shard(url: str) -> tuple[ShardFooter, ShardFile]:
    with open_shard(url) as file:
        return footer_of(file, url), _described(file.metadata, url)


def _described(metadata: Any, url: str) -> ShardFile:
    return ShardFile(
        rows=metadata.num_rows,
        size_bytes=files.size_bytes(url),
        codes_bytes=_codes_bytes(metadata),
        checksum=None,
    )


def _codes_bytes(metadata: Any) -> int:
    groups = (metadata.row_group(index) for index in range(metadata.num_row_groups))
    columns = (group.column(index) for group in groups for index in range(group.num_columns))
    return sum(c.total_compressed_size for c in columns if c.path_in_schema == _CODES_PATH)
