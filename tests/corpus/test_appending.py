"""What is added to a finished corpus, and what of it must never change."""

import os
import shutil
import signal
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from datasets import load_dataset
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dac_tokenize import files, publishing
from dac_tokenize.corpus import (
    append_plan,
    corpus_info,
    finish_corpus,
    iter_rows,
    load_plan,
    published_shard,
    read_failed,
    read_manifest,
    tokenize_shard,
)
from dac_tokenize.corpus import keys as keys_module
from dac_tokenize.corpus.decoding import decode_corpus
from dac_tokenize.corpus.footer import load_footer
from dac_tokenize.corpus.manifest import unfinished
from dac_tokenize.corpus.plan import load_shard
from dac_tokenize.corpus.repairing import repair_corpus
from dac_tokenize.corpus.verifying import verify_corpus
from dac_tokenize.errors import CorpusError, CorpusMismatchError, PlanError
from dac_tokenize.waveform import WaveformOptions
from tests.corpus.fakes import IDENTITY, FakeTokenizer, request, write_sounds
from tests.corpus.test_tokenizing import bad_sounds, run, tree
from tests.corpus.test_versions import VERSIONS

OLD, ALL = slice(0, 9), slice(0, 17)


@pytest.fixture(scope="module")
def every_sound(tmp_path_factory):
    return write_sounds(tmp_path_factory.mktemp("sounds"), 17)


@pytest.fixture
def sounds(every_sound):
    return list(every_sound)


@pytest.fixture
def out(tmp_path, sounds):
    """A finished corpus of the first sounds."""
    run(tmp_path / "out", sounds[OLD])
    return tmp_path / "out"


def listed(references):
    return lambda: references


def never():
    raise AssertionError("listed")


def encode(output):
    """Do what a run does after planning."""
    plan = load_plan(str(output))
    indices = unfinished(plan).indices
    results = [tokenize_shard(plan, index, FakeTokenizer()) for index in indices]
    return finish_corpus(plan, str(output), results)


def append(output, references, **asked):
    appended = append_plan(str(output), request(**asked), listed(references))
    if appended.num_new:
        encode(output)
    return appended


def codes_by_key(output):
    return {row.pop("key"): row.pop("audio_codes").tobytes() for row in iter_rows(str(output))}


def unchanged(before, output):
    """Every file of the plan and of the rows that was there is there as it was."""
    now = tree(output)
    kept = {name: data for name, data in before.items() if name.startswith(("data/", "_plan/"))}
    return kept.items() <= now.items()


def test_what_is_new_is_added(tmp_path, out, sounds):
    before = tree(out)
    times = {path: path.stat().st_mtime_ns for path in (out / "data").iterdir()}
    appended = append(out, sounds)
    assert (appended.num_new, appended.num_known, appended.resumed) == (8, 9, False)
    assert unchanged(before, out)
    assert {path: path.stat().st_mtime_ns for path in times} == times
    run(tmp_path / "fresh", sounds)
    assert codes_by_key(out) == codes_by_key(tmp_path / "fresh")
    assert [row["key"] for row in iter_rows(str(out))] == [sound.key for sound in sounds]
    assert verify_corpus(str(out)).findings == ()


def test_all_see_one_corpus(tmp_path, out, sounds):
    old = load_plan(str(out))
    appended = append(out, [*sounds, *bad_sounds(tmp_path / "bad")])
    plan = load_plan(str(out))
    assert plan == appended.plan
    manifest, info = read_manifest(str(out)), corpus_info(str(out))
    assert (manifest.clips, manifest.failed, manifest.rows) == (22, 5, 17)
    assert (info.clips, info.finished, info.shards_done) == (22, True, plan.num_shards)
    assert manifest.plan_fingerprint == plan.fingerprint != old.fingerprint
    assert [entry.path for entry in manifest.files] == [plan.shard_name(i) for i in plan.indices]
    assert next(failed.key for failed in read_failed(str(out))) == "bad/nan"
    assert "| clips | 17, in 17 rows |" in (out / "README.md").read_text()
    assert plan.shard_name(0) == f"data/train-00000-of-{old.num_shards:05d}.parquet"
    first_new = plan.shard_name(old.num_shards)
    assert first_new == f"data/train-{old.num_shards:05d}-of-{plan.num_shards:05d}.parquet"
    for index, fingerprint in ((0, old.fingerprint), (-1, plan.generations[1].fingerprint)):
        footer = load_footer(plan.shard_url(plan.indices[index]))
        assert footer.plan_fingerprint == fingerprint
    names = sorted(os.listdir(out / "data"))
    assert names == [plan.shard_name(i).rsplit("/", 1)[-1] for i in plan.indices]


def test_other_readers_find_the_new_shards(tmp_path, out, sounds):
    append(out, sounds)
    keys = [sound.key for sound in sounds]
    loaded = load_dataset(str(out), split="train", cache_dir=str(tmp_path / "cache"))
    assert loaded["key"][:] == keys
    assert pq.read_table(out / "data")["key"].to_pylist() == keys
    (out / "README.md").unlink()  # then `datasets` goes by the names of the files
    bare = load_dataset(str(out), cache_dir=str(tmp_path / "other"))
    assert list(bare) == ["train"]
    assert bare["train"]["key"][:] == keys


class Decodes:
    """What `decode_corpus` asks of a codec."""

    sampling_rate = IDENTITY.sampling_rate
    identity = IDENTITY

    def decode_blocks(self, codes, num_samples):
        yield np.zeros(num_samples, np.float32)


def test_decoding_has_all(tmp_path, out, sounds):
    append(out, sounds)
    list(decode_corpus(str(out), str(tmp_path / "listen"), Decodes()))
    assert len(list((tmp_path / "listen").rglob("*.wav"))) == 17


def test_nothing_new(out, sounds):
    before = tree(out)
    appended = append_plan(str(out), request(), listed(sounds[2:9]))
    assert (appended.num_new, appended.num_known) == (0, 7)
    assert tree(out) == before


def test_append_of_an_append_from_elsewhere(tmp_path, out, sounds):
    append(out, sounds[5:12], inputs=("more",))
    before = tree(out)
    append(out, sounds[3:], inputs=("yet more",))
    assert unchanged(before, out)
    assert [one.request.inputs for one in load_plan(str(out)).generations] == [
        ("sounds",),
        ("more",),
        ("yet more",),
    ]
    run(tmp_path / "fresh", sounds)
    assert codes_by_key(out) == codes_by_key(tmp_path / "fresh")
    assert verify_corpus(str(out)).findings == ()
    plan = load_plan(str(out))
    for inputs in ("sounds", "more", "yet more"):
        plan.check_request(request(inputs=(inputs,)))


@settings(
    deadline=None, max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(st.sets(st.integers(0, 16), min_size=1, max_size=8), min_size=1, max_size=4),
    st.integers(1, 7),
)
def test_whatever_is_there_when(tmp_path_factory, every_sound, times, spool_rows):
    """At each time some files are there: the corpus is the union, each clip once, as first seen."""
    output = tmp_path_factory.mktemp("any") / "out"
    run(output, [every_sound[i] for i in sorted(times[0])])
    expected = sorted(times[0])
    for there in times[1:]:
        before = tree(output)
        new = sorted(there - set(expected))
        appended = append_plan(
            str(output),
            request(),
            listed([every_sound[i] for i in sorted(there)]),
            spool_rows=spool_rows,
        )
        assert (appended.num_new, appended.num_known) == (len(new), len(there) - len(new))
        if new:
            encode(output)
        expected += new
        assert unchanged(before, output)
    plan = load_plan(str(output))
    keys = [reference.key for index in plan.indices for reference in load_shard(plan, index)]
    assert keys == [every_sound[i].key for i in expected]
    assert [row["key"] for row in iter_rows(str(output))] == keys
    assert verify_corpus(str(output)).findings == ()


def test_clips_that_failed_are_known(tmp_path, sounds):
    bad = bad_sounds(tmp_path / "bad")
    run(tmp_path / "out", [*bad, *sounds[OLD]])
    assert append(tmp_path / "out", [*bad, *sounds[OLD]]).num_new == 0


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"uri": "/elsewhere/a.wav"}, r"key 'clip003' from /.*003.wav, and .* /elsewhere/a.wav;"),
        ({"offset_seconds": 0.5}, r"key 'clip003' from .* comes from .*003.wav from 0.5 s; .* own"),
        ({"size_bytes": 12}, r"003.wav has changed since .* was made: it has 12 bytes, and had "),
    ],
)
def test_known_key_of_another_sound_is_refused(out, sounds, change, why):
    before = tree(out)
    sounds[3] = replace(sounds[3], **change)
    with pytest.raises(CorpusMismatchError, match=why) as caught:
        append_plan(str(out), request(), listed(sounds))
    assert "\n" not in str(caught.value)
    assert tree(out) == before


def test_size_that_a_store_does_not_tell_is_no_change(out, sounds):
    assert append(out, [replace(sound, size_bytes=None) for sound in sounds[OLD]]).num_new == 0


def test_two_new_clips_with_one_key(out, sounds):
    twice = [*sounds, replace(sounds[12], uri="/b.wav")]
    with pytest.raises(PlanError, match="two clips have the key 'clip012'"):
        append_plan(str(out), request(), listed(twice))


def test_equal_hashes_of_different_keys(out, sounds, monkeypatch):
    def hashes(values):
        return np.array([1 if isinstance(one, str) else hash(one) for one in values], np.int64)

    monkeypatch.setattr(keys_module, "_hashes", hashes)
    assert append(out, sounds).num_new == 8
    with pytest.raises(CorpusMismatchError, match="key 'clip004'"):
        append(out, [replace(sounds[4], uri="/c.wav")])


def test_no_corpus(tmp_path):
    with pytest.raises(CorpusError, match="holds no corpus to add to; run without --append"):
        append_plan(str(tmp_path), request(), never)


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"codec": replace(IDENTITY, weights_checksum="6" * 64)}, "weights_checksum"),
        ({"waveform": WaveformOptions(channels="split")}, "channels 'mix', .* is 'split'"),
        ({"shard_seconds": 5.0}, "shard_seconds 3, and asked for is 5"),
    ],
)
def test_other_options_are_refused(out, asked, why):
    with pytest.raises(CorpusMismatchError, match=why):
        append_plan(str(out), request(inputs=("others",), **asked), never)


def test_other_inputs_without_append(out, sounds):
    with pytest.raises(CorpusMismatchError, match=r"made from sounds, .* is more; .* --append"):
        run(out, sounds, request(inputs=("more",)))


def test_unfinished_corpus_is_refused(tmp_path, sounds):
    (tmp_path / "out").mkdir()
    run(tmp_path / "whole", sounds[OLD])
    shutil.copytree(tmp_path / "whole/_plan", tmp_path / "out/_plan")
    for inputs in ("sounds", "more"):
        with pytest.raises(CorpusError, match=r"not finished, .* encoding of sounds again"):
            append_plan(str(tmp_path / "out"), request(inputs=(inputs,)), never)


def test_interrupted_append_goes_on(tmp_path, out, sounds):
    shutil.copytree(out, tmp_path / "whole")
    append(tmp_path / "whole", sounds)
    plan = append_plan(str(out), request(), listed(sounds)).plan
    new = [index for index in plan.indices if index >= plan.generations[1].first_shard]
    tokenize_shard(plan, new[1], FakeTokenizer())
    with pytest.raises(CorpusError, match=r"not finished, .* encoding of sounds again"):
        append_plan(str(out), request(inputs=("more",)), never)
    info = corpus_info(str(out))
    assert (info.finished, info.shards_done) == (False, new[0] + 1)
    assert len(list(iter_rows(str(out)))) == 9 + load_footer(plan.shard_url(new[1])).stats.rows
    found = verify_corpus(str(out))
    assert not found.finished
    assert found.bad_shards() == [index for index in new if index != new[1]]
    assert [f.path for f in found.findings if f.index is None] == ["_manifest.json"]

    appended = append_plan(str(out), request(), never)
    assert (appended.resumed, appended.num_new) == (True, 8)
    assert published_shard(appended.plan, new[1]).checksum is not None
    encode(out)
    assert tree(out) == tree(tmp_path / "whole")


@pytest.mark.parametrize("lost", ["_manifest.json", "data"])
def test_run_without_append_finishes_what_was_added(tmp_path, out, sounds, lost):
    append(out, sounds)
    whole = tree(out)
    path = out / lost
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    run(out, None)
    assert tree(out) == whole


def test_repair_finishes_and_mends_what_was_added(out, sounds):
    plan = append_plan(str(out), request(), listed(sounds)).plan

    def repair():
        return repair_corpus(str(out), verify_corpus(str(out)), FakeTokenizer)

    assert repair().findings == ()
    whole = tree(out)
    for index in (0, plan.num_shards - 1):
        Path(plan.shard_url(index)).write_bytes(b"")
    assert sorted(verify_corpus(str(out)).bad_shards()) == [0, plan.num_shards - 1]
    assert repair().findings == ()
    assert tree(out) == whole


def test_changed_bit_of_an_old_shard_is_found_while_the_append_goes_on(out, sounds):
    plan = append_plan(str(out), request(), listed(sounds)).plan
    path = Path(plan.shard_url(0))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    kinds = {(finding.index, finding.kind) for finding in verify_corpus(str(out)).findings}
    assert (0, "checksum") in kinds


def test_driver_that_comes_second_takes_what_it_finds(tmp_path, out, sounds):
    def meanwhile():
        yield from sounds
        append_plan(str(out), request(), listed(sounds[:12]))

    appended = append_plan(str(out), request(), meanwhile)
    assert appended.plan == load_plan(str(out))
    encode(out)
    assert len(codes_by_key(out)) == 12
    assert verify_corpus(str(out)).findings == ()


def test_driver_that_comes_second_with_other_inputs_is_refused(out, sounds):
    def meanwhile():
        yield from sounds
        append_plan(str(out), request(inputs=("more",)), listed(sounds[:12]))

    with pytest.raises(CorpusMismatchError, match=r"another run has added more to .* meanwhile"):
        append_plan(str(out), request(), meanwhile)
    encode(out)
    assert verify_corpus(str(out)).findings == ()  # no part of the refused plan is left
    assert append(out, sounds).num_new == 5


def test_of_many_writers_one_wins(tmp_path):
    for trial in range(20):
        path = tmp_path / str(trial)
        with ThreadPoolExecutor(8) as pool:
            won = list(
                pool.map(publishing.publish_new, map(b"%d".__mod__, range(8)), [str(path)] * 8)
            )
        assert sum(won) == 1
        assert path.read_bytes() == b"%d" % won.index(True)
    assert len(list(tmp_path.iterdir())) == 20


def dies_at(step, output, references):
    """Append in a process that is killed at its n-th change of a name; tell whether it was."""
    pid = os.fork()
    if pid == 0:
        count = 0

        def counted(call):
            def counting(*arguments, **options):
                nonlocal count
                if count == step:
                    os.kill(os.getpid(), signal.SIGKILL)
                count += 1
                return call(*arguments, **options)

            return counting

        os.replace, os.link = counted(os.replace), counted(os.link)
        append_plan(str(output), request(), listed(references))
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL


def test_killed_while_planning(tmp_path, out, sounds):
    shutil.copytree(out, tmp_path / "whole")
    append(tmp_path / "whole", sounds)
    old = tree(out)
    step = 0
    while True:
        there = tmp_path / f"killed{step}"
        shutil.copytree(out, there)
        if not dies_at(step, there, sounds):
            break
        # The corpus is the old one, whole: nothing of it looks foreign.
        assert {entry.index for entry in verify_corpus(str(there)).findings} == {None}
        assert unchanged(old, there)
        assert corpus_info(str(there)).finished
        append(there, sounds)
        assert tree(there) == tree(tmp_path / "whole")
        step += 1
    assert step == 2  # the part, and what describes it


def test_interrupted_listing_leaves_nothing(out, sounds):
    def breaks_off():
        yield from sounds
        raise KeyboardInterrupt

    before = tree(out)
    with pytest.raises(KeyboardInterrupt):
        append_plan(str(out), request(), breaks_off)
    assert tree(out) == before


def with_metadata(references, **metadata):
    return [replace(one, metadata=metadata) for one in references]


def test_metadata_that_fit(out, sounds):
    append(out, with_metadata(sounds[9:11], text=None))
    append(out, with_metadata(sounds[11:13], speaker=5))
    rows = {row["key"]: row for row in iter_rows(str(out))}
    assert (rows["clip008"]["text"], rows["clip009"]["text"]) == ("words 8", None)
    assert (rows["clip011"]["speaker"], rows["clip011"]["text"]) == (5, None)
    assert len({str(pq.read_schema(path)) for path in (out / "data").iterdir()}) == 1


@pytest.mark.parametrize(
    ("metadata", "why"),
    [
        ({"language": "de"}, "'language' is not in .*, whose columns are text, speaker; leave"),
        ({"speaker": "five"}, "'speaker' holds string, and in .* int64; give"),
        ({"speaker": 0.5}, "'speaker' holds double, and in .* int64; give"),
        ({"text": 5}, "'text' holds int64, and in .* string; give"),
    ],
)
def test_metadata_that_do_not_fit(out, sounds, metadata, why):
    before = tree(out)
    with pytest.raises(PlanError, match=why):
        append_plan(str(out), request(), listed(with_metadata(sounds[9:], **metadata)))
    assert tree(out) == before


@pytest.mark.parametrize("version", sorted(path.name for path in VERSIONS.iterdir()))
def test_corpus_of_an_older_version_grows(tmp_path, sounds, version):
    output = tmp_path / "out"
    shutil.copytree(VERSIONS / version, output)
    before = tree(output)
    sounds = [replace(one, key=f"new/{one.key}") for one in sounds[:3]]
    append(output, sounds, inputs=("more",))
    assert unchanged(before, output)
    assert len(list(iter_rows(str(output)))) == 8
    assert verify_corpus(str(output)).findings == ()


def test_later_part_of_a_plan_that_does_not_follow(out, sounds):
    append(out, sounds[:12])
    append(out, sounds)
    (out / "_plan/plan-001.json").write_bytes((out / "_plan/plan-002.json").read_bytes())
    with pytest.raises(CorpusError, match=r"damaged: plan-001.json does not follow plan.json"):
        load_plan(str(out))


def test_many_generations_and_another_store(sounds):
    there = f"memory://append-{os.getpid()}/out"
    run(there, sounds[:1])
    for count in range(2, 18):
        append(there, sounds[:count])
    plan = load_plan(there)
    assert (len(plan.generations), plan.num_shards, plan.num_clips) == (17, 17, 17)
    assert [row["key"] for row in iter_rows(there)] == [sound.key for sound in sounds]
    assert verify_corpus(there).findings == ()
    assert not [name for name in files.list_names(f"{there}/_plan") if "tmp" in name]
