r"""Time and memory of audits of real speech, over corpora of growing size.

    apt-get install asterisk-core-sounds-en-wav asterisk-core-sounds-fr-wav
    python benchmarks/audit.py /usr/share/asterisk/sounds work/audit --clips 1000

The first corpus is encoded. The larger ones name its sounds again under other keys, and take
their codes from it, so that only the audit is measured. Each audit is a process of its own.
"""

import argparse
import hashlib
import itertools
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from dac_tokenize.corpus import PlanRequest, finish_corpus, iter_rows, open_plan, tokenize_shard
from dac_tokenize.corpus.footer import package_versions
from dac_tokenize.references import Reference
from dac_tokenize.sources import list_references
from dac_tokenize.tokenizer import DacTokenizer, EncodedClip
from dac_tokenize.waveform import WaveformOptions


def make_corpus(output: Path, tokenizer: Any, references: list[Reference], name: str) -> None:
    """Encode references into a finished corpus; goes on where an earlier run stopped."""
    request = PlanRequest((name,), tokenizer.identity, WaveformOptions(), shard_seconds=600.0)
    plan = open_plan(str(output), request, lambda: references)
    results = [tokenize_shard(plan, index, tokenizer) for index in range(plan.num_shards)]
    finish_corpus(plan, str(output), results)


class Replayer:
    """Gives sound that was encoded before the codes it had then."""

    def __init__(self, tokenizer: DacTokenizer, corpus: Path, references: list[Reference]) -> None:
        from dac_tokenize.waveform import WaveformOpener

        self.identity = tokenizer.identity
        self.sampling_rate = tokenizer.sampling_rate
        opener = WaveformOpener(self.sampling_rate)
        by_key = {reference.key: reference for reference in references}
        self._codes = {
            _digest(opener.read(by_key[row["key"]])[0]): row["audio_codes"]
            for row in iter_rows(str(corpus), columns=["key", "audio_codes"])
        }

    def encode_stream(self, clips: Iterable[Iterable[Any]]) -> Iterator[EncodedClip]:
        """Do as `DacTokenizer.encode_stream` does."""
        for index, blocks in enumerate(clips):
            samples = np.concatenate([block[0] for block in blocks])
            yield EncodedClip(index, 0, self._codes[_digest(samples)], len(samples))


def _digest(samples: Any) -> bytes:
    return hashlib.sha256(samples.tobytes()).digest()


def audit(corpus: Path, report: Path, sample: int, page_clips: int) -> dict[str, Any]:
    """Audit in a process of its own; return its wall time, its peak memory and its figures."""
    command = [sys.executable, "-m", "dac_tokenize", "audit", str(corpus), "--output", str(report)]
    command += ["--sample", str(sample), "--page-clips", str(page_clips), "--device", "cpu"]
    command += ["--max-near-duplicate-share", "1"]
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    values = json.loads((report / "report.json").read_text())
    return {
        "rows": values["corpus"]["rows"],
        "hours": round(values["corpus"]["hours"], 3),
        "sample": values["sample"]["clips"],
        "sample_seconds": round(values["sample"]["seconds"], 1),
        "exit_status": os.waitstatus_to_exitcode(status),
        "faults": int(values["verdict"][0]["value"]),
        "agreement": values["fidelity"]["agreement"],
        "wall_seconds": round(seconds, 1),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "peak_mib": round(usage.ru_maxrss / 1024),
        "page_mb": round((report / "report.html").stat().st_size / 1e6, 2),
    }


def main() -> None:
    """Make the corpora, audit them, print figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sounds", help="folder of sounds")
    parser.add_argument("work", type=Path, help="folder for corpora and reports")
    parser.add_argument("--clips", type=int, default=1000)
    parser.add_argument("--copies", type=int, nargs="+", default=[4, 16])
    parser.add_argument("--sample", type=int, default=100, help="clips, where memory is compared")
    parser.add_argument("--model", help="name on the Hub or folder (default: the shipped codec)")
    options = parser.parse_args()
    listed = list(itertools.islice(iter(list_references([options.sounds])), options.clips))
    tokenizer = DacTokenizer.from_pretrained(options.model, device="cpu")
    base = options.work / "corpus-1"
    make_corpus(base, tokenizer, listed, "1")
    where = {"cpus": os.cpu_count(), "machine": platform.machine(), **package_versions()}
    print(json.dumps(where), flush=True)
    print(json.dumps(audit(base, options.work / "all", options.clips, 50)), flush=True)
    print(json.dumps(audit(base, options.work / "some-of-1", options.sample, 0)), flush=True)
    replayer = Replayer(tokenizer, base, listed)
    for copies in options.copies:
        many = [
            replace(reference, key=f"{copy:04d}/{reference.key}")
            for copy in range(copies)
            for reference in listed
        ]
        corpus = options.work / f"corpus-{copies}"
        make_corpus(corpus, replayer, many, str(copies))
        report = options.work / f"some-of-{copies}"
        print(json.dumps(audit(corpus, report, options.sample, 0)), flush=True)


if __name__ == "__main__":
    main()
