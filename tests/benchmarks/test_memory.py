"""The most memory held, from one moment to another."""

import subprocess
import sys

import pytest

SCRIPT = """
from benchmarks.memory import peak_bytes, reset_peak_bytes
before = peak_bytes()
held = bytearray(300_000_000)
first = peak_bytes() - before
del held
reset_peak_bytes()
print(first > 250_000_000, peak_bytes() - before < 50_000_000)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is counted anew on Linux only")
def test_peak_is_counted_anew() -> None:
    found = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)
    assert found.stdout.split() == ["True", "True"], found.stderr
