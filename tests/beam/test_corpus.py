"""Corpora against their plain twins, in memory and with two worker processes."""

import os
import random
import subprocess
from dataclasses import replace

import apache_beam as beam
import pytest
from apache_beam.testing.util import assert_that, equal_to

from dac_tokenize import temporaries
from dac_tokenize.beam import (
    FinishCorpus,
    TokenizeCorpus,
    TokenizeShards,
)
from dac_tokenize.beam import corpus as corpus_module
from dac_tokenize.beam.corpus import _TokenizeShard
from dac_tokenize.corpus import tokenize_shard
from dac_tokenize.corpus.generation import generation_json
from dac_tokenize.corpus.parts import plan_url
from dac_tokenize.errors import CorpusError
from dac_tokenize.process import tokenizer_for
from tests.beam.running import IN_MEMORY, PROCESSES, SIZES, pipeline, run, tree


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
    monkeypatch.setattr(corpus_module, "tokenizer_for", None)
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


def test_transforms_are_typed(plan, codec):
    made = pipeline()
    results = made | beam.Create([0]) | TokenizeShards(plan.output, codec)
    assert results.element_type.__name__ == "ShardResult"
