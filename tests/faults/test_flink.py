"""Parts of a Flink cluster killed while they encode, and a driver that is stopped."""

import os
import re
import signal
import threading
import time
from dataclasses import dataclass

import pytest

from dac_tokenize import temporaries
from dac_tokenize.cli import main
from dac_tokenize.corpus.verifying import verify_corpus
from tests.corpus.test_tokenizing import tree
from tests.engines.flink import flink_cluster  # noqa: F401

CANCEL_SECONDS = 30.0
CLIP_SECONDS = 0.3
MARGIN = 4
"""So many shards at least are there at a kill, and so many are missing."""


def published(output) -> dict[str, int]:
    """Return the shards that are there, and which file each is."""
    return {path.name: path.stat().st_ino for path in (output / "data").glob("*.parquet")}


def in_the_making(output, pool) -> list[str]:
    """Return the shards that the workers of one pool have begun and not published."""
    names = []
    for path in (output / "data").glob(".*.tmp-*"):
        if not temporaries.is_living_temporary(str(output / "data"), path.name):
            continue
        name, pid = re.fullmatch(r"\.(.+)\.tmp-\w+-(\d+)-\w+", path.name).groups()
        try:
            if os.getpgid(int(pid)) == pool.pid:
                names.append(name)
        except ProcessLookupError:
            pass
    return names


@dataclass
class Kill:
    """What was there at the moment of a kill."""

    moment: float
    before: dict[str, int]
    begun: list[str]


class Killer(threading.Thread):
    """Kills a part of a cluster while one of its workers is in the middle of a shard."""

    def __init__(self, output, pool, kill) -> None:
        super().__init__(daemon=True)
        self._output, self._pool, self._do_kill = output, pool, kill
        self._ended = threading.Event()
        self.kill: Kill | None = None

    def run(self) -> None:
        while not (begun := self._half_done()):
            if self._ended.wait(0.01):
                return
        self.kill = Kill(time.monotonic(), published(self._output), begun)
        self._do_kill()

    def _half_done(self) -> list[str]:
        """Return the shards that the pool's worker has been at for a while, once some are there."""
        begun = in_the_making(self._output, self._pool)
        if not begun or len(published(self._output)) < MARGIN:
            return []
        time.sleep(CLIP_SECONDS / 3)
        return begun if in_the_making(self._output, self._pool) == begun else []

    def stop(self) -> None:
        self._ended.set()
        self.join()


@pytest.fixture
def cluster(flink_cluster):  # noqa: F811
    """The cluster, whole again, its workers slow."""
    flink_cluster.wait_for_task_managers()
    with flink_cluster.logs_shown_on_failure(), flink_cluster.slow(CLIP_SECONDS):
        yield flink_cluster


@pytest.mark.parametrize("victim", ["TaskManager", "worker pool", "TaskManager with its pool"])
def test_part_killed_in_mid_shard(cluster, victim, arguments, whole, report, tmp_path, capsys):
    """The job goes on with what takes the victim's place."""
    output = tmp_path / "out"

    def kill() -> None:
        if "TaskManager" in victim:
            cluster.kill_task_manager(1)
        if "pool" in victim:
            cluster.kill_pool(1)

    killer = Killer(output, cluster.pools[1], kill)
    killer.start()
    try:
        assert main(arguments(output, *cluster.options())) == 0
    finally:
        killer.stop()
    ended = time.monotonic()
    state, failures = cluster.last_job()
    assert state == "FINISHED"
    assert failures >= 1
    killed, after = killer.kill, published(output)
    assert len(killed.before) <= len(after) - MARGIN
    assert not set(killed.begun) & set(killed.before)
    assert {name: after[name] for name in killed.before} == killed.before, "made again"
    assert tree(output) == whole[0]
    found = verify_corpus(str(output))
    assert (found.findings, found.rows) == ((), 30)
    assert f"{output}: 30 of 31 clips encoded, " in capsys.readouterr().out
    report(
        f"Flink {cluster.versions['flink']}, {victim} killed with {len(killed.before)} of "
        f"{len(after)} shards published and {len(killed.begun)} of its own half done: the job "
        f"finished {ended - killed.moment:.0f} s later by Flink's own retry, none of the "
        f"{len(killed.before)} made again, corpus identical"
    )


def test_stopped_driver_cancels_its_job(cluster, arguments, runs, report, tmp_path):
    """Ctrl-C leaves nothing at work in the cluster."""
    output, folder = tmp_path / "out", tmp_path / "tmp"
    folder.mkdir()  # keeps what Beam has for a job's submission out of the other runs' folder
    run = runs.start([f"TMPDIR={folder}", *arguments(output, *cluster.options())])
    while len(published(output)) < MARGIN:
        assert not run.ended.wait(0.1), "ended by itself"
    os.kill(run.pid, signal.SIGINT)
    assert run.wait() == 128 + signal.SIGINT
    stopped = time.monotonic()
    while (state := cluster.last_job()[0]) != "CANCELED":
        assert time.monotonic() < stopped + CANCEL_SECONDS, state
        time.sleep(0.1)
    seconds = time.monotonic() - stopped
    there = published(output)
    time.sleep(5 * CLIP_SECONDS)
    assert published(output) == there, "the job goes on"
    report(f"Flink: driver stopped by SIGINT, its job cancelled {seconds:.1f} s after it had ended")
