"""Parts of a Flink cluster killed while they encode: its own retry ends with the same corpus."""

import os
import re
import threading
import time
from dataclasses import dataclass

from dac_tokenize import files
from dac_tokenize.cli import main
from dac_tokenize.corpus.verifying import verify_corpus
from tests.corpus.test_tokenizing import tree
from tests.engines.flink import flink_cluster  # noqa: F401

CLIP_SECONDS = 0.3
MARGIN = 4
"""So many shards more are there at each kill, and so many at least are missing at the last."""


def published(output) -> dict[str, int]:
    """Return the shards that are there, and which file each is."""
    return {path.name: path.stat().st_ino for path in (output / "data").glob("*.parquet")}


def in_the_making(output, pool) -> list[str]:
    """Return the shards that the workers of one pool have begun and not published."""
    names = []
    for path in (output / "data").glob(".*.tmp-*"):
        if not files.is_living_temporary(str(output / "data"), path.name):
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
    """One kill: of what, and what was there at that moment."""

    victim: str
    moment: float
    before: dict[str, int]
    begun: list[str]


class Killer(threading.Thread):
    """Kills parts of a cluster, each while one of its workers is in the middle of a shard."""

    def __init__(self, output, cluster) -> None:
        super().__init__(daemon=True)
        self._output = output
        self._pools = cluster.pools
        self._victims = [("TaskManager", 1, cluster.kill_task_manager)]
        self._ended = threading.Event()
        self.kills: list[Kill] = []

    def run(self) -> None:
        for victim, index, kill in self._victims:
            least = MARGIN + (len(self.kills[-1].before) if self.kills else 0)
            while not (begun := self._half_done(self._pools[index], least)):
                if self._ended.wait(0.01):
                    return
            there = published(self._output)
            self.kills.append(Kill(victim, time.monotonic(), there, begun))
            kill(index)

    def _half_done(self, pool, least: int) -> list[str]:
        """Return the shards that a pool's worker has been at for a while, once enough are there."""
        begun = in_the_making(self._output, pool)
        if not begun or len(published(self._output)) < least:
            return []
        time.sleep(CLIP_SECONDS / 3)
        return begun if in_the_making(self._output, pool) == begun else []

    def stop(self) -> None:
        self._ended.set()
        self.join()


def test_task_manager_killed_in_mid_shard(
    flink_cluster,  # noqa: F811
    arguments,
    whole,
    report,
    tmp_path,
    capsys,
):
    """The job goes on with the TaskManager that takes its place."""
    cluster, output = flink_cluster, tmp_path / "out"
    cluster.wait_for_task_managers()
    killer = Killer(output, cluster)
    with cluster.logs_shown_on_failure(), cluster.slow(CLIP_SECONDS):
        killer.start()
        try:
            assert main(arguments(output, *cluster.options())) == 0
        finally:
            killer.stop()
        ended = time.monotonic()
        state, failures = cluster.last_job()
        assert [kill.victim for kill in killer.kills] == ["TaskManager"]
        assert state == "FINISHED"
        assert failures >= len(killer.kills)
    after = published(output)
    for kill in killer.kills:
        assert len(kill.before) <= len(after) - MARGIN
        assert not set(kill.begun) & set(kill.before)
        assert {name: after[name] for name in kill.before} == kill.before, "made again"
    assert tree(output) == whole[0]
    found = verify_corpus(str(output))
    assert (found.findings, found.rows) == ((), 30)
    assert f"{output}: 30 of 31 clips encoded, " in capsys.readouterr().out
    for kill in killer.kills:
        report(
            f"Flink {cluster.versions['flink']}, {kill.victim} killed with {len(kill.before)} of "
            f"{len(after)} shards published and {len(kill.begun)} of its own half done: the job "
            f"finished {ended - kill.moment:.0f} s later by Flink's own retry, none of the "
            f"{len(kill.before)} made again, corpus identical"
        )
