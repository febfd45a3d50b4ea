r"""Time and memory of audits of real speech, over corpora of growing size.

    apt-get install asterisk-core-sounds-{en,es,fr,it,ru}-wav
    python -m benchmarks.audit /usr/share/asterisk/sounds work/audit --clips 1000

`all` holds every clip of one corpus to its source. `rows-N` audits corpora of N rows, all decoded,
and holds the same few clips of each to their sources, so that what grows is the corpus's doing.
The first corpus is encoded; the others name its sounds again under other keys, and take their
codes from it. Each audit is a process of its own. `--steps` runs some of the steps; what earlier
ones found is kept in the folder.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import print_table, write_json
from dac_tokenize.corpus import PlanRequest, finish_corpus, iter_rows, open_plan, tokenize_shard
from dac_tokenize.references import Reference
from dac_tokenize.sources import list_references
from dac_tokenize.tokenizer import DacTokenizer, EncodedClip
from dac_tokenize.waveform import WaveformOpener, WaveformOptions

SAMPLE = 20
_LEAST_BYTES = 2_000  # some of the recordings are empty


def some_references(sounds: str, count: int) -> list[Reference]:
    """Return so many recordings, evenly spread over all of a folder."""
    found = [one for one in list_references([sounds]) if (one.size_bytes or 0) > _LEAST_BYTES]
    if len(found) < count:
        raise SystemExit(f"{sounds} has {len(found)} recordings; {count} are wanted")
    return [found[place * len(found) // count] for place in range(count)]


def make_corpus(output: Path, tokenizer: Any, references: list[Reference]) -> None:
    """Encode references into a finished corpus; goes on where an earlier run stopped."""
    request = PlanRequest(
        (output.name,), tokenizer.identity, WaveformOptions(), shard_seconds=600.0
    )
    plan = open_plan(str(output), request, lambda: references)
    results = [tokenize_shard(plan, index, tokenizer) for index in range(plan.num_shards)]
    finish_corpus(plan, str(output), results)


class Replayer:
    """Gives sound that was encoded before the codes it had then."""

    def __init__(self, tokenizer: DacTokenizer, corpus: Path, references: list[Reference]) -> None:
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


def named_again(references: list[Reference], count: int) -> list[Reference]:
    """Return so many references to the same recordings, each with a key of its own."""
    return [
        replace(
            references[place % len(references)],
            key=f"{place // len(references):04d}/{references[place % len(references)].key}",
        )
        for place in range(count)
    ]


def audit(corpus: Path, report: Path, *flags: str) -> dict[str, Any]:
    """Audit in a process of its own; return its wall time, its peak memory and its figures."""
    command = [sys.executable, "-m", "dac_tokenize", "audit", str(corpus), "--output", str(report)]
    command += ["--device", "cpu", "--max-near-duplicate-share", "1", *flags]
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    values = json.loads((report / "report.json").read_text())
    return {
        "rows": values["corpus"]["rows"],
        "hours": round(values["corpus"]["hours"], 3),
        "decoded_rows": values["sound"]["decoded_rows"],
        "clips": values["sample"]["clips"],
        "clip_seconds": round(values["sample"]["seconds"], 1),
        "exit_status": os.waitstatus_to_exitcode(status),
        "faults": int(values["verdict"][0]["value"]),
        "agreement": values["fidelity"]["agreement"],
        "wall_seconds": round(seconds, 1),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "peak_mib": round(usage.ru_maxrss / 1024),
        "page_mb": round((report / "report.html").stat().st_size / 1e6, 2),
    }


def main() -> None:
    """Make the corpora, audit them, write figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sounds", help="folder of sounds")
    parser.add_argument("work", type=Path, help="folder for corpora and reports")
    parser.add_argument("--clips", type=int, default=1000)
    parser.add_argument("--rows", type=int, nargs="+", default=[100, 300, 1000, 3000])
    parser.add_argument("--steps", nargs="+", help="prepare, all, rows-N (default: all of them)")
    parser.add_argument("--model", help="name on the Hub or folder (default: the shipped codec)")
    options = parser.parse_args()
    steps = options.steps or ["prepare", "all", *(f"rows-{rows}" for rows in options.rows)]
    listed = some_references(options.sounds, options.clips)
    base = options.work / "corpus"
    if "prepare" in steps:
        tokenizer = DacTokenizer.from_pretrained(options.model, device="cpu")
        make_corpus(base, tokenizer, listed)
        replayer = Replayer(tokenizer, base, listed)
        for rows in options.rows:
            make_corpus(options.work / f"rows-{rows}", replayer, named_again(listed, rows))
    found_path = options.work / "found.json"
    found = json.loads(found_path.read_text()) if found_path.exists() else {}
    if "all" in steps:
        found["all"] = audit(base, options.work / "all-report", "--fraction", "1")
    sample = [one.key for one in named_again(listed, min(options.rows))]
    keys = sample[:: max(len(sample) // SAMPLE, 1)][:SAMPLE]
    for rows in options.rows:
        if (name := f"rows-{rows}") in steps:
            flags = ["--decode", "all", "--page-clips", "0", "--keys", *keys]
            found[name] = audit(options.work / name, options.work / f"{name}-report", *flags)
    found_path.write_text(json.dumps(found, indent=2) + "\n")
    columns = ("rows", "decoded_rows", "clips", "wall_seconds", "cpu_seconds", "peak_mib")
    print_table(
        ("step", *columns),
        [(name, *(one[column] for column in columns)) for name, one in found.items()],
    )
    write_json("audit", {"audits": found})


if __name__ == "__main__":
    main()
