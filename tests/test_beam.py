"""The transforms against their plain twins, in memory and with two worker processes."""

import os
import random
import subprocess
from dataclasses import replace

import apache_beam as beam
import numpy as np
import pytest
import soundfile
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.testing.util import assert_that, equal_to

import dac_tokenize.beam
from dac_tokenize import temporaries
from dac_tokenize.beam import (
    DecodeAudio,
    EncodeAudio,
    FinishCorpus,
    TokenizeCorpus,
    TokenizeShards,
    _TokenizeShard,
)
from dac_tokenize.corpus import finish_corpus, tokenize_shard
from dac_tokenize.corpus.generation import generation_json
from dac_tokenize.corpus.parts import plan_url
from dac_tokenize.corpus.planning import open_plan
from dac_tokenize.errors import CorpusError, UsageError
from dac_tokenize.process import CodecOptions, tokenizer_for
from dac_tokenize.references import Reference
from dac_tokenize.waveform import WaveformOptions
from tests.codec.models import (
    TINY_SHAPE,
    random_clip,
    random_model,
    reference_decode,
    reference_encode,
)
from tests.corpus.fakes import request

RATE = 1_000
SIZES = (803, 8, 2_400, 1, 77, 1_600, 795)
IN_MEMORY = ()
PROCESSES = ("--direct_running_mode=multi_processing", "--direct_num_workers=2")


@pytest.fixture(scope="module")
def model():
    return random_model(**{**TINY_SHAPE, "sampling_rate": RATE})


@pytest.fixture(scope="module")
def codec(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("codec")
    model.save_pretrained(folder)
    return CodecOptions(str(folder), device="cpu")


@pytest.fixture(scope="module")
def clips():
    return [np.clip(random_clip(size, seed), -1, 1) for seed, size in enumerate(SIZES)]


@pytest.fixture(scope="module")
def references(clips, tmp_path_factory):
    """Every clip as a file, and one file that is none."""
    folder = tmp_path_factory.mktemp("sounds")
    made = []
    for index, clip in enumerate(clips):
        path = folder / f"{index}.wav"
        soundfile.write(path, clip, RATE, subtype="FLOAT")
        made.append(Reference(f"clip{index}", str(path), metadata={"text": f"words {index}"}))
    (folder / "bad.wav").write_text("no sound")
    made.insert(3, Reference("bad", str(folder / "bad.wav")))
    return made


@pytest.fixture
def plan(codec, references, tmp_path):
    asked = request(codec=tokenizer_for(codec).identity, shard_seconds=2.0)
    return open_plan(str(tmp_path / "out"), asked, lambda: references)


@pytest.fixture(scope="module")
def plain(codec, references, tmp_path_factory):
    """The manifest and the files of the plain twins."""
    output = tmp_path_factory.mktemp("plain") / "out"
    asked = request(codec=tokenizer_for(codec).identity, shard_seconds=2.0)
    plan = open_plan(str(output), asked, lambda: references)
    results = [tokenize_shard(plan, i, tokenizer_for(codec)) for i in range(plan.num_shards)]
    return finish_corpus(plan, str(output), results), tree(output)


def tree(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def pipeline(*flags):
    return beam.Pipeline(runner="FnApiRunner", options=PipelineOptions(list(flags)))


def run(build, *flags):
    """Run what `build` adds to a pipeline; gives its counters and counts of distributions."""
    made = pipeline(*flags)
    build(made)
    result = made.run()
    result.wait_until_finish()
    metrics = result.metrics().query()
    counters = {m.key.metric.name: m.committed for m in metrics["counters"]}
    return counters, {m.key.metric.name: m.committed.count for m in metrics["distributions"]}


def check_manifest(expected):
    def check(figures):
        (found,) = figures
        assert found == {name: getattr(expected, name) for name in found}
        assert found["clips"] == len(SIZES) + 1

    return check


@pytest.mark.parametrize("flags", [IN_MEMORY, PROCESSES], ids=["in_memory", "processes"])
def test_corpus_is_that_of_the_plain_twins(plan, plain, codec, tmp_path, flags):
    manifest, files = plain
    assert plan.num_shards >= 3

    def build(root):
        figures = root | TokenizeCorpus(plan.output, codec, num_threads=1)
        assert_that(figures, check_manifest(manifest))

    counters, distributions = run(build, *flags)
    assert tree(tmp_path / "out") == files
    own = {name: counters[name] for name in ("shards", "clips", "clips_failed", "num_frames")}
    assert own == {
        "shards": plan.num_shards,
        "clips": 8,
        "clips_failed": 1,
        "num_frames": sum(-(-size // 8) for size in SIZES),
    }
    assert "shards_skipped" not in counters
    by_error = {n: c for n, c in counters.items() if n.startswith("clips_failed_")}
    assert by_error == {"clips_failed_AudioError": 1}
    assert counters["audio_ms"] == sum(SIZES)
    assert {distributions[f"{stage}_ms"] for stage in ("read", "encode", "write")} == {
        plan.num_shards
    }


def test_second_run_skips_and_loads_no_codec(plan, codec, tmp_path, monkeypatch):
    run(lambda root: root | TokenizeCorpus(plan.output, codec))
    before = tree(tmp_path / "out")
    monkeypatch.setattr(dac_tokenize.beam, "tokenizer_for", None)
    counters, _ = run(lambda root: root | TokenizeCorpus(plan.output, codec))
    assert counters["shards_skipped"] == plan.num_shards
    assert not {"shards", "clips", "audio_ms"} & counters.keys()
    assert tree(tmp_path / "out") == before


def test_retries_and_repeats_are_harmless(plan, plain, codec, tmp_path):
    """As an engine does it: a bundle again, on the same worker or another, in any order."""
    manifest, files = plain
    results = []
    for _ in range(2):
        worker = _TokenizeShard(plan.output, codec, 1)
        worker.setup()
        for index in (1, 0, *range(plan.num_shards)):
            results += worker.process(index)
    assert len(results) == 2 * (plan.num_shards + 2)
    assert sum(not result.skipped for result in results) == plan.num_shards
    random.Random(0).shuffle(results)

    def build(root):
        figures = root | beam.Create(results) | FinishCorpus(plan.output)
        assert_that(figures, check_manifest(manifest))

    run(build)
    assert tree(tmp_path / "out") == files


def test_nothing_stays_of_workers_that_died(plan, plain, codec, tmp_path):
    """What they had begun is given to others by the engine, which knows nothing of their files."""
    with subprocess.Popen(["true"]) as ended:
        pass
    own = temporaries.temporary_path(plan.shard_url(0))
    dead = own.with_name(own.name.replace(f"-{os.getpid()}-", f"-{ended.pid}-"))
    dead.write_text("half a shard")
    _TokenizeShard(plan.output, codec, 1).setup()
    assert not dead.exists()
    results = [tokenize_shard(plan, index, tokenizer_for(codec)) for index in plan.indices]
    dead.write_text("half a shard")
    run(lambda root: root | beam.Create(results) | FinishCorpus(plan.output))
    assert not dead.exists()


def test_some_shards(plan, codec):
    def build(root):
        results = root | beam.Create([2, 0, 2]) | TokenizeShards(plan.output, codec)
        indices = results | beam.Map(lambda result: (result.index, result.skipped))
        assert_that(indices, equal_to([(0, False), (2, False), (2, True)]))

    run(build)


def test_job_graph_does_not_grow_with_the_plan(plan, codec, tmp_path):
    def graph_bytes():
        made = pipeline()
        _ = made | TokenizeCorpus(plan.output, codec)
        return len(made.to_runner_api().SerializeToString())

    small = graph_bytes()
    # A plan of 1,000,000 references, as far as whoever builds a pipeline could see.
    (first,) = plan.generations
    parts = first.parts * 1_000
    large = replace(first, num_clips=1_000_000, num_shards=1_000_000, parts=parts)
    url = plan_url(plan.output)
    assert len(generation_json(large)) > 100_000
    with open(url, "wb") as file:
        file.write(generation_json(large))
    assert max(small, graph_bytes()) < 50_000
    assert abs(graph_bytes() - small) < 100  # names in it are numbered


def test_no_plan(codec, tmp_path):
    with pytest.raises(CorpusError, match="holds no plan; plan the corpus before"):
        run(lambda root: root | TokenizeCorpus(str(tmp_path), codec))


def listed(record):
    assert record["audio_codes"].dtype == np.uint16
    return {**record, "audio_codes": record["audio_codes"].tolist()}


def expected_record(model, clip, key, **carried):
    codes = reference_encode(model, clip)
    return {
        "key": key,
        "audio_codes": codes.tolist(),
        "num_frames": codes.shape[1],
        "num_samples": clip.size,
        "duration_seconds": clip.size / RATE,
        "channel": None,
        **carried,
    }


@pytest.mark.parametrize(
    ("flags", "seed", "batch"), [(IN_MEMORY, 0, 64), (IN_MEMORY, 1, 3), (PROCESSES, 2, 1)]
)
def test_each_clip_has_its_own_codes(
    references, clips, model, codec, monkeypatch, flags, seed, batch
):
    """Codes are plain `DacModel`'s whatever the order and the bundles."""
    monkeypatch.setattr(dac_tokenize.beam, "_CLIPS_PER_BATCH", batch)
    good = [reference for reference in references if reference.key != "bad"]
    records = [
        expected_record(
            model, clip, ref.key, **ref.metadata, source_uri=ref.uri, offset_seconds=0.0
        )
        for clip, ref in zip(clips, good, strict=True)
    ]
    bad = references[3]
    message = []

    def is_the_bad_one(failed):
        (found,) = failed
        message.append(found.pop("message"))
        assert found == {"key": "bad", "uri": bad.uri, "stage": "decode", "error": "AudioError"}
        assert "bad.wav" in message[0] or "sound" in message[0]

    def build(root):
        shuffled = random.Random(seed).sample(references, len(references))
        encoded = root | beam.Create(shuffled) | EncodeAudio(codec)
        assert_that(encoded.records | beam.Map(listed), equal_to(records), "records")
        assert_that(encoded.failed, is_the_bad_one, "failed")

    counters, _ = run(build, *flags)
    assert (counters["clips"], counters["clips_failed"]) == (8, 1)
    assert counters["audio_ms"] == sum(SIZES)


def test_dicts_carry_what_they_hold(clips, model, codec):
    long = clips[2]
    elements = [
        {"key": "a", "audio": long, "sampling_rate": RATE, "text": "words"},
        {"key": "b", "audio": {"array": clips[0], "sampling_rate": RATE}},
        {"key": "nan", "audio": long * np.nan, "sampling_rate": RATE},
    ]
    records = [expected_record(model, long, "a", text="words")]
    records.append(expected_record(model, clips[0], "b"))

    def failed(found):
        assert [(f["key"], f["uri"], f["stage"], f["error"]) for f in found] == [
            ("nan", "", "waveform", "WaveformError")
        ]

    def build(root):
        encoded = root | beam.Create(elements) | EncodeAudio(codec)
        assert_that(encoded.records | beam.Map(listed), equal_to(records), "records")
        assert_that(encoded.failed, failed, "failed")

    run(build)


def test_channels_are_split(clips, model, codec):
    stereo = np.stack([clips[0], clips[0][::-1]])
    element = {"key": "s", "audio": {"array": stereo, "sampling_rate": RATE}}
    records = [
        expected_record(model, np.ascontiguousarray(stereo[c]), f"s#{c}", channel=c)
        for c in range(2)
    ]

    def build(root):
        encoded = root | beam.Create([element]) | EncodeAudio(codec, WaveformOptions("split"))
        assert_that(encoded.records | beam.Map(listed), equal_to(records))

    run(build)


@pytest.mark.parametrize(
    ("element", "message"),
    [
        ({"audio": [0.0]}, r"dicts with key and audio; got a dict with audio"),
        ({"key": "a"}, r"got a dict with key"),
        ({}, r"got a dict with nothing in it"),
        ("a.wav", r"got a str"),
        ({"key": 5, "audio": [0.0]}, r"keys that are text; got 5"),
    ],
)
def test_elements_that_are_no_clips(codec, element, message):
    with pytest.raises(UsageError, match=message):
        run(lambda root: root | beam.Create([element]) | EncodeAudio(codec))


def test_there_and_back(clips, model, codec):
    elements = [
        {"key": str(i), "audio": {"array": clip, "sampling_rate": RATE}}
        for i, clip in enumerate(clips)
    ]
    sounds = []
    for clip in clips:
        sound = reference_decode(model, reference_encode(model, clip)).ravel()[: clip.size]
        sounds.append(np.pad(sound, (0, clip.size - sound.size)))

    def check(found):
        by_key = {record["key"]: record for record in found}
        assert by_key.keys() == {str(i) for i in range(len(clips))}
        for i, sound in enumerate(sounds):
            record = by_key[str(i)]
            np.testing.assert_allclose(record["waveform"], sound, atol=1e-5)
            assert record["waveform"].dtype == np.float32
            assert record["sampling_rate"] == RATE
            assert "audio_codes" not in record

    def build(root):
        encoded = root | beam.Create(elements) | EncodeAudio(codec)
        assert_that(encoded.records | DecodeAudio(codec), check)

    run(build)


def test_records_without_codes(codec):
    with pytest.raises(UsageError, match=r"DecodeAudio takes dicts with audio_codes; got a dict"):
        run(lambda root: root | beam.Create([{"key": "a"}]) | DecodeAudio(codec))


def test_transforms_are_typed(plan, codec):
    made = pipeline()
    results = made | beam.Create([0]) | TokenizeShards(plan.output, codec)
    assert results.element_type.__name__ == "ShardResult"
