import io
import re
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dac_tokenize import progress
from dac_tokenize.corpus import ShardProgress, tokenize_shard
from dac_tokenize.corpus.planning import open_plan
from dac_tokenize.progress import (
    ProgressDisplay,
    Tally,
    describe,
    done_share,
    duration_text,
    report_clips,
    report_skipped,
)
from tests.corpus.fakes import FakeTokenizer, request, write_sounds

PLAN = SimpleNamespace(estimated_seconds=7200.0, num_clips=1000, output="out")


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def plan(tmp_path):
    references = write_sounds(tmp_path / "sounds", 9)
    return open_plan(str(tmp_path / "out"), request(), lambda: references)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    for name in ("BAR_SECONDS", "LINE_SECONDS"):
        monkeypatch.setattr(progress, name, 0.01)


def percentages(text):
    return [int(found) for found in re.findall(r"(\d+)%\|", text)]


def test_line():
    tally = Tally(clips=250, failed=2, seconds=1800.0)
    assert describe(tally, PLAN, 60.0) == (
        "0.50 of ~2.00 h, 30x real time, 250 of 1,000 clips, 2 failed, 3 min 0 s left"
    )
    assert describe(Tally(), PLAN, 0.0) == (
        "0.00 of ~2.00 h, 0x real time, 0 of 1,000 clips, 0 failed"
    )


def test_speed_is_of_what_this_run_did():
    resumed = Tally(clips=500, failed=0, seconds=3600.0, skipped_seconds=3000.0)
    text = describe(resumed, PLAN, 60.0)
    assert "10x real time" in text
    assert text.endswith("6 min 0 s left")
    assert "0x real time" in describe(Tally(500, 0, 3600.0, 3600.0), PLAN, 60.0)


def test_nothing_is_left_after_the_last_clip():
    assert "left" not in describe(Tally(1000, 0, 5000.0), PLAN, 60.0)


@given(
    clips=st.integers(0, 2000),
    failed=st.integers(0, 2000),
    seconds=st.floats(0, 1e6),
    estimated=st.floats(0, 1e5),
)
def test_share_never_reaches_the_end(clips, failed, seconds, estimated):
    plan = SimpleNamespace(estimated_seconds=estimated, num_clips=1000)
    assert 0 <= done_share(Tally(clips, failed, seconds), plan) <= 0.99
    assert "nan" not in describe(Tally(clips, failed, seconds), plan, 1.0)


def test_failed_clips_bring_a_run_forward():
    assert done_share(Tally(500, 500, 0.0), PLAN) == pytest.approx(0.5)
    assert done_share(Tally(500, 250, 1800.0), PLAN) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (3600, "1 h 0 min"), (90_061, "25 h 1 min")],
)
def test_duration(seconds, text):
    assert duration_text(seconds) == text


def test_bar_ends_at_its_end_only_when_the_run_does():
    terminal = Terminal()
    with ProgressDisplay(PLAN, stream=terminal) as display:
        report_clips(ShardProgress(0, 1000, 0, 9000.0))
        display._show(display._source.tally())
        assert max(percentages(terminal.getvalue())) == 99
    last = terminal.getvalue().rstrip().rpartition("\r")[2]
    assert percentages(last) == [100]
    assert "2.50 of ~2.00 h" in last
    assert "1,000 of 1,000 clips, 0 failed" in last


def test_bar_of_a_run_that_fails_stays_where_it_is():
    terminal = Terminal()

    def fail():
        with ProgressDisplay(PLAN, stream=terminal):
            report_clips(ShardProgress(0, 500, 0, 3600.0))
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        fail()
    assert max(percentages(terminal.getvalue())) == 50


def test_lines_elsewhere(plan):
    stream = io.StringIO()
    with ProgressDisplay(plan, stream=stream) as display:
        for index in range(plan.num_shards):
            tokenize_shard(plan, index, FakeTokenizer(), on_progress=report_clips)
        display._show(display._source.tally())
    lines = stream.getvalue().splitlines()
    assert all(line.startswith("dac-tokenize: ") for line in lines)
    assert "9 of 9 clips, 0 failed" in lines[-1]
    assert "\r" not in stream.getvalue()


def test_each_run_begins_at_nothing(plan):
    for _ in range(2):
        with ProgressDisplay(plan, stream=io.StringIO()) as display:
            report_clips(ShardProgress(0, 1, 1, 0.5))
            report_skipped(tokenize_shard(plan, 0, FakeTokenizer()))
            tally = display._source.tally()
        assert (tally.failed, tally.clips) == (1, 1 + tokenize_shard(plan, 0, NothingLeft()).clips)
        assert tally.seconds == pytest.approx(tally.skipped_seconds + 0.5)


class NothingLeft(FakeTokenizer):
    def encode_stream(self, clips):
        raise AssertionError("the shard is there")


def test_published_shards_are_counted(plan, monkeypatch):
    """As for runners whose workers are elsewhere."""
    monkeypatch.setattr(progress, "POLL_SECONDS", 0.0)
    first = tokenize_shard(plan, 0, FakeTokenizer())
    display = ProgressDisplay(plan, in_process=False, stream=io.StringIO())
    before = display._source.tally()
    assert (before.clips, before.seconds) == (first.clips, before.skipped_seconds)
    second = tokenize_shard(plan, 1, FakeTokenizer())
    for _ in range(2):
        after = display._source.tally()
        assert after.clips == first.clips + second.clips
        assert after.seconds - after.skipped_seconds == pytest.approx(second.seconds)


def test_store_that_fails_does_not_end_the_run(plan, monkeypatch):
    def refuse(url):
        raise OSError("no network")

    monkeypatch.setattr(progress.files, "list_names", refuse)
    with ProgressDisplay(plan, in_process=False, stream=io.StringIO()) as display:
        assert display._thread.is_alive()
        display._stop.wait(0.05)
        assert display._thread.is_alive()
