"""Making plans: references, however many, into shards, in bounded memory.

Two passes. The first takes the references as they come and spools them to local files, a chunk at
a time, noting hashes of their keys and a sample of file sizes. The second, when the types of all
metadata columns and the likely seconds of each clip are known, cuts shards and writes the parts.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from dac_tokenize import files, publishing, temporaries
from dac_tokenize.corpus.cutting import ShardCutter, estimate_seconds, probe_seconds
from dac_tokenize.corpus.footer import package_versions
from dac_tokenize.corpus.generation import Generation, generation_json, generation_name
from dac_tokenize.corpus.parts import PartWriter, plan_url
from dac_tokenize.corpus.plan import Plan, iter_parts, load_plan
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
    return temporaries.sweep(output, files.join(output, "data"), files.join(output, "_plan"))


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
    with spooled(output, request, references, spool_rows) as spool:
        columns = [_without_null(column) for column in spool.metadata_schema()]
        plan = save_generation(output, request, spool, pa.schema(columns), None, probe)
        plan.check_request(request)  # another driver may have been quicker
        return plan


def _without_null(column: pa.Field[Any]) -> pa.Field[Any]:
    """Make a column in which no clip has a value one of text."""
    return column.with_type(pa.string()) if pa.types.is_null(column.type) else column


@contextlib.contextmanager
def spooled(
    output: str, request: PlanRequest, references: Iterable[Reference], spool_rows: int
) -> Iterator[Spool]:
    """Give all references in local files, which go at the end of the ``with`` block.

    Raises:
        PlanError: there are no references, two have one key, or their metadata cannot be kept.
        CorpusError: the local disk or the output's store cannot be written, here or in the block.
    """
    try:
        with temporaries.temporary_folder(plan_url(output, "spool")) as folder:
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
            yield spool
    except OSError as error:
        raise CorpusError(
            f"the plan of {output} cannot be written: {error}; nothing was encoded, so free the "
            "space or give another --output, and run again"
        ) from error


def save_generation(
    output: str,
    request: PlanRequest,
    spool: Spool,
    metadata_schema: pa.Schema,
    before: Plan | None,
    probe: Probe,
) -> Plan:
    """Cut spooled references into shards, and save them as what follows `before`.

    Args:
        output: path or URL of the output folder.
        request: what was asked for.
        spool: the references.
        metadata_schema: types of the metadata columns.
        before: the plan so far; None for a new one.
        probe: gives the duration of a file in seconds, or None.

    Returns:
        The plan as saved: another driver's where that was quicker.

    Raises:
        PlanError: a metadata column has a type that a corpus cannot hold.
        OSError: the local disk or the output's store cannot be written.
    """
    corpus_schema(request.codec, metadata_schema)
    rates = spool.samples.bytes_per_second(probe)
    first_shard = before.num_shards if before is not None else 0
    writer = PartWriter(spool.folder, request, first_shard)
    writer.write(_cut(spool.tables(metadata_schema), request, rates))
    generation = Generation(
        request=request,
        fingerprint=writer.fingerprint(),
        before=before.fingerprint if before is not None else None,
        first_shard=first_shard,
        num_shards=writer.num_shards,
        num_clips=writer.num_clips,
        estimated_seconds=writer.estimated_seconds,
        bytes_per_second=rates,
        metadata_schema=metadata_schema,
        parts=writer.publish(output),
        package_version=package_versions()["dac-tokenize"],
    )
    number = len(before.generations) if before is not None else 0
    try:
        publishing.publish_new(
            generation_json(generation), plan_url(output, generation_name(number))
        )
    finally:
        plan = load_plan(output)
        used = {part.name for part in iter_parts(plan)} if plan is not None else set()
        for part in generation.parts:
            if part.name not in used:  # another driver was quicker, with other clips
                files.remove(plan_url(output, part.name))
    assert plan is not None
    return plan


def _cut(
    tables: Iterable[pa.Table], request: PlanRequest, rates: Mapping[str, float]
) -> Iterator[tuple[pa.Table, float]]:
    """Yield the references of each shard, as a table, and their estimated seconds."""
    cutter = ShardCutter(request.shard_seconds, request.max_shard_clips)
    pieces: list[pa.Table] = []
    total = 0.0
    for table in tables:
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


def _estimates(table: pa.Table, rates: Mapping[str, float]) -> list[float]:
    durations: Any = table.column("duration_seconds")
    if not durations.null_count:  # the same, without looking at anything else
        known: list[float] = np.maximum(durations.to_numpy(), 0.0).tolist()
        return known
    names = ("key", "uri", "locator", "offset_seconds", "duration_seconds", "size_bytes")
    columns: Any = [table.column(name).to_pylist() for name in names]
    return [
        estimate_seconds(uri if locator is None else key, offset, duration, size, rates)
        for key, uri, locator, offset, duration, size in zip(*columns, strict=True)
    ]
