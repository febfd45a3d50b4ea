"""Shards by several processes: the same bytes as by one, errors and all."""

import logging

import pytest

from dac_tokenize.corpus import PlanRequest, finish_corpus, open_plan
from dac_tokenize.errors import CodecError, CorpusMismatchError, ShardsGivenUpError
from dac_tokenize.process import codec_options, tokenizer_for
from dac_tokenize.progress import Tally
from dac_tokenize.sources import list_references
from dac_tokenize.waveform import WaveformOptions, as_uri
from dac_tokenize.workers import running, tokenize_shards
from tests.corpus.test_tokenizing import tree
from tests.engines.conftest import SHARD_SECONDS, codec_folder, expected, sounds  # noqa: F401
from tests.workers import serving


@pytest.fixture
def codec(codec_folder):  # noqa: F811
    return codec_options(str(codec_folder), None, None, "cpu", "float32")


@pytest.fixture
def plan(codec, sounds, tmp_path):  # noqa: F811
    identity = tokenizer_for(codec).identity
    asked = PlanRequest((as_uri(str(sounds)),), identity, WaveformOptions(), SHARD_SECONDS)
    return open_plan(str(tmp_path / "out"), asked, lambda: list_references([str(sounds)]))


def test_same_bytes_counts_and_logs(plan, codec, expected, tmp_path, caplog):  # noqa: F811
    caplog.set_level(logging.INFO, logger="dac_tokenize")
    tally = Tally()

    def count(progress):
        tally.add(progress.clips, progress.failed, progress.seconds, skipped=progress.skipped)

    results = list(tokenize_shards(plan, codec, num_workers=2, num_threads=1, on_progress=count))
    manifest = finish_corpus(plan, plan.output, results)
    assert tree(tmp_path / "out") == expected
    assert (tally.clips, tally.failed) == (manifest.clips, manifest.failed) == (31, 1)
    assert tally.seconds == pytest.approx(manifest.seconds)
    assert {record.worker for record in caplog.records} == {0, 1}
    events = [record.event for record in caplog.records]
    assert events.count("shard published") == plan.num_shards
    (failed,) = [record for record in caplog.records if record.event == "clip failed"]
    assert failed.key == "clip99.wav"
    assert failed.shard == plan.shard_name(plan.num_shards - 1)
    assert "key=clip99.wav" in failed.getMessage()
    # All is there: workers say so, and load no codec.
    again = list(tokenize_shards(plan, codec, num_workers=2))
    assert all(result.skipped for result in again)


@pytest.mark.parametrize("hangs", [serving.ONCE, serving.ALWAYS])
def test_a_decode_that_never_returns(plan, codec, expected, hangs, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setattr(running, "serve", serving.with_hanging_reader)
    options = {"num_workers": 2, "num_threads": hangs, "stall_timeout_seconds": 2.0}
    tally = Tally()

    def count(progress):
        tally.add(progress.clips, progress.failed, progress.seconds, skipped=progress.skipped)

    results = []
    run = tokenize_shards(plan, codec, on_progress=count, **options)
    if hangs == serving.ALWAYS:
        with pytest.raises(ShardsGivenUpError, match=r"1 of \d+ shards.* stalled: it finished"):
            results.extend(run)
        assert len(results) == plan.num_shards - 1
    else:
        results.extend(run)
        finish_corpus(plan, plan.output, results)
        assert tree(tmp_path / "out") == expected
    assert tally.clips == sum(result.clips for result in results)
    assert not [path for path in (tmp_path / "out").rglob("*") if ".tmp-" in path.name]


def test_another_codec_is_refused(plan, tmp_path):
    with pytest.raises(CorpusMismatchError, match="codec"):
        list(tokenize_shards(plan, num_workers=1))


def test_a_codec_that_is_not_there(plan, tmp_path):
    missing = codec_options(str(tmp_path / "none"), None, None, "cpu", "float32")
    with pytest.raises(CodecError, match="none"):
        list(tokenize_shards(plan, missing, num_workers=1))
