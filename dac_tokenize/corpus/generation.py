"""What was planned for a corpus at once, and the file that describes it."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from dac_tokenize import files
from dac_tokenize.corpus.parts import PlanPart, damaged_plan
from dac_tokenize.corpus.record import SCHEMA_VERSION
from dac_tokenize.corpus.request import PlanRequest
from dac_tokenize.errors import CorpusMismatchError


@dataclass(frozen=True, slots=True)
class Generation:
    """What was planned at once: at first, or when something was added.

    Attributes:
        request: what was asked for; all generations of a corpus differ in the inputs only.
        fingerprint: SHA-256 of the request and of all shards' fingerprints.
        before: fingerprint of the plan that this was added to; None for the first.
        first_shard: number of the first shard.
        num_shards: how many shards.
        num_clips: how many clips.
        estimated_seconds: how much sound, by estimate.
        bytes_per_second: what the estimates used, by suffix.
        metadata_schema: types of the metadata columns, the same in all generations.
        parts: the files that hold the references.
        package_version: of dac_tokenize when this was planned.
    """

    request: PlanRequest
    fingerprint: str
    before: str | None
    first_shard: int
    num_shards: int
    num_clips: int
    estimated_seconds: float
    bytes_per_second: Mapping[str, float]
    metadata_schema: pa.Schema
    parts: tuple[PlanPart, ...]
    package_version: str | None

    @property
    def end_shard(self) -> int:
        """The number after that of the last shard: how many the corpus has so far."""
        return self.first_shard + self.num_shards


def generation_name(number: int) -> str:
    """Return the name of the file that describes a generation, counted from 0."""
    return f"plan-{number:03d}.json" if number else "plan.json"


def parse_generation(output: str, name: str, data: bytes) -> Generation:
    """Return the generation that a file of an output's plan describes.

    Raises:
        CorpusMismatchError: another version of this package made it.
        CorpusError: it is damaged.
    """
    try:
        values = json.loads(data)
        version = values.pop("schema_version")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise damaged_plan(output, f"{name} is no plan") from error
    if version != SCHEMA_VERSION:
        raise CorpusMismatchError(
            f"{output} holds a corpus of schema version {version}, and this dac_tokenize "
            f"makes version {SCHEMA_VERSION}; go on with the version that made it "
            f"({values.get('package_version')}) or give another --output"
        )
    try:
        return _generation_of(values)
    except (ValueError, KeyError, TypeError) as error:
        raise damaged_plan(output, f"{name} does not fit together ({error})") from error


def _generation_of(values: dict[str, Any]) -> Generation:
    from dac_tokenize.codec.checkpoint import CodecIdentity
    from dac_tokenize.waveform import WaveformOptions

    request = values["request"]
    return Generation(
        request=PlanRequest(
            inputs=tuple(request["inputs"]),
            codec=CodecIdentity(**request["codec"]),
            waveform=WaveformOptions(**request["waveform"]),
            shard_seconds=request["shard_seconds"],
            max_shard_clips=request["max_shard_clips"],
        ),
        fingerprint=values["fingerprint"],
        before=values.get("before"),
        first_shard=values.get("first_shard", 0),
        num_shards=values["num_shards"],
        num_clips=values["num_clips"],
        estimated_seconds=values["estimated_seconds"],
        bytes_per_second=values["bytes_per_second"],
        metadata_schema=pa.ipc.read_schema(
            pa.py_buffer(base64.b64decode(values["metadata_schema"]))
        ),
        parts=tuple(PlanPart(**part) for part in values["parts"]),
        package_version=values["package_version"],
    )


def generation_json(generation: Generation) -> bytes:
    """Return what `load_plan` reads."""
    schema = generation.metadata_schema
    # Not by `asdict`, which would copy the schema.
    values = {name: getattr(generation, name) for name in Generation.__slots__}
    return files.readable_json(
        values
        | {
            "schema_version": SCHEMA_VERSION,
            "request": asdict(generation.request),
            "metadata_schema": base64.b64encode(schema.serialize().to_pybytes()).decode(),
            "metadata_columns": {column.name: str(column.type) for column in schema},
            "parts": [asdict(part) for part in generation.parts],
        }
    )
