"""The end of a run: shard results into the manifest, the table of failed inputs and the card.

All three depend on the corpus only, so finishing twice gives the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from dac_tokenize import files
from dac_tokenize.corpus.card import CARD_NAME, render_card
from dac_tokenize.corpus.footer import FailedInput, ShardFooter, load_footer
from dac_tokenize.corpus.record import SCHEMA_VERSION
from dac_tokenize.corpus.shard import ShardFile
from dac_tokenize.errors import CorpusError

if TYPE_CHECKING:
    from dac_tokenize.corpus.plan import Plan

MANIFEST_NAME = "_manifest.json"
FAILED_NAME = "_failed.parquet"

FAILED_SCHEMA = pa.schema([pa.field(column.name, pa.string()) for column in fields(FailedInput)])
"""The columns of the table of failed inputs: key, uri, stage, error, message."""


@dataclass(frozen=True, slots=True)
class ShardResult:
    """What became of one shard; plain values, to travel between workers.

    Attributes:
        index: number of the shard.
        path: its path below the output folder.
        fingerprint: SHA-256 of all that decides its rows.
        skipped: True where an earlier run had published it.
        clips: inputs, failed ones included.
        failed: inputs that gave no row.
        rows: rows; one an input, or one a channel.
        num_frames: frames of all rows.
        num_tokens: codes of all rows.
        num_samples: samples of all rows at the codec's rate.
        seconds: seconds of sound of the inputs encoded.
        size_bytes: size of the file.
        codes_bytes: of these, the codes.
        checksum: SHA-256 of the file; None where the manifest knows it.
        read_seconds: wall time spent waiting for sound.
        encode_seconds: wall time of the codec.
        write_seconds: wall time of writing and publishing.
    """

    index: int
    path: str
    fingerprint: str
    skipped: bool
    clips: int
    failed: int
    rows: int
    num_frames: int
    num_tokens: int
    num_samples: int
    seconds: float
    size_bytes: int
    codes_bytes: int
    checksum: str | None
    read_seconds: float = 0.0
    encode_seconds: float = 0.0
    write_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class ManifestFile:
    """One file of a finished corpus; see `ShardResult` for its fields."""

    path: str
    fingerprint: str
    checksum: str
    size_bytes: int
    codes_bytes: int
    clips: int
    failed: int
    rows: int
    num_frames: int
    num_tokens: int
    num_samples: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a finished corpus holds.

    Attributes:
        codec: fields of the `CodecIdentity`.
        waveform: fields of the `WaveformOptions`.
        plan_fingerprint: SHA-256 of the plan.
        clips: inputs; `written + failed`.
        written: inputs that gave rows.
        failed: inputs that gave none, listed in ``_failed.parquet``.
        rows: rows.
        num_frames: frames of all rows.
        num_tokens: codes of all rows.
        num_samples: samples of all rows.
        seconds: seconds of sound of the inputs written.
        hours: the same in hours.
        size_bytes: size of all shards' files.
        codes_bytes: of these, the codes.
        files: the shards' files, in order.
        card_checksum: SHA-256 of the card as generated, to tell when its reader has changed it.
        package_version: of dac_tokenize when the plan was made.
        schema_version: see `dac_tokenize.corpus.record.SCHEMA_VERSION`.
    """

    codec: Mapping[str, Any]
    waveform: Mapping[str, Any]
    plan_fingerprint: str
    clips: int
    written: int
    failed: int
    rows: int
    num_frames: int
    num_tokens: int
    num_samples: int
    seconds: float
    hours: float
    size_bytes: int
    codes_bytes: int
    files: tuple[ManifestFile, ...]
    card_checksum: str
    package_version: str | None
    schema_version: int = SCHEMA_VERSION


def shard_result(plan: Plan, footer: ShardFooter, file: ShardFile, *, skipped: bool) -> ShardResult:
    """Return the result that a shard's footer and file amount to."""
    stats = asdict(footer.stats)
    return ShardResult(
        index=footer.index,
        path=plan.shard_name(footer.index),
        fingerprint=footer.shard_fingerprint,
        skipped=skipped,
        size_bytes=file.size_bytes,
        codes_bytes=file.codes_bytes,
        checksum=file.checksum,
        **stats,
    )


def finish_corpus(plan: Plan, output: str, results: Iterable[ShardResult]) -> Manifest:
    """Write the manifest, the table of failed inputs and the dataset card.

    A card that its reader has changed is left alone.

    Args:
        plan: the corpus's plan.
        output: path or URL of the output folder.
        results: of all shards, in any order; of several for one shard, one counts.

    Returns:
        The manifest.

    Raises:
        CorpusError: a shard is missing, or a file cannot be read or written.
    """
    by_index = {result.index: result for result in results}
    missing = [index for index in range(plan.num_shards) if index not in by_index]
    if missing:
        raise CorpusError(
            f"{output} is not finished: {len(missing)} of {plan.num_shards} shards have no result "
            f"(the first is {plan.shard_name(missing[0])}); run again to make them"
        )
    ordered = [by_index[index] for index in range(plan.num_shards)]
    try:
        return _finish(plan, output, ordered)
    except OSError as error:
        raise CorpusError(
            f"{output} cannot be finished: {error}; all shards are published and stay readable, "
            "so make room or mend the store, and run again"
        ) from error


def _finish(plan: Plan, output: str, results: list[ShardResult]) -> Manifest:
    earlier = read_manifest(output)
    manifest = _manifest(plan, [_manifest_file(output, result, earlier) for result in results])
    card = render_card(manifest, plan.metadata_schema).encode()
    manifest = replace(manifest, card_checksum=hashlib.sha256(card).hexdigest())
    _write_failed(output, results)
    card_url = files.join(output, CARD_NAME)
    if _may_replace_card(files.read_bytes(card_url), earlier):
        files.publish_bytes(card, card_url)
    files.publish_bytes(files.readable_json(asdict(manifest)), files.join(output, MANIFEST_NAME))
    return manifest


def _may_replace_card(found: bytes | None, earlier: Manifest | None) -> bool:
    if found is None:
        return True
    return earlier is not None and hashlib.sha256(found).hexdigest() == earlier.card_checksum


def _manifest_file(output: str, result: ShardResult, earlier: Manifest | None) -> ManifestFile:
    """Return a shard's entry, with a checksum from the earlier manifest or the file."""
    checksum = result.checksum
    known = earlier.files[result.index] if earlier and result.index < len(earlier.files) else None
    if checksum is None and known is not None:
        same = known.fingerprint == result.fingerprint and known.size_bytes == result.size_bytes
        checksum = known.checksum if same else None
    if checksum is None:
        checksum = files.checksum(files.join(output, result.path))
    values = {name: value for name, value in asdict(result).items() if name in _FILE_FIELDS}
    return ManifestFile(**values | {"checksum": checksum})


_FILE_FIELDS = {column.name for column in fields(ManifestFile)}


def _manifest(plan: Plan, entries: list[ManifestFile]) -> Manifest:
    clips, failed = (sum(getattr(entry, name) for entry in entries) for name in ("clips", "failed"))
    seconds = math.fsum(entry.seconds for entry in entries)
    return Manifest(
        codec=asdict(plan.request.codec),
        waveform=asdict(plan.request.waveform),
        plan_fingerprint=plan.fingerprint,
        clips=clips,
        written=clips - failed,
        failed=failed,
        rows=sum(entry.rows for entry in entries),
        num_frames=sum(entry.num_frames for entry in entries),
        num_tokens=sum(entry.num_tokens for entry in entries),
        num_samples=sum(entry.num_samples for entry in entries),
        seconds=seconds,
        hours=seconds / 3600,
        size_bytes=sum(entry.size_bytes for entry in entries),
        codes_bytes=sum(entry.codes_bytes for entry in entries),
        files=tuple(entries),
        card_checksum="",
        package_version=plan.package_version,
    )


def _write_failed(output: str, results: Iterable[ShardResult]) -> None:
    """Write the table of failed inputs, shard after shard; it is there even when empty."""
    with (
        files.published(files.join(output, FAILED_NAME)) as path,
        pq.ParquetWriter(str(path), FAILED_SCHEMA, compression="zstd") as writer,
    ):
        for result in results:
            if result.failed:
                footer = load_footer(files.join(output, result.path))
                rows = [asdict(failure) for failure in footer.failures]
                writer.write_table(pa.Table.from_pylist(rows, schema=FAILED_SCHEMA))


def read_manifest(output: str) -> Manifest | None:
    """Read the manifest of an output folder; None where the corpus is not finished.

    Raises:
        CorpusError: the manifest is damaged or of another schema version.
    """
    url = files.join(output, MANIFEST_NAME)
    data = files.read_bytes(url)
    if data is None:
        return None
    try:
        values = json.loads(data)
        if (version := values.get("schema_version")) != SCHEMA_VERSION:
            raise CorpusError(
                f"{url} has schema version {version}, and this version of dac_tokenize reads "
                f"version {SCHEMA_VERSION}; use the version that wrote it"
            )
        entries = tuple(ManifestFile(**entry) for entry in values.pop("files"))
        return Manifest(files=entries, **values)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorpusError(
            f"{url} is damaged: {error}; remove it and run again to write it anew"
        ) from error
