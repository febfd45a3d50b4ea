"""The end of a run: shard results into the manifest, the table of failed inputs and the card.

All three depend on the corpus only, so finishing twice gives the same bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from dac_tokenize import files, publishing
from dac_tokenize.corpus.card import CARD_NAME, render_card
from dac_tokenize.corpus.footer import FailedInput, load_footer
from dac_tokenize.corpus.record import SCHEMA_VERSION
from dac_tokenize.corpus.results import ManifestFile, ShardResult, totals
from dac_tokenize.errors import CorpusError

if TYPE_CHECKING:
    from dac_tokenize.corpus.plan import Plan

MANIFEST_NAME = "_manifest.json"
FAILED_NAME = "_failed.parquet"

FAILED_SCHEMA = pa.schema([pa.field(column.name, pa.string()) for column in fields(FailedInput)])
"""The columns of the table of failed inputs: key, uri, stage, error, message."""


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


def finish_corpus(plan: Plan, output: str, results: Iterable[ShardResult]) -> Manifest:
    """Write the manifest, the table of failed inputs and the dataset card.

    A card that its reader has changed is left alone.

    Args:
        plan: the corpus's plan.
        output: path or URL of the output folder.
        results: of all shards that the manifest does not have yet, in any order; of several for
            one shard, one counts.

    Returns:
        The manifest.

    Raises:
        CorpusError: a shard is missing, or a file cannot be read or written.
    """
    earlier = read_manifest(output)
    by_index = {result.index: result for result in results}
    kept = shards_covered(plan, earlier)
    missing = [index for index in plan.indices if index >= kept and index not in by_index]
    if missing:
        raise CorpusError(
            f"{output} is not finished: {len(missing)} of {plan.num_shards} shards have no result "
            f"(the first is {plan.shard_name(missing[0])}); run again to make them"
        )
    try:
        entries = [_entry(output, index, by_index.get(index), earlier) for index in plan.indices]
        return _finish(plan, output, entries, earlier)
    except OSError as error:
        raise CorpusError(
            f"{output} cannot be finished: {error}; all shards are published and stay readable, "
            "so make room or mend the store, and run again"
        ) from error


def _finish(
    plan: Plan, output: str, entries: list[ManifestFile], earlier: Manifest | None
) -> Manifest:
    manifest = _manifest(plan, entries)
    card = render_card(manifest, plan.metadata_schema).encode()
    manifest = replace(manifest, card_checksum=hashlib.sha256(card).hexdigest())
    _write_failed(output, entries)
    card_url = files.join(output, CARD_NAME)
    if _may_replace_card(files.read_bytes(card_url), earlier):
        publishing.publish_bytes(card, card_url)
    publishing.publish_bytes(
        files.readable_json(asdict(manifest)), files.join(output, MANIFEST_NAME)
    )
    return manifest


def _may_replace_card(found: bytes | None, earlier: Manifest | None) -> bool:
    if found is None:
        return True
    return earlier is not None and hashlib.sha256(found).hexdigest() == earlier.card_checksum


def _entry(
    output: str, index: int, result: ShardResult | None, earlier: Manifest | None
) -> ManifestFile:
    """Return a shard's entry, with a checksum from the earlier manifest or the file."""
    known = earlier.files[index] if earlier and index < len(earlier.files) else None
    if result is None:
        assert known is not None
        return known
    checksum = result.checksum
    if checksum is None and known is not None:
        same = known.fingerprint == result.fingerprint and known.size_bytes == result.size_bytes
        checksum = known.checksum if same else None
    if checksum is None:
        checksum = files.checksum(files.join(output, result.path))
    return result.as_file(checksum)


def _manifest(plan: Plan, entries: list[ManifestFile]) -> Manifest:
    sums: dict[str, Any] = totals(entries)
    return Manifest(
        codec=asdict(plan.request.codec),
        waveform=asdict(plan.request.waveform),
        plan_fingerprint=plan.fingerprint,
        written=sums["clips"] - sums["failed"],
        hours=sums["seconds"] / 3600,
        files=tuple(entries),
        card_checksum="",
        package_version=plan.package_version,
        **sums,
    )


def _write_failed(output: str, entries: Iterable[ManifestFile]) -> None:
    """Write the table of failed inputs, shard after shard; it is there even when empty."""
    with (
        publishing.published(files.join(output, FAILED_NAME)) as path,
        pq.ParquetWriter(str(path), FAILED_SCHEMA, compression="zstd") as writer,
    ):
        for entry in entries:
            if entry.failed:
                footer = load_footer(files.join(output, entry.path))
                rows = [asdict(failure) for failure in footer.failures]
                writer.write_table(pa.Table.from_pylist(rows, schema=FAILED_SCHEMA))


def shards_covered(plan: Plan, manifest: Manifest | None) -> int:
    """Return how many of a plan's shards, from the first on, a manifest was written for.

    All where the corpus is finished; fewer where something was added and is not finished yet; 0
    where the manifest is another plan's.
    """
    for count in range(len(plan.generations) if manifest is not None else 0, 0, -1):
        part = replace(plan, generations=plan.generations[:count])
        found = (manifest.plan_fingerprint, len(manifest.files)) if manifest is not None else None
        if found == (part.fingerprint, part.num_shards):
            return part.num_shards
    return 0


def unfinished(plan: Plan) -> Plan:
    """Return what a run has to look at: what was added to a finished corpus, or else everything.

    Raises:
        CorpusError: the manifest is damaged.
    """
    if len(plan.generations) == 1:
        return plan
    covered = shards_covered(plan, read_manifest(plan.output))
    later = tuple(one for one in plan.generations if one.first_shard >= covered)
    return replace(plan, generations=later) if later else plan


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
