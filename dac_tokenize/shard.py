"""One Parquet file of a corpus: written by row groups, published whole, known by its footer.

The footer says what the file is: entries named ``dac_tokenize.*``, each JSON, hold the schema
version, the codec, the waveform options, versions, the shard's place in its plan, statistics and
the inputs that failed. Nothing in the file depends on when or where it was written: the same input
gives the same bytes.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from dac_tokenize import files
from dac_tokenize.errors import CorpusError
from dac_tokenize.record import FOOTER_PREFIX, SCHEMA_VERSION, Record, record_batch

_logger = logging.getLogger(__name__)

ROW_GROUP_ROWS = 1000
ROW_GROUP_BYTES = 32 << 20
"""A row group ends at this many rows, or at this many bytes of codes as uint16."""

_CODES_PATH = "audio_codes.list.element.list.element"
_VERSIONED = ("dac-tokenize", "torch", "transformers")


@dataclass(frozen=True, slots=True)
class FailedInput:
    """An input that gave no row, and why.

    Attributes:
        key: the clip's key.
        uri: where its sound should have been.
        stage: the step that refused it: "read", "decode", "waveform" or "clip".
        error: name of the exception's class.
        message: what was found and what was expected.
    """

    key: str
    uri: str
    stage: str
    error: str
    message: str


@dataclass(frozen=True, slots=True)
class ShardStats:
    """What a shard holds.

    Attributes:
        clips: inputs of the plan's shard, failed ones included.
        failed: inputs that gave no row.
        rows: rows; more than `clips - failed` where channels were split.
        num_frames: frames of all rows.
        num_tokens: codes of all rows: frames times codebooks.
        num_samples: samples of all rows at the codec's rate.
        seconds: seconds of sound of the inputs encoded, each counted once however many channels.
    """

    clips: int = 0
    failed: int = 0
    rows: int = 0
    num_frames: int = 0
    num_tokens: int = 0
    num_samples: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class ShardFooter:
    """What the footer of a shard says; all values are plain.

    Attributes:
        codec: fields of the `CodecIdentity` that made the codes.
        waveform: fields of the `WaveformOptions` used.
        plan_fingerprint: SHA-256 of the plan the shard belongs to.
        shard_fingerprint: SHA-256 of all that decides the shard's rows.
        index: the shard's number in its plan, from 0.
        num_shards: how many shards the plan has.
        stats: what the shard holds.
        failures: the inputs that gave no row.
        versions: of this package, torch and transformers.
        schema_version: see `dac_tokenize.record.SCHEMA_VERSION`.
    """

    codec: Mapping[str, Any]
    waveform: Mapping[str, Any]
    plan_fingerprint: str
    shard_fingerprint: str
    index: int
    num_shards: int
    stats: ShardStats
    failures: tuple[FailedInput, ...] = ()
    versions: Mapping[str, str | None] = field(default_factory=lambda: package_versions())
    schema_version: int = SCHEMA_VERSION


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


def package_versions() -> dict[str, str | None]:
    """Return the installed versions of this package, torch and transformers."""
    versions: dict[str, str | None] = {}
    for name in _VERSIONED:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    return versions


class ShardWriter:
    """Writes records to a Parquet file that appears only when it is whole.

    Args:
        url: final place of the file, in any store.
        schema: from `dac_tokenize.record.corpus_schema`.
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
        self._path = files.temporary_path(url)
        self._writer: Any = None

    def __enter__(self) -> Self:
        self._writer = pq.ParquetWriter(
            str(self._path),
            self._schema,
            compression="zstd",
            use_dictionary=True,
            write_statistics=_plain_columns(self._schema),
            write_page_checksum=True,
        )
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
        self._writer.add_key_value_metadata(_footer_entries(footer))
        self._writer.close()
        file = describe_shard(str(self._path))
        files.publish_file(self._path, self._url)
        return file

    def _flush(self) -> None:
        if self._records:
            batch = record_batch(self._records, self._schema)
            self._writer.write_batch(batch, row_group_size=len(self._records))
            self._records, self._bytes = [], 0


def _plain_columns(schema: pa.Schema) -> list[str]:
    """Return the columns worth statistics: flat ones, so neither codes nor nested metadata."""
    return [column.name for column in schema if not pa.types.is_nested(column.type)]


def _footer_entries(footer: ShardFooter) -> dict[str, str]:
    entries = asdict(footer)
    return {FOOTER_PREFIX + name: files.canonical_json(entries[name]).decode() for name in entries}


def describe_shard(url: str, *, with_checksum: bool = True) -> ShardFile:
    """Return size and checksum of a shard; reads all of it unless `with_checksum` is False."""
    with open_parquet(url) as file:
        metadata = file.metadata
        return ShardFile(
            rows=metadata.num_rows,
            size_bytes=files.size_bytes(url),
            codes_bytes=_codes_bytes(metadata),
            checksum=files.checksum(url) if with_checksum else None,
        )


def _codes_bytes(metadata: Any) -> int:
    groups = (metadata.row_group(index) for index in range(metadata.num_row_groups))
    columns = (group.column(index) for group in groups for index in range(group.num_columns))
    return sum(c.total_compressed_size for c in columns if c.path_in_schema == _CODES_PATH)


@contextlib.contextmanager
def open_parquet(url: str) -> Iterator[Any]:
    """Open a Parquet file in any store, page checksums verified, as a `pyarrow` ParquetFile.

    Raises:
        OSError: the file is missing or cannot be read.
        pyarrow.ArrowInvalid: it is no Parquet file, or is cut short.
    """
    store, path = files.open_store(url)
    store.invalidate_cache(path)
    with (
        store.open(path, "rb") as raw,
        pq.ParquetFile(raw, page_checksum_verification=True) as file,
    ):
        yield file


def load_footer(url: str) -> ShardFooter:
    """Read what a shard says of itself.

    Raises:
        CorpusError: the file is missing, unreadable, or no shard of this package.
    """
    try:
        with open_parquet(url) as file:
            rows = file.metadata.num_rows
            entries = dict(file.metadata.metadata or {})
    except FileNotFoundError as error:
        raise CorpusError(f"{url} is missing") from error
    except (OSError, ValueError, EOFError) as error:
        raise CorpusError(f"{url} is no readable Parquet file: {error}") from error
    try:
        footer = _parse_footer(url, entries)
    except (ValueError, TypeError, KeyError) as error:
        raise CorpusError(f"{url} has a damaged footer: {error}") from error
    if footer.stats.rows != rows:
        raise CorpusError(f"{url} has {rows} rows where its footer says {footer.stats.rows}")
    return footer


def _parse_footer(url: str, entries: Mapping[bytes, bytes]) -> ShardFooter:
    prefix = FOOTER_PREFIX.encode()
    values = {
        name.removeprefix(prefix).decode(): json.loads(value)
        for name, value in entries.items()
        if name.startswith(prefix)
    }
    version = values.get("schema_version")
    if version is None or "shard_fingerprint" not in values:
        raise CorpusError(f"{url} is no shard of dac_tokenize: its footer does not name one")
    if version != SCHEMA_VERSION:
        raise CorpusError(
            f"{url} has schema version {version}, and this version of dac_tokenize "
            f"reads version {SCHEMA_VERSION}"
        )
    values["stats"] = ShardStats(**values["stats"])
    values["failures"] = tuple(FailedInput(**entry) for entry in values["failures"])
    return ShardFooter(**values)


def read_footer(url: str) -> ShardFooter | None:
    """Read what a shard says of itself, or None where the shard must be made (again).

    A missing file is the usual case; an unreadable or foreign one is logged as a warning.
    """
    try:
        return load_footer(url)
    except CorpusError as error:
        if not isinstance(error.__cause__, FileNotFoundError):
            _logger.warning("%s; it is made again", error)
        return None
