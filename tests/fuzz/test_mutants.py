"""Twenty thousand broken files: no crash, no hang, no unnamed error, no memory over the bound."""

import json
import os
import struct
import subprocess
import sys
import time
from collections import Counter

import pytest

from tests.fuzz.mutants import MEMORY_BOUND_BYTES, mutant, read, seeds

NUM_MUTANTS = int(os.environ.get("DAC_TOKENIZE_FUZZ_MUTANTS", "20000"))
HANG_SECONDS = 20.0

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")


def test_the_seeds_are_sound():
    for name, data in seeds():
        # the file that the last row of the manifests names is not there
        missing = name in ("a.jsonl", "a.csv")
        assert read(name, data) == ("SourceError" if missing else "sound"), name


@pytest.mark.parametrize(
    ("how", "end", "error"),
    [("crash", "ended with status -6", None), ("hang", "hung", None), ("memory", "done", "Memory")],
)
def test_the_worker_is_caught(how, end, error, tmp_path, monkeypatch):
    monkeypatch.setattr(f"{__name__}.HANG_SECONDS", 2.0)
    monkeypatch.setenv("DAC_TOKENIZE_FUZZ_SABOTAGE", f"{how}:7")
    number, lines, found_end = run_worker(3, 20, tmp_path)
    assert (number, found_end) == (20 if end == "done" else 7, end)
    if error is not None:
        assert [(line["mutant"], error in line["error"]) for line in lines[:-1]] == [(7, True)]


def run_worker(first: int, last: int, folder) -> tuple[int, list[dict], str]:
    """Runs mutants in a process of their own: the first one not done, its lines, how it ended."""
    progress, output = folder / "progress", folder / "output"
    progress.write_bytes(struct.pack("<Q", first))
    command = [sys.executable, "-m", "tests.fuzz.mutants", str(first), str(last), str(progress)]
    # The bound is on address space, of which glibc reserves 128 MiB for each of Arrow's threads;
    # without room for another thread Arrow aborts.
    environment = os.environ | {"MALLOC_ARENA_MAX": "1"}
    with output.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, env=environment)
        seen, since = first, time.monotonic()
        while process.poll() is None:
            time.sleep(0.05)
            (number,) = struct.unpack("<Q", progress.read_bytes())
            if number != seen:
                seen, since = number, time.monotonic()
            elif time.monotonic() - since > HANG_SECONDS + 20 * (seen == first):
                process.kill()
                process.wait()
                return seen, [], "hung"
    (number,) = struct.unpack("<Q", progress.read_bytes())
    lines = [json.loads(line) for line in output.read_text().splitlines() if line.startswith("{")]
    end = "done" if process.returncode == 0 else f"ended with status {process.returncode}"
    return number, lines, end


@pytest.mark.timeout(1800)
def test_mutants(tmp_path, record_property, report):
    outcomes: Counter[str] = Counter()
    failures, grown, first, start = [], 0, 0, time.monotonic()
    while first < NUM_MUTANTS and len(failures) < 20:
        number, lines, end = run_worker(first, NUM_MUTANTS, tmp_path)
        for line in lines:
            if "mutant" in line:
                failures.append(f"mutant {line['mutant']} ({line['name']}): {line['error']}")
            else:
                outcomes.update(line["outcomes"])
                grown = max(grown, line["grown_bytes"])
        if end != "done":
            failures.append(f"mutant {number} ({mutant(number)[0]}): the process {end}")
        first = number + 1 if end != "done" else number
    seconds = time.monotonic() - start
    report(
        f"{first:,} mutants of {len(seeds())} files in {seconds:.0f} s: "
        f"{', '.join(f'{count:,} {name}' for name, count in outcomes.most_common())}; "
        f"{len(failures)} unnamed; memory grew by {grown / 2**20:.0f} MiB"
    )
    assert not failures, "\n".join(failures)
    assert grown <= MEMORY_BOUND_BYTES
