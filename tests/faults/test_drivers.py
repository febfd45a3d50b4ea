"""Drivers killed, and several at once: real processes, real signals."""

import random
import time

import pytest

KILLS = 20


def published(output) -> int:
    return len(list((output / "data").glob("*.parquet"))) if (output / "data").exists() else 0


def left_over(output) -> int:
    return sum(".tmp-" in path.name for path in output.rglob("*")) if output.exists() else 0


def test_killed_at_any_moment(runs, arguments, whole, check, report, tmp_path):
    """kill -9 at 20 random moments of a run, each time followed by one more run."""
    moments = random.Random(20)
    shards, left, seconds = [], [], []
    duration, late = whole[1], 0
    while len(shards) < KILLS:
        trial = len(shards)
        output = tmp_path / f"out{trial}-{late}"
        run = runs.start(arguments(output))
        # Never the same moment twice, from the first millisecond to the end.
        time.sleep(duration * (trial + moments.random()) / KILLS)
        if run.status is None:
            run.kill()
        if run.wait() == 0:  # it was quicker than the one that was timed: that is no kill
            duration, late = duration * 0.8, late + 1
            continue
        assert run.status == -9
        shards.append(published(output))
        left.append(left_over(output))
        again = runs.start(arguments(output))
        assert again.wait() == 0
        seconds.append(again.seconds)
        check(output)
    total = sum(name.startswith("data/") for name in whole[0])
    assert len(set(shards)) > 3, shards
    report(
        f"driver killed by SIGKILL at {KILLS} moments: {KILLS} of {KILLS} corpora identical after "
        f"one more run of {min(seconds):.1f} to {max(seconds):.1f} s; shards published when it "
        f"died: {', '.join(map(str, shards))} of {total}; temporary files it left: {sum(left)}, "
        "all swept"
    )


@pytest.mark.parametrize("delay", [0.0, 0.1, 0.5])
def test_two_drivers_at_once(runs, arguments, check, report, tmp_path, delay):
    first = runs.start(arguments(tmp_path / "out"))
    time.sleep(delay)
    second = runs.start(arguments(tmp_path / "out"))
    assert (first.wait(), second.wait()) == (0, 0)
    check(tmp_path / "out")
    report(f"two drivers on one output, {delay} s apart: both ended with 0, corpus identical")


def test_one_of_two_drivers_killed(runs, arguments, whole, check, report, tmp_path):
    first = runs.start(arguments(tmp_path / "out"))
    second = runs.start(arguments(tmp_path / "out"))
    time.sleep(whole[1] / 2)
    first.kill()
    assert first.wait() == -9
    assert second.wait() == 0
    # What the dead one left is swept by the next run, which encodes nothing.
    assert runs.start(arguments(tmp_path / "out")).wait() == 0
    check(tmp_path / "out")
    report("one of two drivers on one output killed: the other finished, corpus identical")
