"""Manifests: every layout and encoding, and every bad row."""

import gzip
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dac_tokenize.corpus.record import BASE_SCHEMA
from dac_tokenize.errors import PlanError
from dac_tokenize.sources import list_references
from dac_tokenize.sources.records import RESERVED_NAMES, as_metadata
from tests.sources.reading import RATE, faults, listed, read_all
from tests.waveform.sounds import decode, encode, tones

SECONDS = 2.0


@pytest.fixture
def folder(tmp_path):
    """Two files of two seconds: wavs/a.wav and wavs/b.flac."""
    (tmp_path / "wavs").mkdir()
    for seed, (name, format) in enumerate((("a.wav", "WAV"), ("b.flac", "FLAC"))):
        data = encode(tones(int(SECONDS * RATE), seed=seed), RATE, format)
        (tmp_path / "wavs" / name).write_bytes(data)
    return tmp_path


def samples(folder, name: str) -> np.ndarray:
    return decode((folder / "wavs" / name).read_bytes())[0].T


def write_lines(path, rows, **options) -> str:
    path.write_text("".join(json.dumps(row, **options) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def test_nemo(folder):
    rows = [
        {"audio_filepath": "wavs/a.wav", "duration": 2.0, "text": "héllo", "speaker": 7},
        {"audio_filepath": "wavs/a.wav", "offset": 0.5, "duration": 0.25, "text": "part"},
        {"audio_filepath": str(folder / "wavs/b.flac"), "offset": 1.5, "text": None},
    ]
    references = listed(write_lines(folder / "train_manifest.json", rows))
    keys = ["wavs/a.wav", "wavs/a.wav#0.5+0.25", f"{str(folder)[1:]}/wavs/b.flac#1.5"]
    assert [r.key for r in references] == keys
    assert [dict(r.metadata) for r in references] == [
        {"text": "héllo", "speaker": 7},
        {"text": "part"},
        {"text": None},
    ]
    results = read_all(references)
    assert np.array_equal(results[keys[0]], samples(folder, "a.wav"))
    assert np.array_equal(results[keys[1]], samples(folder, "a.wav")[:, 8000:12_000])
    assert np.array_equal(results[keys[2]], samples(folder, "b.flac")[:, 24_000:])


def test_common_voice(folder):
    (folder / "wavs").rename(folder / "clips")
    (folder / "validated.tsv").write_text(
        "client_id\tpath\tsentence\tup_votes\tlocale\r\n"
        'c1\ta.wav\t"Quoted," she said.\t2\ten\r\n'
        "c2\tb.flac\tTabs are\\t text\t\ten\r\n",
        newline="",
    )
    references = listed(folder / "validated.tsv")
    assert [r.key for r in references] == ["a.wav", "b.flac"]
    assert references[0].metadata["sentence"] == '"Quoted," she said.'
    assert references[1].metadata == {
        "client_id": "c2",
        "sentence": "Tabs are\\t text",
        "up_votes": "",
        "locale": "en",
    }
    assert not faults(read_all(references))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("delimiter", [",", ";"])
def test_csv_of_every_encoding(folder, encoding, newline, delimiter):
    rows = [
        ["file_name", "offset", "duration", "text"],
        ["wavs/a.wav", "0.5", "1", '"Größe"' if delimiter == "," else "Größe"],
        ["wavs/b.flac", "", "", '"two\nlines"'],
    ]
    text = newline.join(delimiter.join(row) for row in rows) + newline
    path = folder / "metadata.csv"
    path.write_bytes(text.encode(encoding))
    references = listed(path)
    assert [r.key for r in references] == ["wavs/a.wav#0.5+1", "wavs/b.flac"]
    assert [r.metadata["text"] for r in references] == ["Größe", "two\nlines"]
    assert (references[0].offset_seconds, references[0].duration_seconds) == (0.5, 1.0)
    assert (references[1].offset_seconds, references[1].duration_seconds) == (0.0, None)
    assert not faults(read_all(references))


@pytest.mark.parametrize("packed", [False, True])
def test_key_column(folder, packed):
    rows = [{"path": "wavs/a.wav", "key": "k/1"}, {"path": "wavs/a.wav", "key": 2}]
    path = folder / "list.jsonl"
    write_lines(path, rows)
    if packed:
        (folder / "list.jsonl.gz").write_bytes(gzip.compress(path.read_bytes()))
        path = folder / "list.jsonl.gz"
    references = listed(path)
    assert [r.key for r in references] == ["k/1", "2"]
    assert [dict(r.metadata) for r in references] == [{}, {}]


def test_parquet_manifest(folder):
    table = {"audio": ["wavs/a.wav", "wavs/b.flac"], "offset": [0.0, 0.5], "n": [1, None]}
    pq.write_table(pa.table(table), folder / "list.parquet")
    references = listed(folder / "list.parquet")
    assert [r.key for r in references] == ["wavs/a.wav#0", "wavs/b.flac#0.5"]
    assert [dict(r.metadata) for r in references] == [{"n": 1}, {"n": None}]
    assert not faults(read_all(references))


def test_urls_in_a_manifest(folder):
    import fsspec

    data = (folder / "wavs" / "a.wav").read_bytes()
    fsspec.filesystem("memory").pipe("memory://bucket/x/a.wav", data)
    rows = [{"path": "memory://bucket/x/a.wav"}, {"path": "a.wav", "key": "relative"}]
    manifest = "".join(json.dumps(row) + "\n" for row in rows).encode()
    fsspec.filesystem("memory").pipe("memory://bucket/x/list.jsonl", manifest)
    references = listed("memory://bucket/x/list.jsonl")
    assert [r.key for r in references] == ["bucket/x/a.wav", "relative"]
    assert references[1].uri == "memory://bucket/x/a.wav"
    assert not faults(read_all(references))


BAD_ROWS = {
    "no-path": ({"path": None}, "path is None; expected a path or URL"),
    "empty-path": ({"path": "  "}, "expected a path or URL"),
    "number-for-path": ({"path": 3}, "path is 3; expected a path or URL"),
    "no-column": ({"text": "x"}, "path is None"),
    "negative-offset": ({"path": "wavs/a.wav", "offset": -0.5}, "offset is -0.5; .* 0 or more"),
    "text-offset": ({"path": "wavs/a.wav", "offset": "soon"}, "offset is 'soon'; expected seconds"),
    "bool-offset": ({"path": "wavs/a.wav", "offset": True}, "offset is True"),
    "nan-offset": ({"path": "wavs/a.wav", "offset": float("nan")}, "offset is nan"),
    "no-duration": ({"path": "wavs/a.wav", "duration": 0}, "duration is 0; .* more than 0"),
    "negative-duration": ({"path": "wavs/a.wav", "duration": -1.0}, "duration is -1.0"),
    "list-duration": ({"path": "wavs/a.wav", "duration": [1]}, r"duration is \[1\]"),
    "offset-past-the-end": ({"path": "wavs/a.wav", "offset": 2.5}, "past the end of the recording"),
    "end-past-the-end": ({"path": "wavs/a.wav", "offset": 1, "duration": 2}, "past the end"),
    "missing-file": ({"path": "wavs/gone.wav"}, "there is no file .*wavs/gone.wav"),
    "surrogate-path": ({"path": "wavs/\udc80.wav"}, "no UTF-8 text"),
    "nul-path": ({"path": "wavs/a\0.wav"}, "no UTF-8 text"),
    "null": (None, "found NoneType; expected one JSON object"),
    "list": ([1], "found list; expected one JSON object"),
}


@pytest.mark.parametrize("kind", BAD_ROWS)
def test_a_bad_row_fails_alone(folder, kind):
    row, message = BAD_ROWS[kind]
    good = {"path": "wavs/b.flac", "text": "good"}
    references = listed(write_lines(folder / "list.jsonl", [good, row, {**good, "key": "last"}]))
    assert len(references) == 3
    results = read_all(references)
    bad = faults(results)
    assert len(bad) == 1
    assert list(results)[1] in bad
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(next(iter(bad.values())))


def test_bad_lines_fail_alone(folder):
    path = folder / "list.jsonl"
    path.write_bytes(
        b'{"path": "wavs/a.wav"}\n{"path": \n\n' + b"[" * 100_000 + b'\n{"path": "caf\xe9.wav"}\n'
        b'{"path": "wavs/b.flac"}'
    )
    results = read_all(listed(path))
    assert list(results) == [
        "wavs/a.wav",
        "list.jsonl/(line 2)",
        "list.jsonl/(line 4)",
        "list.jsonl/(line 5)",
        "wavs/b.flac",
    ]
    assert list(faults(results)) == list(results)[1:4]


def test_rows_of_another_length_fail_alone(folder):
    path = folder / "list.csv"
    path.write_text(
        "path,text\nwavs/a.wav,one\nwavs/b.flac\nwavs/b.flac,two,three\n\nwavs/b.flac,4\n"
    )
    results = read_all(listed(path))
    assert list(faults(results)) == ["list.csv/(line 3)", "list.csv/(line 4)"]
    assert faults(results)["list.csv/(line 4)"].endswith("3 fields; the header has 2")
    assert len(results) == 4


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b"", "is empty; expected one JSON object a line"),
        ("a.jsonl", b"\n \n", "is empty; expected one JSON object a line"),
        ("a.jsonl", b"path,text\na,b\n", "line 1: no JSON"),
        ("a.json", b'[{"path": "a.wav"}]', "line 1: found list; expected one JSON object a line"),
        (
            "a.jsonl",
            b'{"text": "x", "n": 1}\n',
            "has the columns text, n; expected a column of paths",
        ),
        ("a.csv", b"", "is empty; expected a header"),
        ("a.csv", b"text,n\nx,1\n", "has the columns text, n; expected a column of paths"),
        ("a.tsv", b"\xff\xfe\x00", "no text in UTF-8 or UTF-16"),
        ("a.csv", b'path,text\na.wav,"' + b"x" * 200_000 + b'"\n', "line 2: field larger"),
        ("a.jsonl.gz", b"no gzip", "cannot be read"),
        ("a.csv", b"path,text\n", "holds no sound"),
    ],
)
def test_a_manifest_that_is_none(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(PlanError, match=message):
        listed(tmp_path / name)


def test_one_bad_manifest_of_several_fails_alone(folder):
    write_lines(folder / "1.jsonl", [{"path": "wavs/a.wav"}])
    (folder / "2.jsonl").write_text("nothing")
    write_lines(folder / "3.jsonl", [{"path": "wavs/b.flac"}])
    results = read_all(listed(folder / "*.jsonl"))
    assert list(results) == ["wavs/a.wav", "2.jsonl/(whole)", "wavs/b.flac"]
    assert list(faults(results)) == ["2.jsonl/(whole)"]


def test_memory_holds_one_row_at_a_time(folder):
    write_lines(folder / "list.jsonl", [{"path": "wavs/a.wav", "key": str(i)} for i in range(1000)])
    listing = list_references([str(folder / "list.jsonl")])
    assert next(listing).key == "0"  # and closes the file when it is thrown away
    del listing


def test_columns_named_as_the_corpus_own_are_renamed():
    assert frozenset(BASE_SCHEMA.names) == RESERVED_NAMES
    assert as_metadata({"channel": 1, "": 2, "key": 3}) == {
        "source_channel": 1,
        "column_1": 2,
        "source_key": 3,
    }


def test_lhotse_cuts(folder):
    recording = {
        "id": "rec",
        "sources": [{"type": "file", "channels": [0], "source": "wavs/a.wav"}],
        "sampling_rate": RATE,
        "num_samples": 32_000,
    }
    cut = {"id": "cut-1", "start": 0.5, "duration": 1.0, "channel": 0, "type": "MonoCut"}
    supervision = {"id": "s", "text": "hello", "speaker": "anna", "custom": {"snr": 3.5}}
    rows = [
        {**cut, "recording": recording, "supervisions": [supervision]},
        {**cut, "id": "cut-2", "recording": recording, "supervisions": []},
        {**cut, "id": "cut-3", "recording": {**recording, "sources": []}},
        {**cut, "id": "cut-4", "channel": 1, "recording": recording},
        recording,
    ]
    references = listed(write_lines(folder / "cuts.jsonl", rows))
    results = read_all(references)
    assert list(results) == ["cut-1", "cut-2", "cuts.jsonl/(line 3)", "cuts.jsonl/(line 4)", "rec"]
    assert len(faults(results)) == 2
    assert np.array_equal(results["cut-1"], samples(folder, "a.wav")[:, 8000:24_000])
    assert references[0].metadata == {
        "recording_id": "rec",
        "text": "hello",
        "speaker": "anna",
        "snr": 3.5,
    }


def test_lhotse_supervisions_beside_their_recordings(folder):
    sources = [{"type": "file", "channels": [0], "source": "wavs/a.wav"}]
    data = json.dumps({"id": "rec", "sources": sources}) + "\n"
    (folder / "x_recordings_dev.jsonl.gz").write_bytes(gzip.compress(data.encode()))
    rows = [
        {"id": "s1", "recording_id": "rec", "start": 0.0, "duration": 0.5, "text": "one"},
        {"id": "s2", "recording_id": "other", "start": 0.5, "duration": 0.5, "text": "two"},
    ]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    path = folder / "x_supervisions_dev.jsonl.gz"
    path.write_bytes(gzip.compress(lines.encode()))
    results = read_all(listed(path))
    assert np.array_equal(results["s1"], samples(folder, "a.wav")[:, :8000])
    assert "there is no recording 'other'" in next(iter(faults(results).values()))
    (folder / "x_recordings_dev.jsonl.gz").unlink()
    with pytest.raises(PlanError, match=r"there is no .*x_recordings_dev.jsonl.gz"):
        listed(path)


def test_kaldi(folder):
    (folder / "wav.scp").write_text(
        "rec1 wavs/a.wav\nrec2 wavs/b.flac\nrec3 sox x.wav -t wav - |\n"
    )
    (folder / "segments").write_text(
        "u1 rec1 0.0 0.5\nu2 rec1 0.5 1.3\nu3 rec9 0 1\nu4 rec2 1 0.5\nu5 rec2 a b\nu6 rec2\n"
        "u7 rec3 0 1\nu8 rec2 0.1 0.2\n"
    )
    (folder / "text").write_text("u1 hello there\nu2 größer\n")
    (folder / "utt2spk").write_text("u1 s1\nu2 s2\n")
    (folder / "spk2gender").write_text("s2 f\n")
    references = listed(folder / "segments")
    results = read_all(references)
    assert list(faults(results)) == [f"segments/(line {n})" for n in (3, 4, 5, 6, 7)]
    assert "output of a command, which is not run" in faults(results)["segments/(line 7)"]
    assert np.array_equal(results["u2"], samples(folder, "a.wav")[:, 8000:20_800])
    assert references[1].metadata == {
        "recording_id": "rec1",
        "text": "größer",
        "speaker": "s2",
        "gender": "f",
    }
    scp = read_all(listed(folder / "wav.scp"))
    assert list(scp) == ["rec1", "rec2", "wav.scp/(line 3)"]
    (folder / "wav.scp").unlink()
    with pytest.raises(PlanError, match=r"needs .*wav.scp beside it"):
        listed(folder / "segments")
