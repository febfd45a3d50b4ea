import errno
import logging
import os
import random

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dac_tokenize import files
from dac_tokenize.corpus.footer import (
    FailedInput,
    ShardFooter,
    ShardStats,
    load_footer,
    open_parquet,
    read_footer,
)
from dac_tokenize.corpus.record import Record, codes_from_array, corpus_schema
from dac_tokenize.corpus.shard import ShardWriter
from dac_tokenize.errors import CorpusError
from tests.corpus.fakes import IDENTITY

FAILURE = FailedInput("bad\nключ", "/bad.wav", "decode", "AudioError", "no sound: found 0 bytes")


def footer(rows, failures=(FAILURE,)):
    return ShardFooter(
        codec={"model_id": "fake"},
        waveform={"channels": "mix"},
        plan_fingerprint="a" * 64,
        shard_fingerprint="b" * 64,
        index=3,
        num_shards=53,
        stats=ShardStats(clips=rows + len(failures), failed=len(failures), rows=rows),
        failures=failures,
    )


def records(count, frames=10, num_codebooks=3, codebook_size=1024):
    noise = np.random.default_rng(count)
    for index in range(count):
        codes = noise.integers(0, codebook_size, (num_codebooks, frames), dtype=np.uint16)
        yield Record(f"k{index}", codes, frames * 80, frames / 100, f"/{index}.wav")


def write(url, rows, **options):
    with ShardWriter(url, corpus_schema(IDENTITY), **options) as writer:
        for row in rows:
            writer.write(row)
        return writer.publish(footer(len(rows)))


@pytest.mark.parametrize("store", ["local", "memory"])
def test_rows_and_footer_come_back(tmp_path, store):
    root = str(tmp_path) if store == "local" else f"memory://{tmp_path.name}-{random.random()}"
    url = files.join(root, "data", "train.parquet")
    rows = list(records(25))
    file = write(url, rows, row_group_rows=10)
    assert read_footer(url) == footer(25)
    with open_parquet(url) as parquet:
        assert [parquet.metadata.row_group(i).num_rows for i in range(3)] == [10, 10, 5]
        table = parquet.read()
    codes = codes_from_array(table.column("audio_codes").combine_chunks())
    for found, row in zip(codes, rows, strict=True):
        np.testing.assert_array_equal(found, row.audio_codes)
    assert file.rows == 25
    assert file.size_bytes == files.size_bytes(url)
    assert file.checksum == files.checksum(url)
    assert files.list_names(files.join(root, "data")) == ["train.parquet"]


def test_row_groups_end_at_bytes_of_codes(tmp_path):
    url = str(tmp_path / "a.parquet")
    write(url, list(records(10)), row_group_bytes=3 * 60)
    with open_parquet(url) as parquet:
        sizes = [parquet.metadata.row_group(i).num_rows for i in range(parquet.num_row_groups)]
    assert sizes == [3, 3, 3, 1]


def test_shard_without_rows(tmp_path):
    url = str(tmp_path / "a.parquet")
    write(url, [])
    assert read_footer(url) == footer(0)
    assert pq.read_table(url).num_rows == 0


def test_same_rows_give_same_bytes(tmp_path):
    first = write(str(tmp_path / "a" / "x.parquet"), list(records(30)), row_group_rows=7)
    second = write(str(tmp_path / "b" / "y.parquet"), list(records(30)), row_group_rows=7)
    assert first == second
    assert (tmp_path / "a/x.parquet").read_bytes() == (tmp_path / "b/y.parquet").read_bytes()


@pytest.mark.parametrize("num_codebooks", [9, 12])
def test_ten_bit_codes_take_ten_bits(tmp_path, num_codebooks):
    rows = list(records(200, frames=500, num_codebooks=num_codebooks))
    file = write(str(tmp_path / "a.parquet"), rows)
    bits = 8 * file.codes_bytes / sum(row.audio_codes.size for row in rows)
    assert 9.9 < bits <= 10.3


def test_statistics_are_off_for_codes_only(tmp_path):
    write(str(tmp_path / "a.parquet"), list(records(5)))
    group = pq.read_metadata(tmp_path / "a.parquet").row_group(0)
    has = {group.column(i).path_in_schema: group.column(i).is_stats_set for i in range(8)}
    assert has.pop("audio_codes.list.element.list.element") is False
    assert all(has.values())


def test_an_exception_leaves_nothing(tmp_path):
    url = str(tmp_path / "a.parquet")
    rows = [*records(5), "no record"]
    with pytest.raises(AttributeError, match="audio_codes"):
        write(url, rows, row_group_rows=2)
    assert os.listdir(tmp_path) == []


def test_an_exception_leaves_what_was_published(tmp_path):
    url = str(tmp_path / "a.parquet")
    write(url, list(records(5)))
    before = (tmp_path / "a.parquet").read_bytes()
    with pytest.raises(KeyError), ShardWriter(url, corpus_schema(IDENTITY)):
        raise KeyError
    assert (tmp_path / "a.parquet").read_bytes() == before


def test_full_disk_leaves_nothing(tmp_path, monkeypatch):
    def full(source, target):
        raise OSError(errno.ENOSPC, "No space left on device", target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        write(str(tmp_path / "a.parquet"), list(records(5)))
    assert os.listdir(tmp_path) == []


def test_missing_file_is_not_done_quietly(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        assert read_footer(str(tmp_path / "a.parquet")) is None
    assert caplog.text == ""


def spoil(path, how):
    data = path.read_bytes()
    if how == "cut":
        path.write_bytes(data[: len(data) // 2])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "text":
        path.write_text("PAR1 not really")
    elif how == "foreign":
        pq.write_table(pa.table({"a": [1]}), path)
    elif how == "footer":
        path.write_bytes(data[:-200] + b"\xff" * 100 + data[-100:])
    elif how == "json":
        table = pq.read_table(path)
        entries = {b"dac_tokenize.schema_version": b"1", b"dac_tokenize.shard_fingerprint": b'""'}
        pq.write_table(table.replace_schema_metadata(entries), path)
    elif how == "version":
        table = pq.read_table(path)
        entries = {b"dac_tokenize.schema_version": b"99", b"dac_tokenize.shard_fingerprint": b'""'}
        pq.write_table(table.replace_schema_metadata(entries), path)
    else:
        with ShardWriter(str(path), corpus_schema(IDENTITY)) as writer:
            writer.publish(footer(7))


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ("cut", "no readable Parquet file"),
        ("empty", "no readable Parquet file"),
        ("text", "no readable Parquet file"),
        ("footer", "no readable Parquet file"),
        ("foreign", "no shard of dac_tokenize"),
        ("json", "has a damaged footer"),
        ("version", "has schema version 99.* reads version 1"),
        ("rows", "has 0 rows where its footer says 7"),
    ],
)
def test_unusable_file_is_not_done_and_says_why(tmp_path, caplog, how, why):
    path = tmp_path / "a.parquet"
    write(str(path), list(records(5)))
    spoil(path, how)
    with pytest.raises(CorpusError, match=why):
        load_footer(str(path))
    assert read_footer(str(path)) is None
    assert "counts as not done" in caplog.text


def test_a_flipped_bit_in_a_page_is_noticed(tmp_path):
    path = tmp_path / "a.parquet"
    write(str(path), list(records(50, frames=200)))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    with open_parquet(str(path)) as parquet, pytest.raises(OSError, match=r"(?i)crc"):
        parquet.read()


def test_temporary_file_lies_beside_its_final_place(tmp_path):
    url = str(tmp_path / "a.parquet")
    with ShardWriter(url, corpus_schema(IDENTITY)):
        [name] = os.listdir(tmp_path)
        assert name.startswith(".a.parquet.tmp-")
        assert f"-{os.getpid()}-" in name


def test_two_writers_of_one_file_end_well(tmp_path):
    url = str(tmp_path / "a.parquet")
    rows = list(records(5))
    with (
        ShardWriter(url, corpus_schema(IDENTITY)) as one,
        ShardWriter(url, corpus_schema(IDENTITY)) as two,
    ):
        for row in rows:
            one.write(row)
            two.write(row)
        first, second = two.publish(footer(5)), one.publish(footer(5))
    assert first == second
    assert os.listdir(tmp_path) == ["a.parquet"]
