import datetime
import json
import os
from dataclasses import asdict, replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dac_tokenize import files, publishing
from dac_tokenize.corpus import keys, parts
from dac_tokenize.corpus.parts import plan_url
from dac_tokenize.corpus.plan import iter_parts, iter_shards, load_plan, load_shard, planned_shard
from dac_tokenize.corpus.planning import make_plan, open_plan
from dac_tokenize.errors import CorpusError, CorpusMismatchError, PlanError
from dac_tokenize.references import Reference
from dac_tokenize.waveform import WaveformOptions
from tests.corpus.fakes import IDENTITY, request, write_sounds


def clips(count, **changes):
    return [
        Reference(f"k{index}", f"/{index}.wav", **{"duration_seconds": 1.0} | changes)
        for index in range(count)
    ]


def only_part(output):
    (path,) = (output / "_plan").glob("part-*.parquet")
    return path


def contents(folder):
    return {name: (folder / name).read_bytes() for name in sorted(os.listdir(folder))}


def test_plan_comes_back(tmp_path):
    made = make_plan(str(tmp_path), request(), clips(10))
    assert load_plan(str(tmp_path)) == made
    assert (made.num_shards, made.num_clips, made.estimated_seconds) == (4, 10, 10.0)
    assert [load_shard(made, index) for index in range(4)] == [
        clips(10)[first : first + 3] for first in (0, 3, 6, 9)
    ]
    assert [shard.num_clips for shard in iter_shards(made)] == [3, 3, 3, 1]
    part = f"part-{made.fingerprint[:12]}-00000.parquet"
    assert sorted(os.listdir(tmp_path / "_plan")) == [part, "plan.json"]
    assert made.shard_name(3) == "data/train-00003-of-00004.parquet"


def test_plan_in_another_store():
    output = f"memory://plan-{os.getpid()}/corpus"
    made = make_plan(output, request(), clips(4))
    assert load_plan(output) == made
    assert load_shard(made, 1) == clips(4)[3:]


def test_references_come_back_whole(tmp_path):
    references = [
        Reference(
            key="ключ\n" + "é" * 2000,
            uri="s3://b/a b.wav",
            offset_seconds=1.25,
            size_bytes=2**40,
            metadata={"uri": "mine", "n": 1, "day": datetime.date(2020, 1, 2), "tags": ["a", "b"]},
        ),
        Reference("other", "b.wav", duration_seconds=0.5, metadata={"n": 2, "who": {"age": 3}}),
        Reference("bare", "c.wav"),
        Reference("a.tar/d.wav", "a.tar", size_bytes=9, locator='{"kind": "span"}'),
    ]
    made = make_plan(str(tmp_path), request(), references, probe=lambda uri: None)
    assert [r for index in range(made.num_shards) for r in load_shard(made, index)] == references
    types = {column.name: str(column.type) for column in made.metadata_schema}
    assert list(types) == ["uri", "n", "day", "tags", "who"]
    assert types["n"] == "int64"
    assert types["day"] == "date32[day]"


METADATA = st.dictionaries(
    st.sampled_from("abc"), st.one_of(st.none(), st.integers(-9, 9), st.floats(0, 1)), max_size=3
)


@settings(deadline=None, max_examples=25)
@given(st.lists(METADATA, min_size=1, max_size=12), st.integers(1, 5))
def test_plan_does_not_depend_on_chunks(tmp_path_factory, metadata, spool_rows):
    references = [
        replace(clip, metadata=extra)
        for clip, extra in zip(clips(len(metadata)), metadata, strict=True)
    ]
    one, other = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("other")
    first = make_plan(str(one), request(), references)
    second = make_plan(str(other), request(), references, spool_rows=spool_rows)
    assert first.fingerprint == second.fingerprint
    assert first.metadata_schema == second.metadata_schema
    assert [load_shard(first, i) for i in range(first.num_shards)] == [
        load_shard(second, i) for i in range(second.num_shards)
    ]


def test_fingerprints_do_not_depend_on_parts(tmp_path, monkeypatch):
    one = make_plan(str(tmp_path / "one"), request(), clips(20))
    monkeypatch.setattr(parts, "SHARDS_PER_PART", 2)
    two = make_plan(str(tmp_path / "two"), request(), clips(20), spool_rows=7)
    assert len(list(iter_parts(two))) == 4
    assert one.fingerprint == two.fingerprint
    assert [s.fingerprint for s in iter_shards(one)] == [s.fingerprint for s in iter_shards(two)]
    assert load_shard(two, 6) == clips(20)[18:]


def test_same_plan_gives_same_bytes(tmp_path):
    references = write_sounds(tmp_path / "sounds", 12)
    make_plan(str(tmp_path / "a"), request(), references)
    make_plan(str(tmp_path / "b"), request(), iter(references), spool_rows=5)
    make_plan(str(tmp_path / "c"), request(), iter(references))
    assert contents(tmp_path / "a/_plan") == contents(tmp_path / "c/_plan")
    assert (tmp_path / "a/_plan/plan.json").read_bytes() == (
        tmp_path / "b/_plan/plan.json"
    ).read_bytes()


@pytest.mark.parametrize(
    "change",
    [
        {"key": "x"},
        {"uri": "x"},
        {"offset_seconds": 0.5},
        {"duration_seconds": 1.5},
        {"size_bytes": 5},
        {"locator": "{}"},
        {"metadata": {"text": "x"}},
    ],
)
def test_fingerprint_sees_every_field(tmp_path, change):
    before = make_plan(str(tmp_path / "a"), request(shard_seconds=9.0), clips(3))
    references = clips(3)
    references[1] = replace(references[1], **change)
    after = make_plan(str(tmp_path / "b"), request(shard_seconds=9.0), references)
    assert planned_shard(before, 0).fingerprint != planned_shard(after, 0).fingerprint
    assert before.fingerprint != after.fingerprint


def test_fingerprint_is_of_weights_not_of_names(tmp_path):
    plans = [
        make_plan(str(tmp_path / str(index)), request(codec=codec), clips(1))
        for index, codec in enumerate(
            [
                IDENTITY,
                replace(IDENTITY, model_id="elsewhere"),
                replace(IDENTITY, weights_checksum="6" * 64),
                replace(IDENTITY, precision="bfloat16"),
            ]
        )
    ]
    assert plans[0].fingerprint == plans[1].fingerprint
    assert len({made.fingerprint for made in plans}) == 3
    plans[0].check_request(plans[1].request)


def test_real_headers_set_the_cut(tmp_path):
    references = write_sounds(tmp_path / "sounds", 9)
    made = make_plan(str(tmp_path / "out"), request(), references)
    rate = made.generations[0].bytes_per_second[".wav"]
    assert 31_000 < rate < 33_000
    sizes = sum(reference.size_bytes for reference in references)
    assert made.estimated_seconds == pytest.approx(sizes / rate)


def test_sound_within_an_object_is_estimated_by_its_key(tmp_path):
    references = write_sounds(tmp_path / "sounds", 3)
    within = Reference("a.tar/x.wav", "/a.tar", size_bytes=64_000, locator="{}")
    opened = []

    def probe(uri):
        opened.append(uri)
        return os.path.getsize(uri) / 32_000

    asked = request(shard_seconds=1e-9)
    made = make_plan(str(tmp_path / "out"), asked, [*references, within], probe=probe)
    assert opened == [reference.uri for reference in references]
    assert planned_shard(made, 3).estimated_seconds == pytest.approx(2.0)


def test_shards_hold_no_more_clips_than_asked(tmp_path):
    made = make_plan(str(tmp_path), request(shard_seconds=1e9, max_shard_clips=4), clips(10))
    assert [shard.num_clips for shard in iter_shards(made)] == [4, 4, 2]


def test_second_run_lists_nothing(tmp_path):
    def never():
        raise AssertionError("listed again")

    made = open_plan(str(tmp_path), request(), lambda: clips(3))
    assert open_plan(str(tmp_path), request(), never) == made


def test_interrupted_planning_starts_again(tmp_path):
    def breaks_off():
        yield from clips(30)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_plan(str(tmp_path), request(), breaks_off(), spool_rows=10)
    assert load_plan(str(tmp_path)) is None
    assert os.listdir(tmp_path / "_plan") == []
    made = open_plan(str(tmp_path), request(), lambda: clips(3))
    assert made.num_clips == 3


def test_planner_that_comes_second_takes_the_plan_it_finds(tmp_path):
    def meanwhile():
        yield from clips(3)
        make_plan(str(tmp_path), request(), clips(3))

    made = make_plan(str(tmp_path), request(), meanwhile())
    assert made == load_plan(str(tmp_path))


def test_no_clips(tmp_path):
    with pytest.raises(PlanError, match=r"nothing to encode: found no clips in sounds"):
        make_plan(str(tmp_path), request(), [])
    assert load_plan(str(tmp_path)) is None


@pytest.mark.parametrize("spool_rows", [2, 100])
def test_duplicate_keys(tmp_path, spool_rows):
    references = [*clips(9), Reference("k4", "/elsewhere.wav")]
    with pytest.raises(PlanError, match=r"key 'k4': one in /4.wav, one in /elsewhere.wav; .*own"):
        make_plan(str(tmp_path), request(), references, spool_rows=spool_rows)


def test_equal_hashes_of_different_keys_are_no_duplicates(tmp_path, monkeypatch):
    monkeypatch.setattr(keys, "_hashes", lambda values: np.ones(len(list(values)), np.int64))
    assert make_plan(str(tmp_path), request(), clips(5), spool_rows=2).num_clips == 5
    with pytest.raises(PlanError, match="'k1'"):
        make_plan(str(tmp_path / "b"), request(), [*clips(5), *clips(2)[1:]], spool_rows=2)


def with_metadata(*metadata):
    return [
        replace(clip, metadata=extra)
        for clip, extra in zip(clips(len(metadata)), metadata, strict=True)
    ]


@pytest.mark.parametrize("spool_rows", [1, 100])
@pytest.mark.parametrize(
    ("metadata", "why"),
    [
        ([{"num_frames": 1}], "'num_frames' has the name of one of the corpus's own"),
        ([{"": 1}], "need a name"),
        ([{"a": 1}, {"a": "x"}], "one type"),
        ([{"a": object()}], "'a' cannot be kept"),
        ([{"a": 2**70}], "'a' cannot be kept"),
        ([{"a": "\udcff"}], "'a' cannot be kept"),
    ],
)
def test_metadata_that_cannot_be_kept(tmp_path, metadata, why, spool_rows):
    with pytest.raises(PlanError, match=why):
        make_plan(str(tmp_path), request(), with_metadata(*metadata), spool_rows=spool_rows)
    assert load_plan(str(tmp_path)) is None


def test_key_that_is_no_unicode(tmp_path):
    with pytest.raises(PlanError, match="'key' cannot be kept"):
        make_plan(str(tmp_path), request(), [Reference("a\udcff", "a.wav")])


def test_disk_full(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(publishing, "publish_file", full)
    with pytest.raises(CorpusError, match=r"plan of .* cannot be written: .*No space left"):
        make_plan(str(tmp_path), request(), clips(3))
    assert os.listdir(tmp_path / "_plan") == []


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"codec": replace(IDENTITY, weights_checksum="6" * 64, model_id="b")}, "codec fake .*b "),
        ({"codec": replace(IDENTITY, num_codebooks=2)}, r"num_codebooks 3\).*num_codebooks 2\)"),
        ({"codec": replace(IDENTITY, precision="bfloat16")}, "precision float32.*bfloat16"),
        ({"waveform": WaveformOptions(channels="split")}, "channels 'mix', .* is 'split'"),
        ({"waveform": WaveformOptions(loudness=-16.0)}, "loudness None, .* is -16.0"),
        ({"inputs": ("other",)}, "made from sounds, and asked for is other"),
        ({"inputs": ("sounds", "b", "c", "d")}, "sounds, b, c and 1 more"),
        ({"shard_seconds": 5.0}, "shard_seconds 3, and asked for is 5"),
        ({"max_shard_clips": 7}, "max_shard_clips 10000, and asked for is 7"),
    ],
)
def test_other_request_is_refused_in_one_sentence(tmp_path, asked, why):
    made = make_plan(str(tmp_path), request(), clips(3))
    made.check_request(request())
    with pytest.raises(CorpusMismatchError, match=why) as caught:
        open_plan(str(tmp_path), request(**asked), lambda: clips(3))
    assert str(caught.value).startswith(f"{tmp_path} holds another corpus: ")
    assert str(caught.value).endswith("or give another --output")
    assert "\n" not in str(caught.value)


def test_plan_of_another_version(tmp_path):
    make_plan(str(tmp_path), request(), clips(3))
    path = tmp_path / "_plan/plan.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema_version": 99}))
    with pytest.raises(CorpusMismatchError, match=r"schema version 99, .* makes version 1"):
        open_plan(str(tmp_path), request(), lambda: clips(3))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", '{"schema_version": 1}'])
def test_damaged_plan(tmp_path, text):
    make_plan(str(tmp_path), request(), clips(3))
    (tmp_path / "_plan/plan.json").write_text(text)
    with pytest.raises(CorpusError, match=r"plan of .* is damaged: plan.json"):
        load_plan(str(tmp_path))


def test_damaged_part(tmp_path):
    made = make_plan(str(tmp_path), request(), clips(3))
    path = only_part(tmp_path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CorpusError, match=r"part-.*-00000.parquet cannot be read"):
        load_shard(made, 0)


def test_part_of_another_plan(tmp_path):
    made = make_plan(str(tmp_path / "a"), request(), clips(3))
    make_plan(str(tmp_path / "b"), request(), clips(2))
    only_part(tmp_path / "b").replace(only_part(tmp_path / "a"))
    with pytest.raises(CorpusError, match=r"not the one that the plan was written for"):
        load_shard(made, 0)


def test_part_with_other_references(tmp_path):
    made = make_plan(str(tmp_path), request(), clips(3))
    path = only_part(tmp_path)
    table = pq.read_table(path)
    entries = pq.read_metadata(path).metadata
    column = table.column("uri").to_pylist()
    other = table.set_column(1, "uri", [[*column[:2], "/evil.wav"]])
    pq.write_table(other.replace_schema_metadata(entries), path)
    with pytest.raises(CorpusError, match="other references than it says"):
        load_shard(made, 0)


@pytest.mark.parametrize("index", [-1, 4])
def test_no_such_shard(tmp_path, index):
    made = make_plan(str(tmp_path), request(), clips(10))
    with pytest.raises(CorpusError, match=f"has 4 shards, and no shard {index}"):
        load_shard(made, index)


def test_folder_with_something_else_is_refused(tmp_path):
    (tmp_path / "thesis.doc").write_text("mine")
    with pytest.raises(CorpusMismatchError, match=r"not empty .* \(found 'thesis.doc'"):
        open_plan(str(tmp_path), request(), lambda: clips(3))
    assert os.listdir(tmp_path) == ["thesis.doc"]


def test_hidden_files_do_not_count(tmp_path):
    (tmp_path / ".gitattributes").write_text("")
    assert open_plan(str(tmp_path), request(), lambda: clips(3)).num_clips == 3


def test_plan_is_small_and_travels(tmp_path):
    import pickle

    made = make_plan(str(tmp_path), request(), clips(5000))
    data = pickle.dumps(made)
    assert len(data) < 10_000
    assert pickle.loads(data) == made
    assert len(files.read_bytes(plan_url(str(tmp_path)))) < 10_000
    assert asdict(made.request)["shard_seconds"] == 3.0
