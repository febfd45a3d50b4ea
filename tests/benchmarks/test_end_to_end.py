"""The benchmarks of whole runs: every way, once small, and their arithmetic."""

import numpy as np
import pytest

from benchmarks import end_to_end, growth, watched
from tests.codec.models import TINY_SHAPE, random_model


def test_all_ways_give_the_same_codes(figures, capsys, monkeypatch, watch_here):
    monkeypatch.setattr(end_to_end, "watch", watch_here)
    options = "--model 16khz --width 4 --audio-seconds 3 --source 44k-stereo --repeats 1"
    end_to_end.main(options.split())
    measured = figures("end_to_end-16khz-44k-stereo")
    ways = measured["ways"]
    assert list(ways) == ["engine only", "dac-tokenize encode", "datasets.map"]
    for way in ways.values():
        assert way["tokens_different"] == 0
        assert 0 < way["codec_busy"] <= 1
        assert way["share_of_engine_only"] > 0
    steps = measured["steps_of_cli"]
    assert all(step["seconds"] >= 0 for step in steps.values()), steps
    assert steps["resample"]["seconds"] > 0
    work = sum(step["seconds"] for step in steps.values() if step["when"] != "threads")
    assert work == pytest.approx(measured["reports"]["cli"]["wall_seconds"])
    assert "cut, pack, join" in capsys.readouterr().out


def test_a_process_of_its_own_reports_its_steps(tmp_path):
    random_model(**TINY_SHAPE | {"sampling_rate": 1_000}).save_pretrained(tmp_path / "model")
    sounds = [str(p) for p in end_to_end.make_sounds(tmp_path / "sounds", 3.0, "16k-mono")]
    codes = tmp_path / "codes.npz"
    report = watched.watch(["engine", str(tmp_path / "model"), str(codes), *sounds], tmp_path)
    assert report["audio_seconds"] > 3
    assert 0 < report["work_starts_at"] < report["work_ends_at"] < report["wall_seconds"]
    assert len(np.load(codes).files) == len(sounds)
    with pytest.raises(RuntimeError, match="KeyError: 'fly'"):
        watched.watch(["fly"], tmp_path)


def test_growth_measures_every_point(figures, capsys, monkeypatch, watch_here):
    monkeypatch.setattr(growth, "watch", watch_here)
    monkeypatch.setattr(growth, "CLIPS", (2, 4))
    growth.main(["--points", "1", "--audio-seconds", "20"])
    growth.main(["--points", "0", "--audio-seconds", "20"])
    clips, lengths, shards = (figures(f"growth-{n}")["points"] for n in growth.SERIES)
    assert [point["clips"] for point in clips] == [2, 4]
    assert [point["clip_seconds"] for point in lengths] == [1.0, 10.0]
    assert [point["shards"] for point in shards] == [1, 2]
    assert all(p["audio_hours"] * 3600 == pytest.approx(20) for p in lengths + shards)
    assert "peak MiB" in capsys.readouterr().out
