"""The command line on real sound: faults planted at once and found, signals."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from dac_tokenize.cli import main
from tests.audit.corpora import cut_sounds, make_corpus, shards, spoil_footer, spoil_rows


def audit(corpus, report, *flags):
    """Audit all rows closely; return the exit status and the figures."""
    arguments = [corpus, "--output", str(report), "--fraction", "1", "--codebooks", "all"]
    status = main(["audit", *arguments, "--page-clips", "0", "--device", "cpu", *flags])
    return status, json.loads((Path(report) / "report.json").read_text())


def test_a_clean_corpus_passes_and_each_planted_fault_is_found(tokenizer, tmp_path, capsys):
    references = cut_sounds(tmp_path / "sounds")
    corpus = make_corpus(tmp_path, tokenizer, references)
    status, values = audit(corpus, tmp_path / "clean", "--no-stability")
    assert status == 0
    assert values["findings"] == []
    assert values["fidelity"]["agreement"] == 1.0
    Path(corpus, "_manifest.json").unlink()  # its checksums would tell each file at once
    names = {}

    def first(rows):
        names["shifted"], names["zeroed"] = rows[0]["key"], rows[1]["key"]
        rows[0]["audio_codes"] = np.roll(rows[0]["audio_codes"], 1, axis=1)
        rows[1]["audio_codes"][4] = 0

    def second(rows):
        one, other = rows[0], rows[1]
        names["swapped"] = [one["key"], other["key"]]
        for name in ("audio_codes", "num_frames", "num_samples", "duration_seconds"):
            one[name], other[name] = other[name], one[name]

    spoil_rows(shards(corpus)[0], first)
    spoil_rows(shards(corpus)[1], second)
    spoil_footer(
        shards(corpus)[2],
        lambda name, value: value.replace(b'"sampling_rate":16000', b'"sampling_rate":44100'),
    )
    replaced, other = references[7], references[8]
    samples, rate = soundfile.read(replaced.uri, dtype="float32")
    soundfile.write(
        replaced.uri, np.resize(soundfile.read(other.uri)[0], samples.shape), rate, subtype="FLOAT"
    )
    status, values = audit(corpus, tmp_path / "spoilt", "--no-stability")
    assert status == 4
    assert "NOT MET" in capsys.readouterr().out
    found = {}
    for finding in values["findings"]:
        found.setdefault(finding["check"], set()).add(finding["key"] or finding["where"])
    found.pop("unfinished")
    assert found.pop("footer") == {f"data/{shards(corpus)[2].name}"}
    assert found.pop("shifted") == {names["shifted"]}
    assert found.pop("constant-codebook") == {names["zeroed"]}
    assert found.pop("source") == set(names["swapped"])  # they have other lengths than their rows
    assert found.pop("fidelity") == {
        *names["swapped"],
        names["shifted"],
        names["zeroed"],
        replaced.key,
    }
    assert found == {}


def test_a_corpus_that_was_added_to(tmp_path):
    """All of it is audited, what was added by its own plan and sources."""
    folders = [tmp_path / "one", tmp_path / "two"]
    for index, reference in enumerate(cut_sounds(tmp_path / "sounds")):
        folder = folders[index >= 5]
        folder.mkdir(exist_ok=True)
        Path(reference.uri).rename(folder / Path(reference.uri).name)
    corpus = str(tmp_path / "out")
    for folder, more in zip(folders, ([], ["--append"]), strict=True):
        assert main(["encode", str(folder), "--output", corpus, "--device", "cpu", *more]) == 0
    status, values = audit(corpus, tmp_path / "clean", "--no-stability")
    assert (status, values["findings"]) == (0, [])
    assert values["corpus"]["rows"] == values["sample"]["clips"] == 9
    names = []

    def swap(rows):
        names.extend(row["key"] for row in rows[:2])
        for name in ("audio_codes", "num_frames", "num_samples", "duration_seconds"):
            rows[0][name], rows[1][name] = rows[1][name], rows[0][name]

    spoil_rows(shards(corpus)[-1], swap)
    status, values = audit(corpus, tmp_path / "spoilt", "--no-stability")
    assert status == 4
    found = {(one["check"], one["key"]) for one in values["findings"]}
    assert {("fidelity", name) for name in names} <= found


SLOW = """
import sys, time
from dac_tokenize.audit.measuring import Measurer
from dac_tokenize.cli import main

def measure(self, picks):
    print("measuring", flush=True)
    time.sleep(100)
    yield

Measurer.measure = measure
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    ("number", "flags"),
    [(signal.SIGTERM, []), (signal.SIGINT, ["--runner=FnApiRunner"])],
    ids=["here", "on-beam"],
)
def test_a_stopped_audit_ends_at_once_and_writes_nothing(clean_corpus, tmp_path, number, flags):
    report = tmp_path / "report"
    arguments = ["audit", clean_corpus, "--output", str(report), "--decode", "sample", *flags]
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "measuring\n", process.communicate()[1]
    start = time.monotonic()
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert time.monotonic() - start < 20
    assert process.returncode == 128 + number
    assert err.splitlines()[-1] == f"dac-tokenize: stopped by {number.name}"
    assert "Traceback" not in err, err
    assert not report.exists()
