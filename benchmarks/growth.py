"""Time and peak memory of `dac-tokenize encode` as the work grows: clips, their length, shards.

    OMP_NUM_THREADS=2 python -m benchmarks.growth [--series clips lengths shards] [--points 0 1]

Each point is a run of the command line in a process of its own, over WAV files made for it. Its
seconds are those between the start of the first shard and the end of the last; start-up (imports,
codec) and planning stand apart. Needs 1.2 GB in --folder for the longest clip. With --points a
series can be measured in pieces: what its file holds of other points stays.
"""

import argparse
import json
import shutil
import tempfile
import wave
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import common
from benchmarks.common import print_table, write_json
from benchmarks.watched import Report, watch

RATE = 16_000
SERIES = ("clips", "lengths", "shards")
CLIPS = (100, 1_000, 10_000, 100_000)
LENGTHS = (1.0, 10.0, 60.0, 600.0, 3_600.0, 36_000.0)
SHARDS = (1, 10, 100)
SHORT_SECONDS = 0.2
SHARD_CLIP_SECONDS = 10.0
SHARD_SECONDS = 600.0
CLIPS_PER_FOLDER = 1_000
# Little work a second, and as many frames and codes of it as of the published 16 kHz codec.
NARROW = {"downsampling_ratios": (5, 4, 2), "n_codebooks": 12, "sampling_rate": 2_000}
CODEC_WIDTHS = {"shipped": 12, "narrow": 8}


@dataclass(frozen=True)
class Point:
    """One run, by its number in its series: clips of a length, in shards of so many seconds."""

    point: int
    clips: int
    clip_seconds: float
    shard_seconds: float

    @property
    def audio_seconds(self) -> float:
        """Seconds of all clips."""
        return self.clips * self.clip_seconds


def points(series: str, audio_seconds: float) -> Iterator[Point]:
    """Yield the points of a series, the smallest first.

    Args:
        series: "clips", "lengths" or "shards".
        audio_seconds: what the clips of a length, and the shards together, come to at least.
    """
    if series == "clips":
        for number, clips in enumerate(CLIPS):
            yield Point(number, clips, SHORT_SECONDS, SHARD_SECONDS)
    elif series == "lengths":
        for number, seconds in enumerate(LENGTHS):
            yield Point(number, max(1, round(audio_seconds / seconds)), seconds, SHARD_SECONDS)
    else:
        clips = round(audio_seconds / SHARD_CLIP_SECONDS)
        for number, shards in enumerate(SHARDS):
            # A little more, so that rounding gives no shard beside those asked for.
            shard_seconds = audio_seconds / min(shards, clips) + 0.01
            yield Point(number, clips, SHARD_CLIP_SECONDS, shard_seconds)


def make_sounds(folder: Path, point: Point) -> None:
    """Write the clips of a point: noise, 16 bits."""
    noise = np.random.default_rng(0).normal(0, 3000, 60 * RATE).astype("<i2")
    samples = round(point.clip_seconds * RATE)
    for index in range(point.clips):
        path = folder / f"{index // CLIPS_PER_FOLDER:03d}" / f"{index:06d}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        # Each clip starts elsewhere in the noise, so that no two are alike.
        sound, left = np.roll(noise, index * 977), samples
        with wave.open(str(path), "wb") as file:
            file.setparams((1, 2, RATE, 0, "NONE", ""))
            while left > 0:
                file.writeframes(sound[:left].tobytes())
                left -= len(sound)


def run(point: Point, model: str, folder: Path) -> Report:
    """Make the sounds of a point, encode them, remove all of it; return its figures."""
    sounds, corpus = folder / "sounds", folder / "corpus"
    make_sounds(sounds, point)
    command = ["cli", "encode", str(sounds), "--output", str(corpus)]
    command += ["--shard-seconds", str(point.shard_seconds), "--device", "cpu"]
    report = watch([*command, *(["--model", model] if model else [])], folder)
    size = sum(path.stat().st_size for path in corpus.rglob("*") if path.is_file())
    shutil.rmtree(sounds)
    shutil.rmtree(corpus)
    seconds = report["work_ends_at"] - report["work_starts_at"]
    hours = report["audio_seconds"] / 3600
    return {
        **asdict(point),
        "audio_hours": hours,
        "shards": report["shards"],
        "seconds": seconds,
        "seconds_per_audio_hour": seconds / hours,
        "cpu_seconds_per_audio_hour": report["work_cpu_seconds"] / hours,
        "codec_seconds_per_audio_hour": report["codec_seconds"] / hours,
        "milliseconds_per_clip": 1000 * seconds / point.clips,
        "plan_seconds": report["plan_seconds"],
        "finish_seconds": report["wall_seconds"] - report["work_ends_at"],
        "start_up_seconds": report["work_starts_at"] - report["plan_seconds"],
        "peak_bytes": report["peak_bytes"],
        "corpus_bytes": size,
    }


def show(rows: list[Report]) -> None:
    """Print a series; ratios are to its first point."""
    columns = ["clips", "of s", "audio h", "shards", "seconds", "s per audio h", "ratio"]
    columns += ["CPU s per audio h", "ratio", "ms per clip", "plan s", "end s", "peak MiB", "ratio"]
    first = rows[0]
    table = [
        [
            f"{row['clips']:,}",
            row["clip_seconds"],
            row["audio_hours"],
            row["shards"],
            row["seconds"],
            row["seconds_per_audio_hour"],
            row["seconds_per_audio_hour"] / first["seconds_per_audio_hour"],
            row["cpu_seconds_per_audio_hour"],
            row["cpu_seconds_per_audio_hour"] / first["cpu_seconds_per_audio_hour"],
            row["milliseconds_per_clip"],
            row["plan_seconds"],
            row["finish_seconds"],
            row["peak_bytes"] // 2**20,
            row["peak_bytes"] / first["peak_bytes"],
        ]
        for row in rows
    ]
    print_table(columns, table)


def main(given: list[str] | None = None) -> None:
    """Measure, print, write: one file for each series."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--series", nargs="+", choices=SERIES, default=SERIES)
    parser.add_argument("--points", type=int, nargs="+", help="only these of each series, from 0")
    parser.add_argument("--codec", choices=["shipped", "narrow"], default="narrow")
    parser.add_argument("--audio-seconds", type=float, default=1800.0)
    parser.add_argument("--folder", type=Path, help="where to make the sounds")
    options = parser.parse_args(given)
    for series in options.series:
        name = f"growth-{series}"
        described = {"codec": options.codec, "codec_width": CODEC_WIDTHS[options.codec]}
        if options.codec == "narrow":
            described["codec_sampling_rate"] = NARROW["sampling_rate"]
        rows = earlier_rows(name, described)
        in_order: list[Report] = []
        for number, point in enumerate(points(series, options.audio_seconds)):
            if options.points is not None and number not in options.points:
                continue
            with tempfile.TemporaryDirectory(dir=options.folder) as folder:
                model = make_codec(options.codec, Path(folder) / "model")
                rows[number] = run(point, model, Path(folder))
            # After each point, so that a run that is stopped has not been for nothing.
            in_order = [rows[number] for number in sorted(rows)]
            write_json(name, {**described, "series": series, "points": in_order})
        print(f"\n{series}, {options.codec} codec\n")
        show(in_order)


def earlier_rows(name: str, described: dict[str, Any]) -> dict[int, Report]:
    """Return the points that a series' file has, by number; none if it is of another codec."""
    path = common.FOLDER / f"{name}.json"
    if not path.exists():
        return {}
    earlier = json.loads(path.read_text())
    if any(earlier.get(key) != value for key, value in described.items()):
        return {}
    return {row["point"]: row for row in earlier["points"]}


def make_codec(codec: str, folder: Path) -> str:
    """Save the narrow codec, random weights; return its folder, or "" for the shipped one."""
    from tests.codec.models import random_model

    if codec == "shipped":
        return ""
    random_model(width=CODEC_WIDTHS["narrow"], **NARROW).save_pretrained(folder)
    return str(folder)


if __name__ == "__main__":
    main()
