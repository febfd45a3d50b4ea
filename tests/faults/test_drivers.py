"""Drivers killed, and several at once: real processes, real signals."""

import bisect
import random
import time

import pytest

KILLS = 20


def published(output) -> int:
    return len(list((output / "data").glob("*.parquet"))) if (output / "data").exists() else 0


def left_over(output) -> int:
    return sum(".tmp-" in path.name for path in output.rglob("*")) if output.exists() else 0


def wait_until(run, output, shards, seconds) -> None:
    """Wait until a run has published some shards, and then a while, unless it ends."""
    while run.status is None and published(output) < shards:
        time.sleep(0.001)
    if run.status is None:
        time.sleep(seconds)


def test_killed_at_any_moment(runs, arguments, whole, check, report, tmp_path):
    """kill -9 at 20 random moments of a run, each time followed by one more run.

    Moments are drawn over a run that was measured, one in four from all of it, the others from
    between its first and its last shard. As runs differ in speed, each is given as the last shard
    that was published by then, and the time since.
    """
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")
    moments = random.Random(seed)
    _, duration, came = whole
    shards, left, seconds = [], [], []
    trial = 0
    while len(shards) < KILLS:
        trial += 1
        output = tmp_path / f"out{trial}"
        moment = (
            moments.uniform(0, duration) if trial % 4 == 0 else moments.uniform(came[0], came[-1])
        )
        before = bisect.bisect(came, moment)
        run = runs.start(arguments(output))
        wait_until(run, output, before, moment - ([0.0, *came])[before])
        if run.status is None:
            run.kill()
        if run.wait() == 0:  # it was quicker than the one that was timed: that is no kill
            continue
        assert run.status == -9
        shards.append(published(output))
        left.append(left_over(output))
        again = runs.start(arguments(output))
        assert again.wait() == 0
        seconds.append(again.seconds)
        check(output)
    total = len(came)
    among = sum(0 < count < total for count in shards)
    assert among >= KILLS // 2, (seed, shards)
    report(
        f"driver killed by SIGKILL at {KILLS} random moments (seed {seed}): {KILLS} of {KILLS} "
        f"corpora identical after one more run of {min(seconds):.1f} to {max(seconds):.1f} s; "
        f"{shards.count(0)} before the first shard, {among} among shards, {shards.count(total)} "
        f"after the last; shards published: {', '.join(map(str, sorted(shards)))} of {total}; "
        f"temporary files left: {sum(left)}, all swept"
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
    while published(tmp_path / "out") < 5:
        assert first.status is None
        time.sleep(0.002)
    first.kill()
    assert first.wait() == -9
    assert second.wait() == 0
    # What the dead one left is swept by the next run, which encodes nothing.
    assert runs.start(arguments(tmp_path / "out")).wait() == 0
    check(tmp_path / "out")
    report("one of two drivers on one output killed: the other finished, corpus identical")
