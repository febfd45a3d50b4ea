"""Real signals to a real process, and a real terminal."""

import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.codec.models import random_clip

RATE = 1_000
PROCESSES = ["--workers=2"]


@pytest.fixture
def command(codec, tmp_path):
    """A run of many small shards, long enough to be stopped in the middle."""
    folder = tmp_path / "sounds"
    folder.mkdir()
    clip = np.clip(random_clip(60_000, 0), -1, 1)
    for index in range(400):
        soundfile.write(folder / f"{index:03d}.wav", clip, RATE, subtype="FLOAT")
    fixed = ["--model", codec, "--output", str(tmp_path / "out"), "--shard-seconds", "60"]
    return [sys.executable, "-m", "dac_tokenize", "encode", str(folder), *fixed]


def shards(output):
    return sorted((output / "data").glob("train-*")) if output.exists() else []


def wait_for_shards(process, output, count=3):
    deadline = time.monotonic() + 240
    while len(shards(output)) < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def children(process):
    found = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(process)], check=False, capture_output=True, text=True
    )
    own = [int(pid) for pid in found.stdout.split()]
    return own + [pid for child in own for pid in children(child)]


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize(
    ("number", "where"),
    [(signal.SIGINT, []), (signal.SIGTERM, []), (signal.SIGINT, PROCESSES)],
    ids=["SIGINT", "SIGTERM", "SIGINT-processes"],
)
def test_stopped_run_ends_at_once_and_clean(command, tmp_path, number, where):
    output = tmp_path / "out"
    process = subprocess.Popen(
        [*command, *where],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        start_new_session=True,
    )
    wait_for_shards(process, output)
    workers = children(process.pid)
    assert bool(workers) == bool(where)
    start = time.monotonic()
    if where:  # as Ctrl-C does it
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert time.monotonic() - start < 15
    assert process.returncode == 128 + number
    assert out == ""
    assert "Traceback" not in err, err
    assert all(line.startswith("dac-tokenize: ") for line in err.splitlines()), err
    last = err.splitlines()[-1]
    found = re.fullmatch(
        rf"dac-tokenize: stopped by {number.name}: ([\d,]+) of 400 shards are done "
        r"\(.* clips, .* h\) and stay; the same command goes on from there",
        last,
    )
    assert found, err
    assert int(found[1]) == len(shards(output)) < 400
    temporary = (".tmp-", "pymp-", "beam-")
    assert [
        path for path in tmp_path.rglob("*") if any(map(path.name.__contains__, temporary))
    ] == []
    assert not [pid for pid in workers if is_alive(pid)]


def test_bar_on_a_terminal(command, tmp_path):
    driver, terminal = pty.openpty()
    termios.tcsetwinsize(driver, (40, 80))
    process = subprocess.Popen(
        [*command[:4], str(tmp_path / "sounds/00*"), *command[5:]],
        stdout=subprocess.PIPE,
        stderr=terminal,
    )
    os.close(terminal)
    shown = b""
    while True:
        ready, _, _ = select.select([driver], [], [], 240)
        assert ready
        try:
            data = os.read(driver, 4096)
        except OSError:  # the other end is closed
            break
        if not data:
            break
        shown += data
    assert process.wait(60) == 0
    text = shown.decode()
    assert "dac-tokenize:" not in text
    percentages = [int(found) for found in re.findall(r"(\d+)%\|", text)]
    assert percentages == sorted(percentages)
    assert percentages[-1] == 100
    last = text.rstrip().rpartition("\r")[2]
    assert re.search(r"0\.17 of ~0\.17 h, [\d.e+]+x real time, 10 of 10 clips, 0 failed", last)
