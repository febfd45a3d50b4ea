"""One way to make codes in a process of its own, with its steps timed: a part of other benchmarks.

    python -m benchmarks.watched REPORT.json cli encode sounds --output out
    python -m benchmarks.watched REPORT.json engine MODEL CODES.npz FILE...
    python -m benchmarks.watched REPORT.json map MODEL CODES.npz FILE...

`cli` runs the command line as it is, `engine` only `DacTokenizer.encode` on sound in memory, and
`map` `datasets.map` with `encode_batch`. Steps are timed by wrapping functions from outside.
"""

import functools
import importlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.memory import peak_bytes

MAP_BATCH = 100
Report = dict[str, Any]


def watch(arguments: list[str], folder: Path) -> Report:
    """Run one way in a process of its own.

    Args:
        arguments: what follows REPORT.json above.
        folder: where the report may lie.

    Returns:
        What the process reported: moments (`_at`, seconds since the process was started), seconds
        of its steps, `peak_bytes` of resident memory, `work_cpu_seconds` of all threads from the
        start of the work to its end, and `wall_seconds`.
    """
    path = folder / "report.json"
    command = [sys.executable, "-m", "benchmarks.watched", str(path), *arguments]
    start = time.time()
    done = subprocess.run(command, capture_output=True, text=True)
    wall = time.time() - start
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)[:500]} failed: {done.stderr[-2000:]}")
    report: Report = json.loads(path.read_text())
    moments = {name: at - start for name, at in report.items() if name.endswith("_at")}
    return report | moments | {"wall_seconds": wall}


class Watch:
    """What has been seen in this process."""

    def __init__(self) -> None:
        self.moments: dict[str, float] = {}
        self.processor: dict[str, float] = {}
        self.seconds: dict[str, float] = defaultdict(float)
        self.batches: list[float] = []
        self.shards = 0
        self.audio_seconds = 0.0
        self._lock = threading.Lock()

    def add(self, name: str, seconds: float) -> None:
        """Add seconds to a step."""
        with self._lock:
            self.seconds[name] += seconds

    def mark(self, name: str, first: bool = False) -> None:
        """Note a moment, the first of its name or the last."""
        if not (first and name in self.moments):
            self.moments[name], self.processor[name] = time.time(), time.process_time()

    def timing(
        self, name: str, function: Callable[..., Any], clock: Callable[[], float]
    ) -> Callable[..., Any]:
        """Return `function`, its calls added to a step."""

        @functools.wraps(function)
        def timed(*args: Any, **options: Any) -> Any:
            start = clock()
            try:
                return function(*args, **options)
            finally:
                self.add(name, clock() - start)

        return timed

    def iterating(self, name: str, items: Iterable[Any]) -> Iterator[Any]:
        """Yield from `items`, the processor time of this thread in them added to a step."""
        waiting = iter(items)
        while True:
            start = time.thread_time()
            item = next(waiting, None)
            self.add(name, time.thread_time() - start)
            if item is None:
                return
            yield item

    def report(self) -> Report:
        """Return all of it, and what the process has used."""
        used = self.processor["work_ends"] - self.processor["work_starts"]
        first = self.batches[0] - float(np.median(self.batches)) if self.batches else 0.0
        return {
            **{f"{name}_at": at for name, at in self.moments.items()},
            **{f"{name}_seconds": seconds for name, seconds in self.seconds.items()},
            "codec_seconds": sum(self.batches) - max(first, 0.0),
            "warm_up_seconds": max(first, 0.0),
            "batches": len(self.batches),
            "shards": self.shards,
            "audio_seconds": self.audio_seconds,
            "work_cpu_seconds": used,
            "peak_bytes": peak_bytes(),
        }


def watch_codec(seen: Watch) -> None:
    """Time the loading of the codec and each batch through it."""
    from dac_tokenize.codec.engine import CodecEngine
    from dac_tokenize.tokenizer import DacTokenizer

    loading = seen.timing("load", DacTokenizer.from_pretrained, time.perf_counter)
    DacTokenizer.from_pretrained = loading  # type: ignore[method-assign, assignment]
    start_batch = CodecEngine.start_batch

    def timed(self: Any, batch: Any) -> Any:
        # On a GPU these are the seconds spent handing over and waiting, not those it computes.
        start = time.perf_counter()
        results = start_batch(self, batch)
        started = time.perf_counter() - start

        def wait() -> Any:
            start = time.perf_counter()
            codes = results()
            seen.batches.append(started + time.perf_counter() - start)
            return codes

        return wait

    CodecEngine.start_batch = timed  # type: ignore[method-assign]


def watch_sound(seen: Watch) -> None:
    """Time opening, decoding and resampling, in whatever thread they run."""
    from dac_tokenize.waveform import opening

    opened, resampled = opening.open_sound, opening.resample_blocks
    opening.open_sound = seen.timing("open", opened, time.thread_time)

    def resample(blocks: Any, *options: Any) -> Iterator[Any]:
        decoded = seen.iterating("decode", blocks)
        return seen.iterating("decode_and_resample", resampled(decoded, *options))

    opening.resample_blocks = resample


def run_cli(seen: Watch, arguments: list[str]) -> None:
    """Run the command line."""
    from dac_tokenize import corpus
    from dac_tokenize.beam import corpus as transforms
    from dac_tokenize.cli import main

    tokenize_shard = transforms.tokenize_shard

    def timed(*args: Any, **options: Any) -> Any:
        seen.mark("work_starts", first=True)
        result = tokenize_shard(*args, **options)
        seen.mark("work_ends")
        for step in ("read", "encode", "write"):
            seen.add(step, getattr(result, f"{step}_seconds"))
        seen.shards += 1
        seen.audio_seconds += result.seconds
        return result

    transforms.tokenize_shard = timed
    corpus.open_plan = seen.timing("plan", corpus.open_plan, time.perf_counter)
    watch_sound(seen)
    seen.mark("imported")
    status = main(arguments)
    if status:
        raise SystemExit(status)


def run_engine(seen: Watch, model: str, codes: str, *paths: str) -> None:
    """Encode sound that lies in memory."""
    from dac_tokenize.references import Reference
    from dac_tokenize.tokenizer import DacTokenizer
    from dac_tokenize.waveform import WaveformOpener

    seen.mark("imported")
    tokenizer = DacTokenizer.from_pretrained(model or None)
    opener = WaveformOpener(tokenizer.sampling_rate)
    clips = [opener.read(Reference(path, path))[0] for path in paths]
    seen.mark("work_starts")
    encoded = tokenizer.encode(clips)
    seen.mark("work_ends")
    seen.audio_seconds = sum(map(len, clips)) / tokenizer.sampling_rate
    np.savez(codes, *encoded)


def run_map(seen: Watch, model: str, codes: str, *paths: str) -> None:
    """Encode by `datasets.map`."""
    with tempfile.TemporaryDirectory() as cache:
        os.environ |= {"HF_DATASETS_CACHE": cache, "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
        from datasets import Audio, Dataset

        import dac_tokenize
        from dac_tokenize.process import codec_options, tokenizer_for

        encode = importlib.import_module("dac_tokenize.hf.encode")
        read = seen.timing("read", encode.audio_to_waveform, time.perf_counter)
        encode.audio_to_waveform = read
        table = Dataset.from_dict({"audio": list(paths)}).cast_column("audio", Audio(decode=False))
        seen.mark("imported")
        # `map` would load it in its first batch.
        options = codec_options(model or None, None, None, "auto", "float32")
        rate = tokenizer_for(options).sampling_rate
        seen.mark("work_starts")
        mapped = table.map(
            dac_tokenize.encode_batch,
            batched=True,
            batch_size=MAP_BATCH,
            remove_columns=["audio"],
            fn_kwargs={"model": model or None},
            cache_file_name=f"{cache}/mapped.arrow",
        )
        seen.mark("work_ends")
        seen.audio_seconds = sum(mapped["num_samples"]) / rate
        arrays = mapped.with_format("numpy")["audio_codes"]
        np.savez(codes, *(np.stack(list(one)) for one in arrays))


WAYS: dict[str, Callable[..., None]] = {
    "cli": lambda seen, *arguments: run_cli(seen, list(arguments)),
    "engine": run_engine,
    "map": run_map,
}


def main() -> None:
    """Run a way, write the report."""
    path, way, *arguments = sys.argv[1:]
    run, seen = WAYS[way], Watch()
    watch_codec(seen)
    run(seen, *arguments)
    Path(path).write_text(json.dumps(seen.report()))


if __name__ == "__main__":
    main()
