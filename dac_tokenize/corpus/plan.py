"""The plan of a corpus: which clips go into which shard, saved beside the corpus.

``OUT/_plan/part-00000.parquet`` ... hold the references, one row group a shard and 1,000 shards a
file, so that a worker reads just its shard. ``OUT/_plan/plan.json`` is written last: where it
is, the plan is whole. A second run reads it and lists nothing. `planning` makes plans.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from dac_tokenize import files
from dac_tokenize.corpus.footer import open_parquet
from dac_tokenize.corpus.record import FOOTER_PREFIX, SCHEMA_VERSION, feature_json
from dac_tokenize.corpus.request import PlanRequest
from dac_tokenize.errors import CorpusError, CorpusMismatchError
from dac_tokenize.references import Reference

SHARDS_PER_PART = 1000
"""Shards whose references share one file of the plan."""

SHARDS_ENTRY = FOOTER_PREFIX + "shards"
"""Footer entry of a part: for each of its shards [fingerprint, clips, estimated seconds]."""

METADATA_PREFIX = "metadata."
"""What the names of metadata columns start with in a part of the plan."""

_COLUMNS: list[pa.Field[Any]] = [
    pa.field("key", pa.string()),
    pa.field("uri", pa.string()),
    pa.field("offset_seconds", pa.float64()),
    pa.field("duration_seconds", pa.float64()),
    pa.field("size_bytes", pa.int64()),
    pa.field("locator", pa.string()),
]
REFERENCE_SCHEMA = pa.schema(_COLUMNS)
"""The columns of a part of the plan; metadata columns follow them."""


@dataclass(frozen=True, slots=True)
class PlanPart:
    """One file of a plan.

    Attributes:
        name: file name in the plan's folder.
        first_shard: number of its first shard.
        num_shards: how many shards it has.
        num_clips: how many clips these have.
        checksum: SHA-256 of the fingerprints of its shards.
    """

    name: str
    first_shard: int
    num_shards: int
    num_clips: int
    checksum: str


@dataclass(frozen=True, slots=True)
class PlannedShard:
    """One shard as planned.

    Attributes:
        index: its number, from 0.
        fingerprint: SHA-256 of all that decides its rows.
        num_clips: its clips.
        estimated_seconds: how much sound these probably have.
    """

    index: int
    fingerprint: str
    num_clips: int
    estimated_seconds: float


@dataclass(frozen=True)
class Plan:
    """A saved plan; small however many clips it has, and fit to travel between workers.

    Attributes:
        output: the output folder, path or URL.
        request: what the corpus was asked to be.
        fingerprint: SHA-256 of all shards' fingerprints.
        num_shards: how many shards.
        num_clips: how many clips.
        estimated_seconds: how much sound, by estimate.
        bytes_per_second: what the estimates used, by suffix.
        metadata_schema: types of the metadata columns.
        parts: the files that hold the references.
        package_version: of dac_tokenize when the plan was made.
    """

    output: str
    request: PlanRequest
    fingerprint: str
    num_shards: int
    num_clips: int
    estimated_seconds: float
    bytes_per_second: Mapping[str, float]
    metadata_schema: pa.Schema
    parts: tuple[PlanPart, ...]
    package_version: str | None

    def shard_name(self, index: int) -> str:
        """Return a shard's path below the output folder.

        For example ``data/train-00003-of-00053.parquet``.
        """
        digits = max(5, len(str(self.num_shards)))
        return f"data/train-{index:0{digits}d}-of-{self.num_shards:0{digits}d}.parquet"

    def shard_url(self, index: int) -> str:
        """Return a shard's path or URL."""
        return files.join(self.output, self.shard_name(index))

    def check_request(self, request: PlanRequest) -> None:
        """Make sure that a run which asks for `request` may go on with this plan.

        Raises:
            CorpusMismatchError: something differs; the message names the first such thing.
        """
        if difference := self.request.difference(request):
            raise CorpusMismatchError(
                f"{self.output} holds another corpus: {difference}; ask for the same again or give "
                "another --output"
            )


def plan_url(output: str, name: str = "plan.json") -> str:
    """Return the path or URL of a file of an output's plan."""
    return files.join(output, "_plan", name)


def load_plan(output: str) -> Plan | None:
    """Read the plan of an output folder.

    Args:
        output: path or URL.

    Returns:
        The plan, or None where none has been saved.

    Raises:
        CorpusMismatchError: another version of this package made it.
        CorpusError: it is damaged.
    """
    data = files.read_bytes(plan_url(output))
    if data is None:
        return None
    try:
        values = json.loads(data)
        version = values.pop("schema_version")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(output, "plan.json is no plan") from error
    if version != SCHEMA_VERSION:
        raise CorpusMismatchError(
            f"{output} holds a corpus of schema version {version}, and this dac_tokenize "
            f"makes version {SCHEMA_VERSION}; go on with the version that made it "
            f"({values.get('package_version')}) or give another --output"
        )
    try:
        return _plan_of(output, values)
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(output, f"plan.json does not fit together ({error})") from error


def _plan_of(output: str, values: dict[str, Any]) -> Plan:
    from dac_tokenize.codec.checkpoint import CodecIdentity
    from dac_tokenize.waveform import WaveformOptions

    request = values["request"]
    schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(values["metadata_schema"])))
    return Plan(
        output=output,
        request=PlanRequest(
            inputs=tuple(request["inputs"]),
            codec=CodecIdentity(**request["codec"]),
            waveform=WaveformOptions(**request["waveform"]),
            shard_seconds=request["shard_seconds"],
            max_shard_clips=request["max_shard_clips"],
        ),
        fingerprint=values["fingerprint"],
        num_shards=values["num_shards"],
        num_clips=values["num_clips"],
        estimated_seconds=values["estimated_seconds"],
        bytes_per_second=values["bytes_per_second"],
        metadata_schema=schema,
        parts=tuple(PlanPart(**part) for part in values["parts"]),
        package_version=values["package_version"],
    )


def plan_json(plan: Plan) -> bytes:
    """Return what `load_plan` reads."""
    schema = base64.b64encode(plan.metadata_schema.serialize().to_pybytes()).decode()
    return files.readable_json(
        {
            "schema_version": SCHEMA_VERSION,
            "package_version": plan.package_version,
            "request": asdict(plan.request),
            "fingerprint": plan.fingerprint,
            "num_shards": plan.num_shards,
            "num_clips": plan.num_clips,
            "estimated_seconds": plan.estimated_seconds,
            "bytes_per_second": dict(plan.bytes_per_second),
            "metadata_schema": schema,
            "metadata_columns": {field.name: str(field.type) for field in plan.metadata_schema},
            "parts": [asdict(part) for part in plan.parts],
        }
    )


def iter_shards(plan: Plan) -> Iterator[PlannedShard]:
    """Yield all shards as planned, in order; reads the footers of the plan's parts."""
    for part in plan.parts:
        yield from _part_shards(plan.output, part)


def planned_shard(plan: Plan, index: int) -> PlannedShard:
    """Return one shard as planned.

    Raises:
        CorpusError: the plan has no such shard, or is damaged.
    """
    part = _part_of(plan, index)
    return _part_shards(plan.output, part)[index - part.first_shard]


def load_shard(plan: Plan, index: int) -> list[Reference]:
    """Read the references of one shard.

    Args:
        plan: from `load_plan`.
        index: the shard's number, from 0.

    Returns:
        Its references in the order of the plan. A metadata column that is null for a clip is
        missing in that clip's `metadata`.

    Raises:
        CorpusError: the plan has no such shard, or the file that holds it is missing or damaged.
    """
    planned = planned_shard(plan, index)
    part = _part_of(plan, index)
    try:
        with open_parquet(plan_url(plan.output, part.name)) as file:
            table = file.read_row_group(index - part.first_shard)
    except (OSError, ValueError) as error:
        raise _damaged(plan.output, f"{part.name} cannot be read ({error})") from error
    if shard_fingerprint(plan.request, table) != planned.fingerprint:
        raise _damaged(plan.output, f"{part.name} holds other references than it says")
    return _references(table)


def shard_fingerprint(request: PlanRequest, references: pa.Table) -> str:
    """Return the SHA-256 of all that decides a shard's rows.

    Args:
        request: what the corpus is asked to be.
        references: the shard's rows of the plan.

    Returns:
        64 hexadecimal digits, the same however the table is laid out in memory or files.
    """
    digest = hashlib.sha256(files.canonical_json(request.fingerprint_header()))
    for column in references.schema:
        values = references.column(column.name).to_pylist()
        kind = feature_json(column.name.removeprefix(METADATA_PREFIX), column.type)
        digest.update(files.canonical_json([column.name, kind, values]))
    return digest.hexdigest()


def _references(table: pa.Table) -> list[Reference]:
    fixed = [table.column(name).to_pylist() for name in REFERENCE_SCHEMA.names]
    names = [name for name in table.schema.names if name.startswith(METADATA_PREFIX)]
    extra = [table.column(name).to_pylist() for name in names]
    references = []
    for row, values in enumerate(zip(*fixed, strict=True)):
        metadata = {
            name.removeprefix(METADATA_PREFIX): column[row]
            for name, column in zip(names, extra, strict=True)
            if column[row] is not None
        }
        fields = dict(zip(REFERENCE_SCHEMA.names, values, strict=True))
        references.append(Reference(**fields, metadata=metadata))
    return references


def _part_of(plan: Plan, index: int) -> PlanPart:
    if not 0 <= index < plan.num_shards:
        raise CorpusError(f"{plan.output} has {plan.num_shards} shards, and no shard {index}")
    return plan.parts[index // SHARDS_PER_PART]


@functools.lru_cache(maxsize=64)
def _part_shards(output: str, part: PlanPart) -> tuple[PlannedShard, ...]:
    url = plan_url(output, part.name)
    try:
        with open_parquet(url) as file:
            entries = json.loads(file.metadata.metadata[SHARDS_ENTRY.encode()])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(output, f"{part.name} cannot be read ({error})") from error
    shards = tuple(PlannedShard(part.first_shard + i, *entry) for i, entry in enumerate(entries))
    if part_checksum(shard.fingerprint for shard in shards) != part.checksum:
        raise _damaged(output, f"{part.name} is not the one that plan.json was written for")
    return shards


def part_checksum(fingerprints: Iterator[str]) -> str:
    """Return the SHA-256 over fingerprints, in order."""
    return hashlib.sha256("".join(fingerprints).encode()).hexdigest()


def _damaged(output: str, what: str) -> CorpusError:
    return CorpusError(
        f"the plan of {output} is damaged: {what}; what is published stays readable, but to go on, "
        f"bring back {plan_url(output, '')} from a copy, or give another --output"
    )
