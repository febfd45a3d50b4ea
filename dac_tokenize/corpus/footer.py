"""What a shard says of itself in its Parquet footer.

Entries named ``dac_tokenize.*``, each JSON, hold the schema version, the codec, the waveform
options, versions, the shard's place in its plan, statistics and the inputs that failed.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

import pyarrow.parquet as pq

from dac_tokenize import files
from dac_tokenize.corpus.record import FOOTER_PREFIX, SCHEMA_VERSION
from dac_tokenize.errors import CorpusError
from dac_tokenize.events import log_event

_logger = logging.getLogger(__name__)
_VERSIONED = ("dac-tokenize", "torch", "transformers")
_Loaded = TypeVar("_Loaded")


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
        schema_version: see `dac_tokenize.corpus.record.SCHEMA_VERSION`.
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


def package_versions() -> dict[str, str | None]:
    """Return the installed versions of this package, torch and transformers."""
    return {name: _installed_version(name) for name in _VERSIONED}


@functools.cache
def _installed_version(name: str) -> str | None:
    # Looked up once: it takes 5 ms, and every shard's footer has it.
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def footer_entries(footer: ShardFooter) -> dict[str, str]:
    """Return the entries that a shard's footer consists of."""
    entries = asdict(footer)
    return {FOOTER_PREFIX + name: files.canonical_json(entries[name]).decode() for name in entries}


@contextlib.contextmanager
def open_parquet(url: str) -> Iterator[Any]:
    """Open a Parquet file in any store, page checksums verified, as a `pyarrow` ParquetFile.

    Raises:
        StoreError: the store does not answer.
        OSError: the file is missing or cannot be read.
        pyarrow.ArrowInvalid: it is no Parquet file, or is cut short.
    """
    with (
        files.open_file(url) as raw,
        pq.ParquetFile(raw, page_checksum_verification=True) as file,
    ):
        yield file


@contextlib.contextmanager
def open_shard(url: str) -> Iterator[Any]:
    """Open a shard as `open_parquet` does, for its footer.

    Raises:
        CorpusError: the file is missing or unreadable.
    """
    try:
        with open_parquet(url) as file:
            yield file
    except FileNotFoundError as error:
        raise CorpusError(f"{url} is missing") from error
    except (OSError, ValueError, EOFError) as error:
        raise CorpusError(f"{url} is no readable Parquet file: {error}") from error


def load_footer(url: str) -> ShardFooter:
    """Read what a shard says of itself.

    Raises:
        CorpusError: the file is missing, unreadable, or no shard of this package.
    """
    with open_shard(url) as file:
        return footer_of(file, url)


def footer_of(file: Any, url: str) -> ShardFooter:
    """Return what a shard that is open as a `pyarrow` ParquetFile says of itself.

    Raises:
        CorpusError: it is no shard of this package, or its footer does not fit its rows.
    """
    rows = file.metadata.num_rows
    try:
        footer = _parse_footer(url, dict(file.metadata.metadata or {}))
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
    """Read what a shard says of itself, or None where the shard must be made (again)."""
    return loaded_or_none(load_footer, url)


def loaded_or_none(load: Callable[[str], _Loaded], url: str) -> _Loaded | None:
    """Load something of a shard, or None where the shard must be made (again).

    A missing file is the usual case; an unreadable or foreign one is logged as a warning.
    """
    try:
        return load(url)
    except CorpusError as error:
        if not isinstance(error.__cause__, FileNotFoundError):
            log_event(_logger, logging.WARNING, "shard counts as not done", reason=str(error))
        return None
