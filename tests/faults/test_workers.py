"""`--workers`: processes killed, hung and orphaned on one machine; real processes, real signals."""

import json
import os
import random
import signal
import socket
import time
from pathlib import Path

import pytest

from tests.faults.test_drivers import left_over, published

STALL_SECONDS = 2


def children(process) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            after_name = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(after_name[1]) == process and after_name[0] != "Z":
            found.append(int(stat.parent.name))
    return found


def workers_of(run) -> list[int]:
    """Workers are forked by a process that the run has started for that."""
    return sorted(pid for server in children(run.pid) for pid in children(server))


def wait_for(condition, run, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert run.status is None, run.status
        assert time.monotonic() < deadline
        time.sleep(0.005)


def are_gone(pids) -> bool:
    return not any(os.path.exists(f"/proc/{pid}") for pid in pids)


def test_killed_workers(runs, arguments, whole, check, log, report, tmp_path):
    """kill -9 of a worker at three moments of one run."""
    output = tmp_path / "out"
    moments = sorted(random.Random(3).sample(range(1, 16), 3))
    before = log.stat().st_size
    run = runs.start(arguments(output, "--workers=2"))
    killed = []
    for shards in moments:
        wait_for(lambda shards=shards: published(output) >= shards, run)
        # One just killed may still be there.
        wait_for(lambda: set(workers_of(run)) - set(killed), run)
        killed.append(random.Random(shards).choice(sorted(set(workers_of(run)) - set(killed))))
        os.kill(killed[-1], signal.SIGKILL)
    assert run.wait() == 0
    check(output)
    said = log.read_text()[before:]
    assert "Traceback" not in said
    lost = [line for line in said.splitlines() if "worker lost" in line]
    assert len(lost) == 3
    assert all('reason="killed by SIGKILL"' in line for line in lost), lost
    assert are_gone(killed)
    report(f"--workers 2: a worker killed after {moments} shards: the run went on, identical")


def test_driver_killed(runs, arguments, whole, check, report, tmp_path):
    """Its workers notice, drop what they have in flight, and end."""
    output = tmp_path / "out"
    run = runs.start(arguments(output, "--workers=2"))
    wait_for(lambda: published(output) >= 4, run)
    started = children(run.pid)
    workers = workers_of(run)
    assert len(workers) == 2
    run.kill()
    assert run.wait() == -9
    killed = time.monotonic()
    while not are_gone(workers + started):
        assert time.monotonic() < killed + 10, workers
        time.sleep(0.01)
    took = time.monotonic() - killed
    left = left_over(output)
    there = published(output)
    assert runs.start(arguments(output)).wait() == 0
    check(output)
    report(
        f"--workers 2, driver killed after {there} shards: workers gone after {took:.2f} s, "
        f"{left} temporary files left; one more run: identical"
    )


@pytest.fixture
def silent_server():
    """A web server that accepts connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_input_that_hangs(runs, arguments, sounds, silent_server, log, report, tmp_path):
    """A clip whose server never answers stalls its worker: three times, then its shard is named."""
    listing = tmp_path / "clips.jsonl"
    paths = [str(path) for path in sorted(sounds.glob("clip0*.wav"))]
    paths.insert(4, f"{silent_server}/hangs.wav")
    rows = [{"path": path, "key": f"{i:02d}", "duration": 4.0} for i, path in enumerate(paths)]
    rows = [row | ({"offset": 0.0} if "http" in row["path"] else {}) for row in rows]
    listing.write_text("".join(json.dumps(row) + "\n" for row in rows))
    output = tmp_path / "out"
    command = arguments(output, "--workers=2", f"--stall-timeout-seconds={STALL_SECONDS}")
    command[1] = str(listing)
    before = log.stat().st_size
    run = runs.start([*command, "--log-format=json"])
    assert run.wait() == 5
    lines = [json.loads(x) for x in log.read_text()[before:].splitlines() if x.startswith("{")]
    lost = [line for line in lines if line.get("event") in ("worker lost", "shard given up")]
    assert [line["losses"] for line in lost] == [1, 2, 3]
    (shard,) = {line["shard"] for line in lost}
    assert all(f"finished nothing for {STALL_SECONDS} s" in line["reason"] for line in lost)
    last = lines[-1]
    assert last["level"] == "ERROR"
    assert f"1 of {len(rows)} shards could not be made: {shard} (3 workers lost" in last["message"]
    there = {path.name for path in (output / "data").glob("*.parquet")}
    assert len(there) == len(rows) - 1
    assert Path(shard).name not in there
    assert left_over(output) == 0
    report(
        f"an input that never answers: 3 workers killed after {STALL_SECONDS} s each, its shard "
        f"named, {len(there)} of {len(rows)} shards made, status 5"
    )
