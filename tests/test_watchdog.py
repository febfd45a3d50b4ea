"""Processes that end themselves; each in a process of its own."""

import subprocess
import sys
import time

import pytest

from dac_tokenize.watchdog import EXIT_STALLED

PROGRAM = """
import logging, time
logging.basicConfig()
from dac_tokenize.watchdog import Watchdog
{}
print("went on")
"""


def run(body):
    start = time.monotonic()
    program = PROGRAM.format(body)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60
    )
    return done.returncode, done.stdout + done.stderr, time.monotonic() - start


@pytest.mark.parametrize("hang", ["time.sleep(50)", "import threading; threading.Event().wait(50)"])
def test_who_hangs_is_ended_and_says_where(hang):
    status, said, seconds = run(f"with Watchdog(0.3, shard='data/x.parquet'): {hang}")
    assert status == EXIT_STALLED
    assert "worker lost shard=data/x.parquet reason=" in said
    assert "went on" not in said
    assert seconds < 30


@pytest.mark.parametrize(
    "body",
    [
        # Slower than the limit, but getting on.
        "with Watchdog(0.5) as dog: [(time.sleep(0.1), dog.beat()) for _ in range(12)]",
        # Over in time; what comes later is not watched.
        "with Watchdog(0.2): pass\ntime.sleep(0.6)",
        "with Watchdog(None): time.sleep(0.6)",
    ],
)
def test_who_gets_on_is_left_alone(body):
    status, said, _ = run(body)
    assert (status, said) == (0, "went on\n")
