"""Parquet with embedded audio: as the Hub stores it, and every way in which it can be wrong."""

import json

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dac_tokenize.errors import PlanError
from tests.sources.reading import RATE, faults, listed, read_all
from tests.waveform.sounds import decode, encode, tones


def sound(seed: int = 0) -> bytes:
    return encode(tones(3000, seed=seed), RATE, "FLAC")


def write(path, columns, row_group_size: int = 3) -> str:
    pq.write_table(pa.table(columns), path, row_group_size=row_group_size)
    return str(path)


def audio(rows) -> pa.Array:
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    return pa.array([row and {"bytes": row[0], "path": row[1]} for row in rows], kind)


def test_as_the_hub_stores_it(tmp_path):
    """Written by `datasets` itself."""
    rows = {
        "id": [f"utt-{i}" for i in range(10)],
        "audio": [{"bytes": sound(i), "path": f"{i}.flac"} for i in range(10)],
        "text": [f"text {i}" for i in range(10)],
        "speaker_id": list(range(10)),
    }
    dataset = datasets.Dataset.from_dict(rows)
    dataset = dataset.cast_column("audio", datasets.Audio(decode=False))
    dataset.to_parquet(str(tmp_path / "train-00000-of-00001.parquet"), batch_size=4)
    references = listed(tmp_path / "*.parquet")
    assert [r.key for r in references] == [
        f"train-00000-of-00001.parquet/{i:09d}" for i in range(10)
    ]
    assert references[7].metadata == {"id": "utt-7", "text": "text 7", "speaker_id": 7}
    results = list(read_all(references).values())
    for i in range(10):
        assert np.array_equal(results[i], decode(sound(i))[0].T)


def test_a_row_group_is_read_once(tmp_path, monkeypatch):
    write(tmp_path / "x.parquet", {"audio": audio([(sound(i), None) for i in range(9)])})
    references = listed(tmp_path / "x.parquet")
    loads = []
    plain = pq.ParquetFile.read_row_group

    def counted(self, i, **options):
        loads.append(i)
        return plain(self, i, **options)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", counted)
    assert not faults(read_all(references))
    assert loads == [0, 1, 2]


def test_a_column_of_bytes_and_a_key(tmp_path):
    write(tmp_path / "x.parquet", {"wav": [sound(1), sound(2)], "key": ["one", "two"], "n": [1, 2]})
    references = listed(tmp_path / "x.parquet")
    assert [(r.key, dict(r.metadata)) for r in references] == [("one", {"n": 1}), ("two", {"n": 2})]
    assert not faults(read_all(references))


def test_the_declared_column_wins(tmp_path):
    features = {"info": {"features": {"b": {"_type": "Audio"}, "a": {"_type": "Image"}}}}
    table = pa.table({"a": audio([(b"an image", None)]), "b": audio([(sound(1), None)])})
    table = table.replace_schema_metadata({"huggingface": json.dumps(features)})
    pq.write_table(table, tmp_path / "x.parquet")
    assert not faults(read_all(listed(tmp_path / "x.parquet")))


def test_values_that_json_has_not(tmp_path):
    import datetime
    import decimal

    columns = {
        "audio": audio([(sound(1), None)]),
        "when": [datetime.datetime(2024, 5, 1, 12, 30)],
        "price": [decimal.Decimal("1.50")],
        "nested": [{"list": [1.0, float("nan")], "day": datetime.date(2024, 5, 1)}],
        "cover": [b"an image"],
        "covers": [[b"images"]],
    }
    write(tmp_path / "x.parquet", columns)
    (reference,) = listed(tmp_path / "x.parquet")
    assert reference.metadata == {
        "when": "2024-05-01T12:30:00",
        "price": 1.5,
        "nested": {"list": [1.0, None], "day": "2024-05-01"},
    }
    json.dumps(reference.metadata)


def test_bytes_null_and_a_path_beside_it(tmp_path):
    (tmp_path / "a.flac").write_bytes(sound(1))
    rows = [(None, "a.flac"), (None, None), None, (None, "gone.flac"), (b"", "a.flac")]
    write(tmp_path / "x.parquet", {"audio": audio(rows)})
    results = list(read_all(listed(tmp_path / "x.parquet")).values())
    assert np.array_equal(results[0], decode(sound(1))[0].T)
    assert "row 1 of row group 0: the column audio is null" in results[1]
    assert "row 2 of row group 0: the column audio is null" in results[2]
    assert "there is no file" in results[3]
    assert "empty (0 bytes)" in results[4]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"text": ["x"]}, r"no column of sound or of paths: it has text \(string\)"),
        ({"audio": pa.nulls(3)}, r"it has audio \(null\); expected audio \(struct<bytes, path>\)"),
        ({"audio": [1, 2]}, r"it has audio \(int64\)"),
        ({"audio": [{"path": "a.wav"}]}, r"it has audio \(struct<path: string>\)"),
        ({"audio": [{"bytes": 5}]}, r"it has audio \(struct<bytes: int64>\)"),
        ({"audio": audio([])}, "holds no sound"),
    ],
)
def test_no_column_of_sound(tmp_path, columns, message):
    with pytest.raises(PlanError, match=message):
        listed(write(tmp_path / "x.parquet", columns))


@pytest.mark.parametrize("data", [b"", b"PAR1", b"no table" * 100, b"PAR1" + bytes(100) + b"PAR1"])
def test_a_parquet_file_that_is_none(tmp_path, data):
    (tmp_path / "x.parquet").write_bytes(data)
    with pytest.raises(PlanError, match="is no Parquet file"):
        listed(tmp_path / "x.parquet")


def test_a_damaged_row_group_fails_alone(tmp_path):
    columns = {"audio": audio([(sound(i), None) for i in range(9)]), "n": list(range(9))}
    path = write(tmp_path / "x.parquet", columns)
    data = bytearray((tmp_path / "x.parquet").read_bytes())
    column = pq.ParquetFile(path).metadata.row_group(1).column(0)
    start = column.dictionary_page_offset or column.data_page_offset
    data[start : start + 60] = b"\xa5" * 60
    (tmp_path / "x.parquet").write_bytes(data)
    results = list(read_all(listed(path)).values())
    assert [isinstance(result, str) for result in results] == [False] * 3 + [True] * 3 + [False] * 3
    assert "is damaged" in results[4]


def test_a_file_that_changed_since_it_was_listed(tmp_path):
    path = write(tmp_path / "x.parquet", {"audio": audio([(sound(1), None)])})
    references = listed(path)
    write(tmp_path / "x.parquet", {"audio": audio([(sound(2), None)] * 2)})
    assert all("has changed" in reason for reason in faults(read_all(references)).values())
    assert len(faults(read_all(references))) == 1


def test_a_folder_of_them_gives_a_hint(tmp_path):
    write(tmp_path / "x.parquet", {"audio": audio([(sound(1), None)])})
    with pytest.raises(PlanError, match=r"left out: 1 .parquet\); .* give .*/\*.parquet"):
        listed(tmp_path)
