"""The row of a corpus: its Arrow schema, and records turned into Arrow without touching a token.

Column names and types are a promise to those who read corpora; `SCHEMA_VERSION` counts them.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dac_tokenize.errors import PlanError

if TYPE_CHECKING:
    from dac_tokenize.codec.checkpoint import CodecIdentity

SCHEMA_VERSION = 1
"""Version of the columns below and of the footer's entries."""

FOOTER_PREFIX = "dac_tokenize."
"""What the names of this package's entries in a Parquet footer start with; values are JSON."""

BASE_SCHEMA = pa.schema(
    [
        pa.field("key", pa.string()),
        pa.field("audio_codes", pa.list_(pa.list_(pa.uint16()))),
        pa.field("num_frames", pa.int64()),
        pa.field("num_samples", pa.int64()),
        pa.field("duration_seconds", pa.float64()),
        pa.field("source_uri", pa.string()),
        pa.field("channel", pa.int16()),
        pa.field("offset_seconds", pa.float64()),
        pa.field("source_loudness", pa.float64()),
    ]
)
"""The columns of every corpus; metadata columns follow them."""

FIELD_NOTES = {
    "key": "unique and stable name of the clip; `#<channel>` follows where channels were split",
    "audio_codes": "DAC codes, shape (num_codebooks, num_frames)",
    "num_frames": "frames of the clip",
    "num_samples": "length of the clip in samples at the codec's rate, to trim decoded sound",
    "duration_seconds": "length of the clip in seconds: num_samples / sampling_rate",
    "source_uri": "file or object the clip came from",
    "channel": "channel of the source, from 0; null for the mean of all channels",
    "offset_seconds": "where the clip starts in its source",
    "source_loudness": "loudness (LUFS) before it was brought to the target; null without one",
}


@dataclass(frozen=True, slots=True)
class Record:
    """One clip of a corpus as codes.

    Attributes:
        key: unique and stable name of the clip.
        audio_codes: uint16, shape (num_codebooks, num_frames).
        num_samples: length of the clip at the codec's sampling rate.
        duration_seconds: the same in seconds.
        source_uri: file or object the clip came from.
        channel: channel of the source; None for the mixdown.
        offset_seconds: where the clip starts in its source.
        source_loudness: loudness (LUFS, ITU-R BS.1770) before it was brought to the target; None
            where none was asked for.
        metadata: values of the metadata columns; null where missing.
    """

    key: str
    audio_codes: npt.NDArray[np.uint16]
    num_samples: int
    duration_seconds: float
    source_uri: str
    channel: int | None = None
    offset_seconds: float = 0.0
    source_loudness: float | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)


def corpus_schema(identity: CodecIdentity, metadata_schema: pa.Schema | None = None) -> pa.Schema:
    """Return the Arrow schema of a corpus.

    Args:
        identity: the codec that made the codes; named in the schema's metadata.
        metadata_schema: types of the metadata columns, which follow the fixed ones.

    Returns:
        The columns of `BASE_SCHEMA` and the metadata columns. The schema's own metadata holds the
        codec, the schema version, and the `huggingface` entry by which `datasets` restores types.

    Raises:
        PlanError: a metadata column has the name of a fixed one, or a type with no counterpart
            in `datasets`.
    """
    features = corpus_features_json(metadata_schema)
    schema = pa.schema([*BASE_SCHEMA, *(metadata_schema or [])])
    return schema.with_metadata(
        {
            "huggingface": json.dumps({"info": {"features": features}}, separators=(",", ":")),
            f"{FOOTER_PREFIX}schema_version": json.dumps(SCHEMA_VERSION),
            f"{FOOTER_PREFIX}codec": json.dumps(asdict(identity), sort_keys=True),
        }
    )


def corpus_features_json(metadata_schema: pa.Schema | None = None) -> dict[str, Any]:
    """Return the JSON by which `datasets` describes the columns, without importing `datasets`.

    Raises:
        PlanError: a metadata column has the name of a fixed one, or a type with no counterpart
            in `datasets`.
    """
    columns = list(metadata_schema or [])
    check_metadata_names([column.name for column in columns])
    return {
        column.name: feature_json(column.name, column.type) for column in [*BASE_SCHEMA, *columns]
    }


def corpus_features(metadata_schema: pa.Schema | None = None) -> Any:
    """Return the `datasets.Features` of a corpus, its metadata columns included.

    >>> corpus_features()["audio_codes"]
    List(List(Value('uint16')))
    """
    from datasets import Features

    return Features.from_arrow_schema(pa.schema([*BASE_SCHEMA, *(metadata_schema or [])]))


def check_metadata_names(names: Iterable[Any]) -> None:
    """Refuse metadata columns that a corpus cannot hold.

    Raises:
        PlanError: a name is no text, is empty, or is one of the fixed columns'.
    """
    for name in names:
        if not isinstance(name, str) or not name:
            raise PlanError(
                f"a metadata column is named {name!r}: columns need a name of one or more "
                "characters; rename it in the input's table"
            )
        if name in BASE_SCHEMA.names:
            raise PlanError(
                f"the metadata column {name!r} has the name of one of the corpus's own columns "
                f"({', '.join(BASE_SCHEMA.names)}); rename it in the input's table, for example "
                f"to 'source_{name}'"
            )


def record_batch(records: Sequence[Record], schema: pa.Schema) -> pa.RecordBatch:
    """Return the rows of some records.

    Args:
        records: any number of records.
        schema: from `corpus_schema`.

    Returns:
        One row a record, in their order.
    """
    columns: dict[str, Any] = {
        "key": [record.key for record in records],
        "num_frames": [record.audio_codes.shape[1] for record in records],
        "num_samples": [record.num_samples for record in records],
        "duration_seconds": [record.duration_seconds for record in records],
        "source_uri": [record.source_uri for record in records],
        "channel": [record.channel for record in records],
        "offset_seconds": [record.offset_seconds for record in records],
        "source_loudness": [record.source_loudness for record in records],
    }
    arrays = []
    for column in schema:
        if column.name == "audio_codes":
            arrays.append(codes_array([record.audio_codes for record in records]))
        else:
            values = columns.get(column.name)
            if values is None:
                values = [record.metadata.get(column.name) for record in records]
            arrays.append(pa.array(values, type=column.type))
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def codes_array(codes: Sequence[npt.NDArray[np.uint16]]) -> pa.Array[Any]:
    """Return clips' codes as one nested Arrow array, from flat buffers.

    Args:
        codes: uint16 arrays (num_codebooks, num_frames); the shapes may differ.

    Returns:
        list<list<uint16>>, one item a clip.

    >>> codes_array([np.array([[1, 2], [3, 4]], np.uint16)]).to_pylist()
    [[[1, 2], [3, 4]]]
    """
    num_codebooks = np.array([clip.shape[0] for clip in codes], np.int64)
    num_frames = np.array([clip.shape[1] for clip in codes], np.int64)
    flat = [np.ascontiguousarray(clip, np.uint16).reshape(-1) for clip in codes]
    values = pa.array(np.concatenate(flat) if flat else np.empty(0, np.uint16))
    return _nested(_nested(values, np.repeat(num_frames, num_codebooks)), num_codebooks)


def codes_from_array(array: Any) -> list[npt.NDArray[np.uint16]]:
    """Return the clips' codes of a nested Arrow array: the inverse of `codes_array`.

    Args:
        array: Arrow list<list<uint16>> without nulls; every clip's codebooks are equally long.

    Returns:
        uint16 arrays (num_codebooks, num_frames) that share the array's memory, read-only.
    """
    inner = array.values
    outer_offsets = array.offsets.to_numpy()
    inner_offsets = inner.offsets.to_numpy()
    values = inner.values.to_numpy()
    return [
        values[inner_offsets[first] : inner_offsets[last]].reshape(last - first, -1)
        if last > first
        else np.empty((0, 0), np.uint16)
        for first, last in itertools.pairwise(outer_offsets)
    ]


def _nested(values: pa.Array[Any], lengths: npt.NDArray[np.int64]) -> pa.Array[Any]:
    """Return a list array whose items are consecutive stretches of `values`."""
    offsets: Any = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
    lists: pa.Array[Any] = pa.ListArray.from_arrays(offsets, values)
    return lists


_DTYPES = {"halffloat": "float16", "float": "float32", "double": "float64"}
_DTYPES |= {"date32[day]": "date32", "date64[ms]": "date64"}


def feature_json(name: str, kind: pa.DataType) -> Any:
    """Return the JSON by which `datasets` describes the Arrow type of the column `name`.

    It does not tell how the items of lists are named, which Parquet changes.

    Raises:
        PlanError: `datasets` has no counterpart of the type.
    """
    if pa.types.is_struct(kind):
        return {child.name: feature_json(name, child.type) for child in kind}
    if pa.types.is_fixed_size_list(kind):
        item = feature_json(name, kind.value_type)
        return {"feature": item, "length": kind.list_size, "_type": "List"}
    if pa.types.is_large_list(kind):
        return {"feature": feature_json(name, kind.value_type), "_type": "LargeList"}
    if pa.types.is_list(kind):
        return {"feature": feature_json(name, kind.value_type), "_type": "List"}
    if pa.types.is_nested(kind) or pa.types.is_dictionary(kind):
        raise PlanError(
            f"the metadata column {name!r} has the type {kind}, which `datasets` cannot hold; "
            "turn it into text or lists in the input's table"
        )
    return {"dtype": _DTYPES.get(str(kind), str(kind)), "_type": "Value"}
