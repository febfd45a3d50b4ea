import json
import os
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dac_tokenize import files, temporaries
from dac_tokenize.corpus import finish_corpus, iter_rows, tokenize_shard
from dac_tokenize.corpus.planning import open_plan
from dac_tokenize.corpus.repairing import repair_corpus
from dac_tokenize.corpus.rows import check_rows
from dac_tokenize.corpus.verifying import verify_corpus
from dac_tokenize.errors import CorpusError
from dac_tokenize.waveform import WaveformOptions
from tests.corpus.fakes import IDENTITY, FakeTokenizer, request, write_sounds
from tests.corpus.test_tokenizing import bad_sounds, run, tree


@pytest.fixture
def sounds(tmp_path):
    return [*write_sounds(tmp_path / "sounds", 17), *bad_sounds(tmp_path / "bad")]


@pytest.fixture
def out(tmp_path, sounds):
    run(tmp_path / "out", sounds)
    return tmp_path / "out"


def shard(out, index):
    return sorted((out / "data").glob("*.parquet"))[index]


def kinds(out):
    return [(finding.path, finding.kind) for finding in verify_corpus(str(out)).findings]


def repair(out, tokenizer=None):
    return repair_corpus(str(out), verify_corpus(str(out)), lambda: tokenizer or FakeTokenizer())


def unfinished(out):
    """Take the manifest away, so that nothing but the shards themselves can tell."""
    (out / "_manifest.json").unlink()


def rewrite(path, change=lambda table: table, **entries):
    """Write a shard again with other rows or other entries in its footer."""
    table = pq.read_table(path)
    metadata = {k: v for k, v in pq.read_metadata(path).metadata.items() if k != b"ARROW:schema"}
    changed = change(table)
    metadata |= {f"dac_tokenize.{k}".encode(): json.dumps(v).encode() for k, v in entries.items()}
    pq.write_table(changed.replace_schema_metadata(metadata), path, write_page_checksum=True)


def test_a_whole_corpus(out):
    seen = []
    verification = verify_corpus(str(out), on_shard=seen.append)
    assert verification.findings == ()
    assert verification.finished
    assert verification.rows == 17
    assert seen == list(range(verification.num_shards))
    assert verification.size_bytes == sum(path.stat().st_size for path in (out / "data").iterdir())


@pytest.mark.parametrize("channels", ["first", "split"])
def test_a_whole_corpus_of_stereo(tmp_path, channels):
    stereo = write_sounds(tmp_path / "sounds", 5, channels=2)
    run(tmp_path / "out", stereo, request(waveform=WaveformOptions(channels=channels)))
    assert kinds(tmp_path / "out") == []


def test_any_bit_flipped_is_found(out):
    """Flip bits all over a shard, one at a time: pages, column chunks' headers, footer, magic."""
    path = shard(out, 1)
    data = path.read_bytes()
    places = {*range(0, len(data), max(len(data) // 150, 1)), 0, 3, len(data) - 9, len(data) - 1}
    generator = np.random.default_rng(5)
    for place in sorted(places):
        spoiled = bytearray(data)
        spoiled[place] ^= 1 << int(generator.integers(8))
        path.write_bytes(spoiled)
        assert kinds(out) == [(f"data/{path.name}", "checksum")], place
    path.write_bytes(data)
    assert kinds(out) == []


def test_bits_flipped_in_codes_are_found_without_a_manifest(out):
    """An unfinished corpus has no checksums of files, but its pages have theirs."""
    unfinished(out)
    path = shard(out, 1)
    data = path.read_bytes()
    column = pq.read_metadata(path).row_group(0).column(1)
    assert column.path_in_schema.startswith("audio_codes")
    end = column.dictionary_page_offset + column.total_compressed_size
    middle = (column.data_page_offset + end) // 2
    for place in range(middle, end, max((end - middle) // 20, 1)):
        spoiled = bytearray(data)
        spoiled[place] ^= 16
        path.write_bytes(spoiled)
        assert (f"data/{path.name}", "damaged") in kinds(out)


@pytest.mark.parametrize("keep", [0, 3, 100, -1])
@pytest.mark.parametrize("finished", [True, False])
def test_truncated_and_repaired(out, keep, finished):
    before = tree(out)
    path = shard(out, 2)
    path.write_bytes(path.read_bytes()[:keep])
    if not finished:
        unfinished(out)
    kind = "checksum" if finished else "footer"
    found = [entry for entry in kinds(out) if entry[0] != "_manifest.json"]
    assert found == [(f"data/{path.name}", kind if finished else "damaged")]
    assert repair(out).findings == ()
    assert tree(out) == before


def test_several_faults_at_once_and_only_those_are_made_again(out):
    before = tree(out)
    times = {path: path.stat().st_mtime_ns for path in (out / "data").iterdir()}
    bad = [shard(out, 0), shard(out, 3)]
    bad[0].unlink()
    bad[1].write_bytes(bad[1].read_bytes()[:-10])
    (out / "_failed.parquet").unlink()
    left = out / "data" / ".x.parquet.tmp-00000000-1-00000000"
    left.write_bytes(b"")
    os.utime(left, (0, 0))
    assert kinds(out) == [
        (f"data/{bad[0].name}", "missing"),
        (f"data/{bad[1].name}", "checksum"),
        (f"data/{left.name}", "stray"),
    ]
    tokenizer = FakeTokenizer()
    assert repair(out, tokenizer).findings == ()
    assert tree(out) == before
    assert 0 < tokenizer.encoded < 17
    for path, time in times.items():
        assert (path.stat().st_mtime_ns == time) == (path not in bad)


def test_strays(out):
    (out / "data" / "train-00000-of-00099.parquet").write_bytes(b"")
    (out / "extra.parquet").write_bytes(b"")
    (out / "_plan" / "part-00009.parquet").write_bytes(b"")
    (out / "notes.txt").write_text("mine")
    living = temporaries.temporary_path(str(out / "data" / "a.parquet"))
    living.write_text("")
    assert sorted(kinds(out)) == [
        ("_plan/part-00009.parquet", "stray"),
        ("data/train-00000-of-00099.parquet", "stray"),
        ("extra.parquet", "stray"),
    ]
    assert (out / "extra.parquet").exists()


def test_a_shard_in_another_ones_place(out):
    unfinished(out)
    shard(out, 1).write_bytes(shard(out, 0).read_bytes())
    found = verify_corpus(str(out)).findings
    messages = " ".join(f.message for f in found if f.index == 1)
    assert {"footer", "keys"} <= {f.kind for f in found if f.index == 1}
    assert "misses" in messages
    assert "against the plan" in messages
    assert "keys that other rows of the corpus have" in messages


@pytest.mark.parametrize(
    ("change", "kind", "says"),
    [
        (lambda t: t.slice(0, t.num_rows - 1), "footer", "where its footer says"),
        (lambda t: pa.concat_tables([t.slice(1), t.slice(0, 1)]), "keys", "in their order"),
        (
            lambda t: pa.concat_tables([t.slice(0, 1), t.slice(0, 1), t.slice(2)]),
            "keys",
            "1 keys occur twice",
        ),
        (
            lambda t: t.set_column(3, "num_samples", pa.array([80] * t.num_rows)),
            "frames",
            "samples of 80 a frame",
        ),
        (
            lambda t: t.set_column(4, "duration_seconds", pa.array([1.5] * t.num_rows)),
            "frames",
            "lasts 1.5 s",
        ),
        (lambda t: t.drop_columns(["text"]), "footer", "its columns are"),
    ],
)
def test_rows_changed_by_another_program(out, change, kind, says):
    unfinished(out)
    rewrite(shard(out, 1), change)
    found = verify_corpus(str(out)).findings
    assert any(f.kind == kind and says in f.message and f.index == 1 for f in found), found


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        ({"index": 0}, "footer has index 0, and the plan 1"),
        ({"shard_fingerprint": "0"}, "footer has shard_fingerprint 0"),
        ({"failures": [{}]}, "damaged footer"),
        ({"schema_version": 99}, "schema version 99"),
    ],
)
def test_footers_changed_by_another_program(out, entries, says):
    unfinished(out)
    rewrite(shard(out, 1), **entries)
    found = verify_corpus(str(out)).findings
    assert any(f.kind == "footer" and says in f.message and f.index == 1 for f in found), found


def rows(codes, **columns):
    """A table of clips with these codes."""
    values = {
        "key": [f"clip{index}" for index in range(len(codes))],
        "num_frames": [len(clip[0]) for clip in codes],
        "num_samples": [80 * len(clip[0]) for clip in codes],
    } | columns
    values["duration_seconds"] = [samples / 8000 for samples in values["num_samples"]]
    nested = pa.array(codes, pa.list_(pa.list_(pa.uint16())))
    return pa.table(values | {"audio_codes": nested})


@pytest.mark.parametrize(
    ("table", "found"),
    [
        (rows([[[1, 2]] * 3, [[1023]] * 3]), []),
        (rows([[[1, 1024]] * 3]), [("codes", "the code 1024, and the codebooks have 1024")]),
        (rows([[[1]] * 3, [[1]] * 2]), [("codes", "'clip1' has 2 codebooks, and the codec 3")]),
        (rows([[[1], [1, 2], [1]]]), [("codes", "codes of 2 frames, and its num_frames is 1")]),
        (rows([[[1], [None], [1]]]), [("codes", "some codes are null")]),
        (rows([[[1]] * 3], num_frames=[2]), [("codes", "num_frames is 2"), ("frames", "2 frames")]),
        (rows([[[1]] * 3], num_samples=[81]), [("frames", "1 frames for 81 samples")]),
        (rows([[[1]] * 3], key=[None]), [("codes", "key hold nulls")]),
        (rows([[[1]] * 3]).drop_columns(["key"]), [("codes", "no columns key")]),
        (rows([[[1]] * 3] * 2, key=["a", "a"]), [("keys", "1 keys occur twice")]),
        (rows([]), []),
    ],
)
def test_check_rows(table, found):
    problems = list(check_rows(table, IDENTITY))
    assert [problem.kind for problem in problems] == [kind for kind, _ in found], problems
    for problem, (_, says) in zip(problems, found, strict=True):
        assert says in problem.message


def test_many_rows_with_one_fault_are_one_finding(out):
    unfinished(out)
    rewrite(
        shard(out, 1),
        lambda t: t.set_column(4, "duration_seconds", pa.array([1.5] * t.num_rows)),
    )
    num_rows = pq.read_metadata(shard(out, 1)).num_rows
    assert num_rows > 2
    (found,) = [f for f in verify_corpus(str(out)).findings if f.index == 1]
    assert found.kind == "frames"
    assert found.message.endswith(f", and {num_rows - 1} more like it")


def test_rows_of_another_source_than_planned(out):
    unfinished(out)
    rewrite(
        shard(out, 1),
        lambda t: t.set_column(
            t.column_names.index("source_uri"),
            "source_uri",
            pa.array(["elsewhere.wav", *t.column("source_uri").to_pylist()[1:]]),
        ),
    )
    (found,) = [f for f in verify_corpus(str(out)).findings if f.index == 1]
    assert found.kind == "keys"
    assert "is of elsewhere.wav at 0 s, and in the plan of" in found.message


@pytest.mark.parametrize("spoil", ["cut", "sum", "entry", "other plan"])
def test_manifest_that_does_not_fit(out, spoil):
    before = tree(out)
    path = out / "_manifest.json"
    values = json.loads(path.read_bytes())
    if spoil == "sum":
        values["num_frames"] += 1
    elif spoil == "entry":
        values["files"][1]["rows"] += 1
    elif spoil == "other plan":
        values["plan_fingerprint"] = "0" * 64
    path.write_text("{" if spoil == "cut" else json.dumps(values))
    found = verify_corpus(str(out)).findings
    assert {"manifest", "counts"} & {finding.kind for finding in found}
    assert repair(out).findings == ()
    assert tree(out) == before


def test_failed_inputs_that_do_not_fit(out):
    before = tree(out)
    path = out / "_failed.parquet"
    pq.write_table(pq.read_table(path).slice(1), path)
    assert kinds(out) == [("_failed.parquet", "failed inputs")]
    assert repair(out).findings == ()
    assert tree(out) == before


def test_input_that_has_changed_is_told_when_repaired(out, sounds):
    with open(sounds[0].uri, "ab") as file:
        file.write(b"more")
    shard(out, 0).unlink()
    after = repair(out)
    assert [(f.kind, f.index) for f in after.findings] == [("changed", None)]
    assert "1 failed inputs where 0 were" in after.findings[0].message
    assert kinds(out) == []


def test_another_codec_does_not_repair(out):
    shard(out, 0).unlink()
    before = tree(out)
    with pytest.raises(CorpusError, match="num_codebooks"):
        repair(out, FakeTokenizer(replace(IDENTITY, num_codebooks=2)))
    assert tree(out) == before


def test_unfinished_corpus_is_finished_by_repair(tmp_path, sounds):
    run(tmp_path / "whole", sounds)
    plan = open_plan(str(tmp_path / "out"), request(), lambda: sounds)
    tokenize_shard(plan, 0, FakeTokenizer())
    verification = verify_corpus(plan.output)
    assert not verification.finished
    assert verification.bad_shards() == list(range(1, plan.num_shards))
    assert repair(tmp_path / "out").findings == ()
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


def test_no_corpus(tmp_path):
    with pytest.raises(CorpusError, match="holds no corpus"):
        verify_corpus(str(tmp_path))


def test_damaged_plan(out):
    (path,) = (out / "_plan").glob("part-*-00000.parquet")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CorpusError, match=r"the plan of .* is damaged"):
        verify_corpus(str(out))


def test_a_store_that_is_not_local(tmp_path, sounds):
    there = f"memory://verify-{tmp_path.name}/out"
    plan = open_plan(there, request(), lambda: sounds)
    results = [tokenize_shard(plan, i, FakeTokenizer()) for i in range(plan.num_shards)]
    finish_corpus(plan, there, results)
    assert verify_corpus(there).findings == ()
    files.remove(plan.shard_url(1))
    assert [f.kind for f in verify_corpus(there).findings] == ["missing"]
    assert repair(there).findings == ()


def test_a_lost_shard_is_told_when_rows_are_read(out):
    shard(out, 1).unlink()
    with pytest.raises(CorpusError, match=r"train-00001-of-.* cannot be read"):
        list(iter_rows(str(out)))
