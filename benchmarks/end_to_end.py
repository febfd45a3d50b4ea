"""FLAC files through the command line and through `datasets.map`, against engine-only speed.

    OMP_NUM_THREADS=2 python -m benchmarks.end_to_end --model 16khz --width 64 --audio-seconds 100

Engine-only is `DacTokenizer.encode` on the same clips in memory at the codec's rate. All ways run
in processes of their own, take turns, and the best of `--repeats` counts. Steady: without imports,
loading, planning and warm-up (what the first batch takes longer than the median batch).
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from benchmarks.common import print_table, prompt_seconds, write_json
from benchmarks.watched import Report, watch

SOURCES = {"16k-mono": (16_000, 1), "44k-stereo": (44_100, 2)}
NAMES = {"engine": "engine only", "cli": "dac-tokenize encode", "map": "datasets.map"}


def make_sounds(folder: Path, total_seconds: float, source: str) -> list[Path]:
    """Write clips as long as voice prompts, as FLAC; return their paths in order of name."""
    from tests.codec.models import random_clip

    rate, channels = SOURCES[source]
    folder.mkdir()
    paths = []
    for index, seconds in enumerate(prompt_seconds(total_seconds)):
        seeds = [2 * index + channel for channel in range(channels)]
        sound = np.stack([random_clip(max(1, round(seconds * rate)), seed) for seed in seeds], 1)
        paths.append(folder / f"{index:05d}.flac")
        soundfile.write(paths[-1], sound, rate)
    return paths


def make_model(shape: str, width: int, folder: Path) -> str:
    """Save a codec of random weights; return its folder, or "" for the shipped codec."""
    from tests.codec.models import PUBLISHED_SHAPES, random_model

    if shape == "shipped":
        return ""
    random_model(width=width, **PUBLISHED_SHAPES[shape]).save_pretrained(folder)
    return str(folder)


def steady_seconds(report: Report) -> float:
    """Return the seconds of the work itself."""
    return float(report["work_ends_at"] - report["work_starts_at"] - report["warm_up_seconds"])


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Report]:
    """Run all ways in turns; return the best report of each."""
    paths = [str(p) for p in make_sounds(folder / "sounds", options.audio_seconds, options.source)]
    model = make_model(options.model, options.width, folder / "model")
    best: dict[str, Report] = {}
    for repeat in range(options.repeats):
        corpus, codes = folder / f"out-{repeat}", str(folder / "codes.npz")
        command = ["cli", "encode", str(folder / "sounds"), "--output", str(corpus)]
        command += ["--num-threads", str(options.num_threads)]
        ways = {
            "engine": ["engine", model, codes, *paths],
            "cli": [*command, *(["--model", model] if model else [])],
            "map": ["map", model, codes, *paths],
        }
        found = {}
        for way, arguments in ways.items():
            report = watch(arguments, folder)
            if way not in best or steady_seconds(report) < steady_seconds(best[way]):
                best[way] = report
            found[way] = _corpus_codes(corpus) if way == "cli" else _saved_codes(codes)
        for way in ("cli", "map"):
            best[way]["tokens_different_from_engine"] = _different(found[way], found["engine"])
    return best


def _saved_codes(path: str) -> list[np.ndarray]:
    with np.load(path) as saved:
        return [saved[f"arr_{index}"] for index in range(len(saved.files))]


def _corpus_codes(corpus: Path) -> list[np.ndarray]:
    from dac_tokenize.corpus import iter_rows

    rows = {row["key"]: row["audio_codes"] for row in iter_rows(str(corpus))}
    return [np.asarray(rows[key]) for key in sorted(rows)]


def _different(codes: list[np.ndarray], others: list[np.ndarray]) -> int:
    return int(sum((a != b).sum() for a, b in zip(codes, others, strict=True)))


def speeds(best: dict[str, Report]) -> dict[str, dict[str, Any]]:
    """Return the figures of each way."""
    engine = best["engine"]
    figures = {}
    for way, report in best.items():
        steady, audio = steady_seconds(report), report["audio_seconds"]
        figures[NAMES[way]] = {
            "hours_per_hour": audio / steady,
            "share_of_engine_only": steady_seconds(engine) / steady,
            "codec_busy": report["codec_seconds"] / steady,
            "cpu_seconds_per_audio_hour": report["work_cpu_seconds"] / audio * 3600,
            "start_up_seconds": report["work_starts_at"] + report["warm_up_seconds"],
            "finish_seconds": report["wall_seconds"] - report["work_ends_at"],
            "hours_per_hour_with_start_up": audio / report["wall_seconds"],
            "peak_bytes": report["peak_bytes"],
            "tokens_different": report.get("tokens_different_from_engine", 0),
        }
    return figures


def steps_of_cli(report: Report) -> dict[str, tuple[str, float]]:
    """Return where the time of a run of the command line went: step -> (where, seconds)."""
    codec = report["codec_seconds"]
    resample = report["decode_and_resample_seconds"] - report["decode_seconds"]
    loaded = report["load_seconds"] + report["plan_seconds"]
    steady = steady_seconds(report)
    work = codec + report["read_seconds"] + report["write_seconds"]
    return {
        "imports of Beam": ("start", report["imported_at"]),
        "torch, transformers, codec": ("start", report["load_seconds"]),
        "list, plan": ("start", report["plan_seconds"]),
        "build and start the pipeline": (
            "start",
            report["work_starts_at"] - report["imported_at"] - loaded,
        ),
        "warm-up of the codec": ("start", report["warm_up_seconds"]),
        "wait for sound (read)": ("steady", report["read_seconds"]),
        "codec (encode)": ("steady", codec),
        "cut, pack, join": (
            "steady",
            report["encode_seconds"] - codec - report["warm_up_seconds"],
        ),
        "write": ("steady", report["write_seconds"]),
        "plan of a shard, footers": (
            "steady",
            steady - work - (report["encode_seconds"] - codec - report["warm_up_seconds"]),
        ),
        "manifest, summary, exit": ("end", report["wall_seconds"] - report["work_ends_at"]),
        "open files": ("threads", report["open_seconds"]),
        "read and decode FLAC": ("threads", report["decode_seconds"]),
        "resample": ("threads", resample),
    }


def show(options: argparse.Namespace, best: dict[str, Report]) -> None:
    """Print both tables."""
    audio = best["engine"]["audio_seconds"]
    print(f"{audio:.0f} s of {options.source} FLAC; {options.model}, width {options.width}\n")
    columns = ["way", "hours/hour", "of engine-only", "codec busy", "CPU s per audio hour"]
    columns += ["start-up s", "end s", "hours/hour with both", "peak MiB", "tokens differ"]
    rows = []
    for name, way in speeds(best).items():
        values = list(way.values())
        rows.append([name, *values[:-2], values[-2] // 2**20, values[-1]])
    print_table(columns, rows)
    steady = steady_seconds(best["cli"])
    print("\nWhere the time of `dac-tokenize encode` goes (threads: processor time beside it)\n")
    steps = steps_of_cli(best["cli"]).items()
    rows = [
        [name, where, s, f"{s / steady:.1%}" if where in ("steady", "threads") else ""]
        for name, (where, s) in steps
    ]
    print_table(["step", "when", "seconds", "of steady"], rows)


def arguments_of(given: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    models = ["shipped", "16khz", "24khz", "44khz"]
    parser.add_argument("--model", choices=models, default="16khz")
    parser.add_argument("--width", type=int, default=64, help="of the encoder's first stage")
    parser.add_argument("--source", choices=list(SOURCES), default="16k-mono")
    parser.add_argument("--audio-seconds", type=float, default=100.0)
    parser.add_argument("--num-threads", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=2)
    options = parser.parse_args(given)
    if options.model == "shipped":
        options.width = 12
    return options


def main(given: list[str] | None = None) -> None:
    """Measure, print, write."""
    options = arguments_of(given)
    with tempfile.TemporaryDirectory() as folder:
        best = measure(options, Path(folder))
    show(options, best)
    measured = {
        "options": vars(options),
        "ways": speeds(best),
        "steps_of_cli": {
            name: {"when": when, "seconds": seconds}
            for name, (when, seconds) in steps_of_cli(best["cli"]).items()
        },
        "reports": best,
    }
    write_json(f"end_to_end-{options.model}-{options.source}", measured)


if __name__ == "__main__":
    main()
