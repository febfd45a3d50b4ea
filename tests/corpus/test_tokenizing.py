import errno
import itertools
import os
import subprocess
import sys
import tempfile
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile

import dac_tokenize.corpus
from dac_tokenize import files, publishing, temporaries
from dac_tokenize.corpus import (
    corpus_info,
    finish_corpus,
    iter_rows,
    load_plan,
    published_shard,
    read_manifest,
    tokenize_shard,
)
from dac_tokenize.corpus.footer import load_footer
from dac_tokenize.corpus.planning import open_plan, sweep_temporaries
from dac_tokenize.corpus.reading import corpus_schema_of, read_failed
from dac_tokenize.errors import CorpusError, CorpusMismatchError
from dac_tokenize.references import Reference
from dac_tokenize.waveform import WaveformOptions, open_waveform
from tests.corpus.fakes import IDENTITY, RATE, FakeTokenizer, fake_codes, request, write_sounds


def run(output, references, asked=None, tokenizer=None, order=lambda indices: indices, **options):
    """Plan, encode every shard, finish: the whole of a run."""
    plan = open_plan(str(output), asked or request(), lambda: references)
    tokenizer = tokenizer or FakeTokenizer()
    indices = order(range(plan.num_shards))
    results = [tokenize_shard(plan, index, tokenizer, **options) for index in indices]
    return finish_corpus(plan, str(output), results)


def tree(folder):
    """Every file below a folder, with its bytes."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(Path(folder).rglob("*"))
        if path.is_file()
    }


def bad_sounds(folder):
    """Inputs that cannot be encoded, with the stage and error of each."""
    folder.mkdir()
    samples = np.ones(RATE, np.float32)
    samples[500] = np.nan
    soundfile.write(folder / "nan.wav", samples, RATE, subtype="FLOAT")
    soundfile.write(folder / "none.wav", samples[:0], RATE)
    (folder / "text.wav").write_text("no sound at all")
    (folder / "empty.wav").write_bytes(b"")
    names = ["nan", "none", "text", "empty", "missing"]
    return [Reference(f"bad/{name}", str(folder / f"{name}.wav")) for name in names]


def elsewhere(call):
    """Call a function of tests/corpus/killed.py in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", f"from tests.corpus.killed import *; {call}"],
        check=False,
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
    )


@pytest.fixture
def sounds(tmp_path):
    return write_sounds(tmp_path / "sounds", 17)


def test_layout_and_counts(tmp_path, sounds):
    manifest = run(tmp_path / "out", sounds)
    count = len(manifest.files)
    part = f"part-{manifest.plan_fingerprint[:12]}-00000.parquet"
    assert count > 3
    assert list(tree(tmp_path / "out")) == sorted(
        [
            "README.md",
            "_failed.parquet",
            "_manifest.json",
            f"_plan/{part}",
            "_plan/plan.json",
            *(f"data/train-{index:05d}-of-{count:05d}.parquet" for index in range(count)),
        ]
    )
    seconds = sum(soundfile.info(reference.uri).duration for reference in sounds)
    assert manifest.seconds == pytest.approx(seconds, rel=1e-12)
    assert (manifest.clips, manifest.written, manifest.failed, manifest.rows) == (17, 17, 0, 17)
    assert manifest.num_tokens == 3 * manifest.num_frames
    assert manifest == read_manifest(str(tmp_path / "out"))
    assert pq.read_table(tmp_path / "out/_failed.parquet").num_rows == 0


def test_rows_are_the_clips_in_order(tmp_path, sounds):
    run(tmp_path / "out", sounds)
    rows = list(iter_rows(str(tmp_path / "out")))
    assert [row["key"] for row in rows] == [reference.key for reference in sounds]
    for row, reference in zip(rows, sounds, strict=True):
        samples = soundfile.read(reference.uri, dtype="float32")[0]
        np.testing.assert_array_equal(row.pop("audio_codes"), fake_codes(samples))
        assert row == {
            "key": reference.key,
            "num_frames": -(-samples.size // 80),
            "num_samples": samples.size,
            "duration_seconds": samples.size / RATE,
            "source_uri": reference.uri,
            "channel": None,
            "offset_seconds": 0.0,
            "source_loudness": None,
            "text": reference.metadata["text"],
            "speaker": reference.metadata["speaker"],
        }


def test_split_channels_are_rows(tmp_path):
    stereo = write_sounds(tmp_path / "sounds", 3, channels=2)
    asked = request(waveform=WaveformOptions(channels="split"))
    manifest = run(tmp_path / "out", stereo, asked)
    rows = list(iter_rows(str(tmp_path / "out"), columns=["key", "channel", "audio_codes"]))
    expected = [f"clip00{clip}#{channel}" for clip in range(3) for channel in range(2)]
    assert [row["key"] for row in rows] == expected
    assert [row["channel"] for row in rows] == [0, 1] * 3
    samples = soundfile.read(stereo[1].uri, dtype="float32")[0]
    np.testing.assert_array_equal(rows[3]["audio_codes"], fake_codes(samples[:, 1]))
    assert (manifest.clips, manifest.written, manifest.rows) == (3, 3, 6)
    seconds = sum(soundfile.info(reference.uri).duration for reference in stereo)
    assert manifest.seconds == pytest.approx(seconds, rel=1e-12)


def test_first_channel(tmp_path):
    stereo = write_sounds(tmp_path / "sounds", 2, channels=2)
    run(tmp_path / "out", stereo, request(waveform=WaveformOptions(channels="first")))
    assert [(r["key"], r["channel"]) for r in iter_rows(str(tmp_path / "out"))] == [
        ("clip000", 0),
        ("clip001", 0),
    ]


def test_bad_inputs_are_listed_and_the_others_written(tmp_path, sounds):
    bad = bad_sounds(tmp_path / "bad")
    mixed = [*sounds[:3], *bad[:2], *sounds[3:], *bad[2:]]
    manifest = run(tmp_path / "out", mixed)
    assert (manifest.clips, manifest.written, manifest.failed) == (22, 17, 5)
    assert [r["key"] for r in iter_rows(str(tmp_path / "out"))] == [s.key for s in sounds]
    failed = read_failed(str(tmp_path / "out"))
    assert [(f.key, f.uri) for f in failed] == [(b.key, b.uri) for b in bad]
    assert {f.stage for f in failed} <= {"read", "decode", "waveform"}
    assert all(f.message and f.error.endswith("Error") for f in failed)
    assert failed[4].stage == "read"
    assert pq.read_table(tmp_path / "out/_failed.parquet").column_names == [
        "key",
        "uri",
        "stage",
        "error",
        "message",
    ]


def test_nothing_but_bad_inputs(tmp_path):
    manifest = run(tmp_path / "out", bad_sounds(tmp_path / "bad"))
    assert (manifest.written, manifest.failed, manifest.rows) == (0, 5, 0)
    assert list(iter_rows(str(tmp_path / "out"))) == []
    assert corpus_info(str(tmp_path / "out")).bits_per_token == 0.0


def test_second_run_encodes_nothing_and_changes_nothing(tmp_path, sounds):
    mixed = [*sounds, *bad_sounds(tmp_path / "bad")]
    first = run(tmp_path / "out", mixed)
    before = tree(tmp_path / "out")
    tokenizer = FakeTokenizer()
    assert run(tmp_path / "out", mixed, tokenizer=tokenizer) == first
    assert tokenizer.encoded == 0
    assert tree(tmp_path / "out") == before


def test_order_of_shards_and_threads_do_not_matter(tmp_path, sounds):
    mixed = [*sounds, *bad_sounds(tmp_path / "bad")]
    run(tmp_path / "a", mixed, num_threads=1)
    run(tmp_path / "b", mixed, num_threads=5, order=reversed)
    assert tree(tmp_path / "a") == tree(tmp_path / "b")


@pytest.mark.parametrize("done", range(4))
def test_interrupted_run_ends_like_an_uninterrupted_one(tmp_path, sounds, done):
    run(tmp_path / "whole", sounds)
    plan = open_plan(str(tmp_path / "out"), request(), lambda: sounds)
    for index in range(done):
        tokenize_shard(plan, index, FakeTokenizer())
    killed = elsewhere(f"half_a_shard({plan.output!r})")
    assert killed.returncode == -9
    assert any(".tmp-" in name for name in tree(tmp_path / "out"))
    run(tmp_path / "out", sounds)
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


def test_sweep_leaves_the_files_of_living_runs(tmp_path):
    living = temporaries.temporary_path(str(tmp_path / "data" / "a.parquet"))
    living.write_text("")
    other = living.parent / ".a.parquet.tmp-00000000-1-00000000"
    other.write_text("")
    assert sweep_temporaries(str(tmp_path)) == []
    old = os.stat(other).st_mtime - 2 * temporaries.STALE_SECONDS
    os.utime(other, (old, old))
    assert sweep_temporaries(str(tmp_path)) == [str(other)]
    assert living.exists()
    assert not other.exists()


def test_sweep_takes_the_files_of_processes_that_nobody_has_asked_for(tmp_path):
    """Their numbers are still taken: a pool of workers does not wait for those that die."""
    ended = subprocess.Popen(["true"], stdout=subprocess.PIPE)
    os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
    own = temporaries.temporary_path(str(tmp_path / "a.parquet"))
    other = own.with_name(own.name.replace(f"-{os.getpid()}-", f"-{ended.pid}-"))
    other.write_text("")
    assert sweep_temporaries(str(tmp_path)) == [str(other)]
    ended.communicate()


def test_two_runs_at_once(tmp_path, sounds):
    run(tmp_path / "whole", sounds)
    errors = []

    def go(order):
        try:
            run(tmp_path / "out", sounds, order=order)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=go, args=(order,)) for order in (list, reversed, list)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


@pytest.mark.parametrize("spoiled", ["cut", "other plan", "gone"])
def test_unusable_shard_is_made_again(tmp_path, sounds, spoiled):
    run(tmp_path / "out", sounds)
    before = tree(tmp_path / "out")
    path = tmp_path / "out" / read_manifest(str(tmp_path / "out")).files[1].path
    if spoiled == "cut":
        path.write_bytes(path.read_bytes()[:-1])
    elif spoiled == "gone":
        path.unlink()
    else:
        codec = replace(IDENTITY, precision="bfloat16")
        run(tmp_path / "other", sounds, request(codec=codec), FakeTokenizer(codec))
        path.write_bytes((tmp_path / "other" / path.relative_to(tmp_path / "out")).read_bytes())
    tokenizer = FakeTokenizer()
    run(tmp_path / "out", sounds, tokenizer=tokenizer)
    assert 0 < tokenizer.encoded < len(sounds)
    assert tree(tmp_path / "out") == before


def test_memory_store_holds_the_same_corpus(tmp_path, sounds):
    mixed = [*sounds, *bad_sounds(tmp_path / "bad")]
    there = f"memory://corpus-{os.getpid()}/out"
    first, second = run(tmp_path / "out", mixed), run(there, mixed)
    assert first == second
    assert run(there, mixed) == first
    for name, data in tree(tmp_path / "out").items():
        assert files.read_bytes(files.join(there, name)) == data
    assert len(list(iter_rows(there))) == 17
    assert corpus_info(there) == corpus_info(str(tmp_path / "out"))


def test_results_and_progress(tmp_path, sounds):
    plan = open_plan(str(tmp_path / "out"), request(), lambda: sounds)
    seen = []
    assert published_shard(plan, 0) is None
    result = tokenize_shard(plan, 0, FakeTokenizer(), on_progress=seen.append)
    assert sum(report.clips for report in seen) == result.clips == result.rows
    assert sum(report.seconds for report in seen) == pytest.approx(result.seconds)
    assert result.checksum == files.checksum(plan.shard_url(0))
    assert result.size_bytes == files.size_bytes(plan.shard_url(0))
    assert min(result.read_seconds, result.encode_seconds, result.write_seconds) > 0
    seen.clear()
    again = tokenize_shard(plan, 0, FakeTokenizer(), on_progress=seen.append)
    assert [(r.clips, r.skipped) for r in seen] == [(result.clips, True)]
    times = {"read_seconds": 0.0, "encode_seconds": 0.0, "write_seconds": 0.0}
    assert again == replace(result, skipped=True, **times) == published_shard(plan, 0)


def test_footer_says_where_the_shard_comes_from(tmp_path, sounds):
    run(tmp_path / "out", sounds)
    plan = open_plan(str(tmp_path / "out"), request(), list)
    footer = load_footer(plan.shard_url(2))
    assert (footer.index, footer.num_shards) == (2, plan.num_shards)
    assert footer.plan_fingerprint == plan.fingerprint
    assert footer.codec["weights_checksum"] == IDENTITY.weights_checksum
    assert footer.waveform["channels"] == "mix"
    assert set(footer.versions) == {"dac-tokenize", "torch", "transformers"}


def test_another_codec_is_refused(tmp_path, sounds):
    plan = open_plan(str(tmp_path / "out"), request(), lambda: sounds)
    other = FakeTokenizer(replace(IDENTITY, num_codebooks=2))
    with pytest.raises(CorpusMismatchError, match="num_codebooks"):
        tokenize_shard(plan, 0, other)


def test_full_disk_stops_the_run_in_one_sentence(tmp_path, sounds, monkeypatch):
    plan = open_plan(str(tmp_path / "out"), request(), lambda: sounds)
    tokenize_shard(plan, 0, FakeTokenizer())
    before = tree(tmp_path / "out")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(publishing, "publish_file", full)
    with pytest.raises(CorpusError, match=r"train-00001-of-.* No space left .* stays readable"):
        tokenize_shard(plan, 1, FakeTokenizer())
    assert tree(tmp_path / "out") == before
    with pytest.raises(CorpusError, match=r"cannot be finished: .*No space left"):
        finish_corpus(
            plan,
            plan.output,
            [replace(published_shard(plan, 0), index=index) for index in range(plan.num_shards)],
        )
    assert tree(tmp_path / "out") == before


def test_store_that_refuses_a_file(tmp_path, sounds, monkeypatch):
    from fsspec.implementations.memory import MemoryFileSystem

    there = f"memory://refusing-{os.getpid()}/out"
    plan = open_plan(there, request(), lambda: sounds)
    with monkeypatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(tmp_path))

        def refuse(*_, **__):
            raise PermissionError("403: no such luck")

        patch.setattr(MemoryFileSystem, "put_file", refuse)
        with pytest.raises(CorpusError, match=r"train-00000-of-.* cannot be written: 403"):
            tokenize_shard(plan, 0, FakeTokenizer())
    assert files.list_names(files.join(there, "data")) == []
    assert os.listdir(tmp_path) == ["sounds"]
    assert not tokenize_shard(plan, 0, FakeTokenizer()).skipped
    assert tokenize_shard(plan, 0, FakeTokenizer()).skipped


@pytest.mark.parametrize("when", ["rows", "footer"])
def test_file_that_the_disk_cannot_hold(tmp_path, when):
    count = 3 if when == "rows" else 2
    samples = np.random.default_rng(5).uniform(-0.5, 0.5, RATE * 300).astype(np.float32)
    for index in range(count):
        soundfile.write(tmp_path / f"{index}.wav", samples, RATE, subtype="FLOAT")
    references = [Reference(str(i), str(tmp_path / f"{i}.wav")) for i in range(count)]
    asked = request(shard_seconds=1e9)
    whole = run(tmp_path / "whole", references, asked)
    plan = open_plan(str(tmp_path / "out"), asked, lambda: references)
    before = tree(tmp_path / "out")
    limit = whole.size_bytes // 2 if when == "rows" else whole.size_bytes - 1000
    stopped = elsewhere(f"shards_on_a_small_disk({plan.output!r}, {limit})")
    assert stopped.returncode == 1, stopped.stderr
    assert stopped.stderr == ""
    assert stopped.stdout.count("\n") == 1
    assert "data/train-00000-of-00001.parquet of " in stopped.stdout
    assert "File too large" in stopped.stdout
    assert tree(tmp_path / "out") == before
    run(tmp_path / "out", references, asked)
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


def test_memory_running_out_stops_the_run(tmp_path, sounds):
    class Greedy(FakeTokenizer):
        def encode_stream(self, clips):
            yield from itertools.islice(super().encode_stream(clips), 1)
            raise MemoryError

    plan = open_plan(str(tmp_path / "out"), request(), lambda: sounds)
    threads = threading.active_count()
    with pytest.raises(CorpusError, match=r"memory ran out at data/train-00000.*stays readable"):
        tokenize_shard(plan, 0, Greedy())
    assert threading.active_count() == threads
    assert not any(name.startswith("data/") for name in tree(tmp_path / "out"))


def test_error_in_a_later_channel_drops_the_clip(tmp_path):
    class Breaks(FakeTokenizer):
        def encode_stream(self, clips):
            from dac_tokenize.errors import WaveformError

            for item in super().encode_stream(clips):
                bad = item.index == 1 and item.channel == 1
                yield replace(item, error=WaveformError("bad")) if bad else item

    stereo = write_sounds(tmp_path / "sounds", 3, channels=2)
    asked = request(waveform=WaveformOptions(channels="split"), shard_seconds=100.0)
    manifest = run(tmp_path / "out", stereo, asked, Breaks())
    assert (manifest.written, manifest.failed, manifest.rows) == (2, 1, 4)


def test_unfinished_corpus(tmp_path, sounds):
    plan = open_plan(str(tmp_path / "out"), request(), lambda: sounds)
    results = [tokenize_shard(plan, index, FakeTokenizer()) for index in range(2)]
    with pytest.raises(CorpusError, match=r"shards have no result \(the first is .*train-00002-of"):
        finish_corpus(plan, plan.output, results)
    info = corpus_info(plan.output)
    assert (info.shards_done, info.num_shards, info.finished) == (2, plan.num_shards, False)
    assert info.clips == sum(result.clips for result in results)
    assert [row["key"] for row in iter_rows(plan.output, columns=["key"])] == [
        reference.key for reference in sounds[: info.clips]
    ]
    with pytest.raises(CorpusError, match="not finished"):
        read_failed(plan.output)


def test_info_of_a_finished_corpus(tmp_path, sounds):
    manifest = run(tmp_path / "out", [*sounds, *bad_sounds(tmp_path / "bad")])
    info = corpus_info(str(tmp_path / "out"))
    assert info.finished
    assert info.codec == IDENTITY
    assert (info.clips, info.failed, info.rows) == (22, 5, 17)
    assert info.hours == manifest.hours == pytest.approx(manifest.seconds / 3600)
    assert info.bits_per_token == 8 * manifest.codes_bytes / manifest.num_tokens


@pytest.mark.parametrize("use", [corpus_info, corpus_schema_of, lambda out: list(iter_rows(out))])
def test_no_corpus(tmp_path, use):
    with pytest.raises(CorpusError, match="holds no corpus"):
        use(str(tmp_path))


def test_rows_by_key_and_column(tmp_path, sounds):
    run(tmp_path / "out", sounds)
    keys = {"clip003", "clip011", "no such key"}
    rows = list(iter_rows(str(tmp_path / "out"), columns=["speaker", "audio_codes"], keys=keys))
    assert [row["speaker"] for row in rows] == [0, 2]
    assert [list(row) for row in rows] == [["speaker", "audio_codes"]] * 2
    with pytest.raises(CorpusError, match="no column 'codes'; its columns are key, audio_codes"):
        next(iter_rows(str(tmp_path / "out"), columns=["codes"]))


def test_damaged_shard_is_named_when_read(tmp_path, sounds):
    run(tmp_path / "out", sounds)
    path = tmp_path / "out" / read_manifest(str(tmp_path / "out")).files[0].path
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(CorpusError, match=r"train-00000-of-.* cannot be read"):
        list(iter_rows(str(tmp_path / "out")))


@pytest.mark.parametrize("text", ["{", "[]", '{"schema_version": 1}', '{"schema_version": 9}'])
def test_damaged_manifest(tmp_path, sounds, text):
    run(tmp_path / "out", sounds)
    (tmp_path / "out/_manifest.json").write_text(text)
    with pytest.raises(CorpusError, match=r"_manifest.json (is damaged|has schema version 9)"):
        read_manifest(str(tmp_path / "out"))


def test_metadata_types_are_kept(tmp_path, sounds):
    odd = [
        replace(reference, metadata={"tags": ["a", str(index)], "score": 0.5, "raw": b"\x00"})
        for index, reference in enumerate(sounds[:4])
    ]
    odd[2] = replace(odd[2], metadata={})
    run(tmp_path / "out", odd)
    rows = list(iter_rows(str(tmp_path / "out"), columns=["tags", "score", "raw"]))
    assert rows[1] == {"tags": ["a", "1"], "score": 0.5, "raw": b"\x00"}
    assert rows[2] == {"tags": None, "score": None, "raw": None}
    schema = corpus_schema_of(str(tmp_path / "out"))
    assert schema.field("score").type == pa.float64()


def test_segments_of_one_file(tmp_path):
    samples = np.random.default_rng(3).uniform(-0.5, 0.5, 4 * RATE).astype(np.float32)
    soundfile.write(tmp_path / "long.wav", samples, RATE, subtype="FLOAT")
    uri = str(tmp_path / "long.wav")
    segments = [
        Reference(f"long/{start}", uri, offset_seconds=float(start), duration_seconds=1.0)
        for start in range(4)
    ]
    run(tmp_path / "out", segments)
    rows = list(iter_rows(str(tmp_path / "out")))
    assert [row["offset_seconds"] for row in rows] == [0.0, 1.0, 2.0, 3.0]
    for start, row in enumerate(rows):
        part = samples[start * RATE : (start + 1) * RATE]
        np.testing.assert_array_equal(row["audio_codes"], fake_codes(part))
        waveform = open_waveform(segments[start], RATE, WaveformOptions())
        assert sum(block.shape[1] for block in waveform.blocks) == row["num_samples"]


def test_the_real_codec(tmp_path):
    from dac_tokenize.tokenizer import DacTokenizer
    from tests.codec.models import reference_encode, tiny_model

    tokenizer = DacTokenizer.from_pretrained(tiny_model(), device="cpu")
    sounds = write_sounds(tmp_path / "sounds", 6)
    mixed = [*sounds[:2], *bad_sounds(tmp_path / "bad"), *sounds[2:]]
    asked = request(codec=tokenizer.identity)
    manifest = run(tmp_path / "out", mixed, asked, tokenizer)
    assert (manifest.written, manifest.failed) == (6, 5)
    for row, sound in zip(iter_rows(str(tmp_path / "out")), sounds, strict=True):
        waveform = open_waveform(sound, tokenizer.sampling_rate, asked.waveform)
        samples = np.concatenate(list(waveform.blocks), axis=1)[0]
        expected = reference_encode(tiny_model(), samples)
        np.testing.assert_array_equal(row["audio_codes"], expected)
    run(tmp_path / "again", mixed, asked, tokenizer, order=reversed)
    assert tree(tmp_path / "out") == tree(tmp_path / "again")


@pytest.mark.parametrize("channels", ["mix", "split"])
def test_loudness_is_recorded_for_every_row(tmp_path, channels):
    references = write_sounds(tmp_path / "sounds", 2, channels=2)
    options = WaveformOptions(channels=channels, loudness=-23.0)
    run(tmp_path / "out", references, request(waveform=options))
    found = [row["source_loudness"] for row in iter_rows(str(tmp_path / "out"))]
    expected = []
    for reference in references:
        waveform = open_waveform(reference, RATE, options)
        list(waveform.blocks)
        expected += waveform.source_loudness
    assert found == expected
    assert len(set(found)) == (2 if channels == "mix" else 4)


def test_import_is_light():
    code = (
        "import sys, dac_tokenize.corpus, dac_tokenize.corpus.planning\n"
        "heavy = {'torch', 'transformers', 'apache_beam', 'datasets', 'pandas'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parent.parent)


def test_names_are_there():
    assert sorted(dac_tokenize.corpus.__all__) == dac_tokenize.corpus.__all__
    assert all(hasattr(dac_tokenize.corpus, name) for name in dac_tokenize.corpus.__all__)


def test_a_shard_that_is_there_is_opened_once(tmp_path, monkeypatch):
    """In a store far away that is what a run with most of it done waits for."""
    run(tmp_path / "out", write_sounds(tmp_path / "sounds", 3))
    opened = []
    open_file = files.open_file
    monkeypatch.setattr(files, "open_file", lambda url: opened.append(url) or open_file(url))
    plan = load_plan(str(tmp_path / "out"))
    assert published_shard(plan, 0) is not None
    assert opened.count(plan.shard_url(0)) == 1
