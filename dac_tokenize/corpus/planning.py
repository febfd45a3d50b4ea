"""Making plans: references, however many, into shards, in bounded memory.

Two passes. The first takes the references as they come and spools them to local files, a chunk at
a time, noting 8 bytes a key and a sample of file sizes. The second, when the types of all metadata
columns and the likely seconds of each clip are known, cuts shards and writes the plan's parts.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dac_tokenize import files
from dac_tokenize.corpus.cutting import ShardCutter, estimate_seconds, probe_seconds
from dac_tokenize.corpus.footer import package_versions
from dac_tokenize.corpus.plan import (
    SHARDS_ENTRY,
    SHARDS_PER_PART,
    Plan,
    PlanPart,
    load_plan,
    part_checksum,
    plan_json,
    plan_url,
    shard_fingerprint,
)
from dac_tokenize.corpus.record import corpus_schema
from dac_tokenize.corpus.request import PlanRequest
from dac_tokenize.corpus.spool import Spool
from dac_tokenize.errors import CorpusError, CorpusMismatchError, PlanError
from dac_tokenize.references import Reference

SPOOL_ROWS = 20_000
"""References held in memory at once in the first pass."""

Probe = Callable[[str], float | None]


def open_plan(
    output: str, request: PlanRequest, references: Callable[[], Iterable[Reference]]
) -> Plan:
    """Return the plan saved in an output folder, or make and save it: how every run begins.

    What runs that died left in the folder is swept; living runs' files stay.

    Args:
        output: path or URL of the output folder.
        request: what the corpus is asked to be.
        references: lists the inputs; called only where no plan has been saved.

    Raises:
        CorpusMismatchError: the folder holds another corpus, or something else.
        PlanError: the inputs cannot be planned.
        CorpusError: the plan cannot be read or written.
    """
    sweep_temporaries(output)
    plan = load_plan(output)
    if plan is None:
        check_vacant(output)
        return make_plan(output, request, references())
    plan.check_request(request)
    return plan


def check_vacant(output: str) -> None:
    """Make sure that a new corpus may be made in a folder.

    Names that start with a dot, and what an interrupted planning left, do not count.

    Raises:
        CorpusMismatchError: the folder holds something else.
    """
    names = [n for n in files.list_names(output) if not n.startswith(".") and n != "_plan"]
    if names:
        raise CorpusMismatchError(
            f"{output} is not empty and holds no plan of dac_tokenize (found {names[0]!r}, "
            f"{len(names)} in all); give a new or empty folder as --output"
        )


def sweep_temporaries(output: str) -> list[str]:
    """Remove what runs that died left in an output folder; living runs' files stay.

    Returns:
        The paths removed.
    """
    return files.sweep(output, files.join(output, "data"), files.join(output, "_plan"))


def make_plan(
    output: str,
    request: PlanRequest,
    references: Iterable[Reference],
    *,
    probe: Probe = probe_seconds,
    spool_rows: int = SPOOL_ROWS,
) -> Plan:
    """Plan a corpus and save the plan.

    Args:
        output: path or URL of the output folder.
        request: what the corpus is asked to be.
        references: any number, in the order that the corpus shall have; keys must be unique.
        probe: gives the duration of a file in seconds, or None.
        spool_rows: references held in memory at once.

    Returns:
        The saved plan. The same references and request give the same files, byte for byte.

    Raises:
        PlanError: there are no references, two have one key, or their metadata do not fit.
        CorpusError: the plan cannot be written.
    """
    try:
        with files.temporary_folder(plan_url(output, "spool")) as folder:
            spool = Spool(folder)
            stream = iter(references)
            while chunk := list(itertools.islice(stream, spool_rows)):
                spool.add(chunk)
            if not spool.num_clips:
                raise PlanError(
                    f"nothing to encode: found no clips in {', '.join(request.inputs)}; give "
                    "files, folders or globs that hold sound"
                )
            spool.check_keys()
            return _save(output, request, spool, spool.samples.bytes_per_second(probe))
    except OSError as error:
        raise CorpusError(
            f"the plan of {output} cannot be written: {error}; nothing was encoded, so free the "
            "space or give another --output, and run again"
        ) from error


def _save(output: str, request: PlanRequest, spool: Spool, rates: dict[str, float]) -> Plan:
    if (plan := load_plan(output)) is not None:  # another driver was quicker
        plan.check_request(request)
        return plan
    writer = _PartWriter(output, request)
    shards = _cut(spool, request, rates)
    while (head := next(shards, None)) is not None:
        writer.write(itertools.chain([head], itertools.islice(shards, SHARDS_PER_PART - 1)))
    plan = Plan(
        output=output,
        request=request,
        fingerprint=writer.digest.hexdigest(),
        num_shards=writer.num_shards,
        num_clips=spool.num_clips,
        estimated_seconds=writer.seconds,
        bytes_per_second=rates,
        metadata_schema=spool.metadata_schema(),
        parts=tuple(writer.parts),
        package_version=package_versions()["dac-tokenize"],
    )
    corpus_schema(request.codec, plan.metadata_schema)
    files.publish_bytes(plan_json(plan), plan_url(output))
    return plan


class _PartWriter:
    """Writes the parts of a plan and sums them up."""

    def __init__(self, output: str, request: PlanRequest) -> None:
        self._output = output
        self._request = request
        self.parts: list[PlanPart] = []
        self.num_shards = 0
        self.seconds = 0.0
        self.digest = hashlib.sha256(files.canonical_json(request.fingerprint_header()))

    def write(self, shards: Iterator[tuple[pa.Table, float]]) -> None:
        """Write one part with all of the shards given, at least one."""
        name = f"part-{len(self.parts):05d}.parquet"
        entries: list[tuple[str, int, float]] = []
        with files.published(plan_url(self._output, name)) as path:
            head = next(shards)
            with pq.ParquetWriter(str(path), head[0].schema, compression="zstd") as writer:
                for table, seconds in itertools.chain([head], shards):
                    fingerprint = shard_fingerprint(self._request, table)
                    entries.append((fingerprint, table.num_rows, seconds))
                    writer.write_table(table, row_group_size=table.num_rows)
                writer.add_key_value_metadata({SHARDS_ENTRY: json.dumps(entries)})
        self._note(name, entries)

    def _note(self, name: str, entries: list[tuple[str, int, float]]) -> None:
        checksum = part_checksum(fingerprint for fingerprint, _, _ in entries)
        num_clips = sum(clips for _, clips, _ in entries)
        self.parts.append(PlanPart(name, self.num_shards, len(entries), num_clips, checksum))
        self.num_shards += len(entries)
        for fingerprint, _, seconds in entries:
            self.digest.update(fingerprint.encode())
            self.seconds += seconds


def _cut(
    spool: Spool, request: PlanRequest, rates: dict[str, float]
) -> Iterator[tuple[pa.Table, float]]:
    """Yield the references of each shard, as a table, and their estimated seconds."""
    cutter = ShardCutter(request.shard_seconds, request.max_shard_clips)
    pieces: list[pa.Table] = []
    total = 0.0
    for table in spool.tables():
        first = 0
        for row, seconds in enumerate(_estimates(table, rates)):
            if cutter.starts_shard(seconds):
                pieces.append(table.slice(first, row - first))
                if any(piece.num_rows for piece in pieces):
                    yield pa.concat_tables(pieces), total
                pieces, total, first = [], 0.0, row
            total += seconds
        pieces.append(table.slice(first))
    yield pa.concat_tables(pieces), total


def _estimates(table: pa.Table, rates: dict[str, float]) -> list[float]:
    names = ("key", "uri", "locator", "offset_seconds", "duration_seconds", "size_bytes")
    columns: Any = [table.column(name).to_pylist() for name in names]
    return [
        estimate_seconds(uri if locator is None else key, offset, duration, size, rates)
        for key, uri, locator, offset, duration, size in zip(*columns, strict=True)
    ]
