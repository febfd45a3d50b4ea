"""What goes to stderr as JSON: each line parsed."""

import json

import pytest

from dac_tokenize.cli import main


@pytest.fixture
def logged(capsys, sounds, codec, tmp_path):
    """Encode the sounds, one of them broken; gives status and the parsed lines of stderr."""
    (sounds / "c/bad.wav").write_text("no sound")
    (sounds / "notes.txt").write_text("none")

    def logged(*more):
        capsys.readouterr()
        fixed = ["--model", codec, "--output", str(tmp_path / "out"), "--shard-seconds", "5"]
        status = main(["encode", str(sounds), *fixed, "--log-format=json", *more])
        return status, [json.loads(line) for line in capsys.readouterr().err.splitlines()]

    return logged


def with_event(lines, event):
    return [line for line in lines if line.get("event") == event]


def test_every_shard_and_failed_clip(logged):
    status, lines = logged()
    assert status == 3
    for line in lines:
        assert {"time", "level", "logger", "message"} <= line.keys(), line
        assert line["time"].endswith("Z")
    assert "left out 1 files" in lines[0]["message"]
    started, published = (with_event(lines, f"shard {what}") for what in ("started", "published"))
    assert [line["shard"] for line in started] == [line["shard"] for line in published]
    assert sum(line["clips"] for line in published) == 5
    assert all(line["encode_seconds"] >= 0 for line in published)
    (failed,) = with_event(lines, "clip failed")
    assert (failed["key"], failed["stage"], failed["error"]) == (
        "c/bad.wav",
        "decode",
        "AudioError",
    )
    assert failed["shard"] in {line["shard"] for line in started}
    assert "no sound" in failed["reason"] or "not sound" in failed["reason"]
    assert lines[-1]["event"] == "run finished"
    assert (lines[-1]["clips"], lines[-1]["failed"], lines[-1]["finished"]) == (5, 1, True)
    again = logged()[1]
    skipped = with_event(again, "shard skipped")
    assert {line["shard"] for line in skipped} == {line["shard"] for line in published}


def test_errors_are_lines_too(logged):
    status, (first, _) = logged("--workers=0")
    assert (status, first["level"]) == (2, "ERROR")
    assert first["message"].startswith("--workers is 0")


def test_the_next_run_is_for_people_again(logged, capsys):
    logged()
    assert main(["info", "/there/is/none"]) == 1
    assert capsys.readouterr().err.startswith("dac-tokenize: ")
