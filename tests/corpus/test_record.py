import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from dac_tokenize.corpus import record
from dac_tokenize.corpus.record import (
    Record,
    codes_array,
    codes_from_array,
    corpus_schema,
    record_batch,
)
from dac_tokenize.errors import PlanError
from tests.corpus.fakes import IDENTITY

CODES = npst.arrays(np.uint16, st.tuples(st.integers(1, 4), st.integers(1, 9)))

METADATA = pa.schema(
    [
        pa.field("text", pa.string()),
        pa.field("speaker", pa.int64()),
        pa.field("score", pa.float32()),
        pa.field("half", pa.float16()),
        pa.field("day", pa.date32()),
        pa.field("at", pa.timestamp("us", "UTC")),
        pa.field("clock", pa.time64("us")),
        pa.field("for", pa.duration("ms")),
        pa.field("raw", pa.binary()),
        pa.field("price", pa.decimal128(7, 2)),
        pa.field("ok", pa.bool_()),
        pa.field("words", pa.list_(pa.struct([pa.field("w", pa.string())]))),
        pa.field("box", pa.list_(pa.int32(), 4)),
        pa.field("long", pa.large_list(pa.large_string())),
        pa.field("who", pa.struct([pa.field("age", pa.int8())])),
    ]
)


@settings(deadline=None)
@given(st.lists(CODES, max_size=6))
def test_nested_codes_equal_plain_lists(codes):
    slow = pa.array([clip.tolist() for clip in codes], pa.list_(pa.list_(pa.uint16())))
    assert codes_array(codes).equals(slow)


@settings(deadline=None)
@given(st.lists(CODES, max_size=6), st.data())
def test_codes_come_back_from_any_slice(codes, data):
    first = data.draw(st.integers(0, len(codes)))
    back = codes_from_array(codes_array(codes).slice(first))
    assert len(back) == len(codes) - first
    for found, expected in zip(back, codes[first:], strict=True):
        assert found.dtype == np.uint16
        np.testing.assert_array_equal(found, expected)


def test_codes_of_strided_and_wide_arrays():
    codes = np.arange(12, dtype=np.uint16).reshape(3, 4)
    assert codes_array([codes.T, codes[:, ::2]]).to_pylist() == [
        codes.T.tolist(),
        codes[:, ::2].tolist(),
    ]


def test_clip_without_frames():
    [back] = codes_from_array(codes_array([np.empty((3, 0), np.uint16)]))
    assert back.shape == (3, 0)


def test_record_batch_has_all_columns():
    schema = corpus_schema(IDENTITY, pa.schema([pa.field("text", pa.string())]))
    codes = np.arange(6, dtype=np.uint16).reshape(3, 2)
    key = "ключ\n🎵" + "x" * 4000
    rows = [
        Record(
            key, codes, 123, 123 / 8000, "/a.wav", source_loudness=-20.5, metadata={"text": "hi"}
        ),
        Record("b", codes[:, :1], 1, 1 / 8000, "/b.wav", channel=1, offset_seconds=2.5),
    ]
    assert record_batch(rows, schema).to_pylist() == [
        {
            "key": key,
            "audio_codes": codes.tolist(),
            "num_frames": 2,
            "num_samples": 123,
            "duration_seconds": 123 / 8000,
            "source_uri": "/a.wav",
            "channel": None,
            "offset_seconds": 0.0,
            "source_loudness": -20.5,
            "text": "hi",
        },
        {
            "key": "b",
            "audio_codes": [[0], [2], [4]],
            "num_frames": 1,
            "num_samples": 1,
            "duration_seconds": 1 / 8000,
            "source_uri": "/b.wav",
            "channel": 1,
            "offset_seconds": 2.5,
            "source_loudness": None,
            "text": None,
        },
    ]


def test_huggingface_entry_is_what_datasets_writes():
    datasets = pytest.importorskip("datasets")
    ours = json.loads(corpus_schema(IDENTITY, METADATA).metadata[b"huggingface"])
    plain = pa.schema([*record.BASE_SCHEMA, *METADATA])
    theirs = datasets.Features.from_arrow_schema(plain).arrow_schema.metadata[b"huggingface"]
    assert ours == json.loads(theirs)


def test_features_twin():
    datasets = pytest.importorskip("datasets")
    features = record.corpus_features(METADATA)
    assert features["audio_codes"] == datasets.List(datasets.List(datasets.Value("uint16")))
    assert (
        features.arrow_schema.remove_metadata()
        == corpus_schema(IDENTITY, METADATA).remove_metadata()
    )


def test_schema_names_codec_and_version():
    metadata = corpus_schema(IDENTITY).metadata
    assert json.loads(metadata[b"dac_tokenize.codec"])["weights_checksum"] == "5" * 64
    assert json.loads(metadata[b"dac_tokenize.schema_version"]) == record.SCHEMA_VERSION


@pytest.mark.parametrize("name", record.BASE_SCHEMA.names)
def test_metadata_column_named_like_ours_is_refused(name):
    with pytest.raises(PlanError, match=f"'{name}'.*rename it.*'source_{name}'"):
        corpus_schema(IDENTITY, pa.schema([pa.field(name, pa.string())]))


@pytest.mark.parametrize("name", ["", 3, None])
def test_metadata_column_without_a_name_is_refused(name):
    with pytest.raises(PlanError, match="need a name"):
        record.check_metadata_names([name])


def test_metadata_type_that_datasets_lacks_is_refused():
    kind = pa.map_(pa.string(), pa.int8())
    with pytest.raises(PlanError, match="'m' has the type map"):
        corpus_schema(IDENTITY, pa.schema([pa.field("m", kind)]))


def test_every_column_has_a_note():
    assert list(record.FIELD_NOTES) == record.BASE_SCHEMA.names


def test_parquet_keeps_the_types(tmp_path):
    schema = corpus_schema(IDENTITY)
    codes = np.full((2, 3), 65535, np.uint16)
    batch = record_batch([Record("a", codes, 9, 0.1, "u")], schema)
    pq.write_table(pa.Table.from_batches([batch]), tmp_path / "a.parquet")
    assert pq.read_table(tmp_path / "a.parquet").schema.equals(schema)
