"""Memory and speed of reading: ten minutes against ten hours, in every common format.

    python -m benchmarks.inputs [--hours 10] [--folder FOLDER]

makes both files of each format, reads each in a process of its own through the prefetching pool,
as a corpus run does, and prints by how much the process grew. Needs 5 GB in FOLDER.
"""

import argparse
import functools
import http.server
import io
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from benchmarks.memory import peak_bytes

SOURCE_RATE = 22_050
CODEC_RATE = 16_000
MINUTE = 60 * SOURCE_RATE
SHORT_SECONDS = 600


def main() -> None:
    """Makes the files, reads them, prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hours", type=float, default=10.0, help="length of the long files")
    parser.add_argument("--folder", type=Path, default=None, help="where to make the files")
    parser.add_argument("--read", metavar="URI", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.read is not None:
        print(json.dumps(read(arguments.read)))
        return
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        rows = run(Path(folder), arguments.hours)
    from benchmarks.common import print_table, write_json

    columns = ["source", "10 min: grew by (MiB)", "long: grew by (MiB)", "long: times real time"]
    print_table(columns, rows)
    named = [dict(zip(("source", "short_mib", "long_mib", "speed"), r, strict=True)) for r in rows]
    write_json("inputs", {"hours": arguments.hours, "codec_rate": CODEC_RATE, "rows": named})


def run(folder: Path, hours: float) -> list[list[Any]]:
    """Measures all formats; one row each."""
    rows = []
    for name, make in FORMATS.items():
        short, long = folder / f"short.{name}", folder / f"long.{name}"
        make(short, SHORT_SECONDS // 60)
        make(long, round(hours * 60))
        rows.append(measured(name, str(short), str(long)))
        if name in ("wav", "flac", "mp3"):
            with serving(folder) as url:
                rows.append(measured(f"{name}, http", f"{url}/{short.name}", f"{url}/{long.name}"))
        long.unlink()
    return rows


def measured(name: str, short: str, long: str) -> list[Any]:
    """Reads a short and a long file, each in a fresh process."""
    results = []
    for uri in (short, long):
        command = [sys.executable, "-m", "benchmarks.inputs", "--read", uri]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        results.append(json.loads(done.stdout))
    print(name, results, file=sys.stderr, flush=True)
    grown = [result["grown_bytes"] / 2**20 for result in results]
    speed = results[1]["sound_seconds"] / results[1]["seconds"]
    return [name, grown[0], grown[1], speed]


def read(uri: str) -> dict[str, float]:
    """Reads a file as a corpus run does, and throws the samples away."""
    import fsspec.implementations.http  # noqa: F401 - so that it counts as there before

    from dac_tokenize.prefetch import prefetch_waveforms
    from dac_tokenize.references import Reference
    from dac_tokenize.waveform import Waveform, WaveformOpener

    before, start, num_samples = peak_bytes(), time.perf_counter(), 0
    opener = WaveformOpener(CODEC_RATE)
    for _, waveform in prefetch_waveforms([Reference("clip", uri)], opener, num_threads=2):
        if not isinstance(waveform, Waveform):
            raise waveform
        num_samples += sum(block.shape[1] for block in waveform.blocks)
    return {
        "grown_bytes": peak_bytes() - before,
        "seconds": time.perf_counter() - start,
        "sound_seconds": num_samples / CODEC_RATE,
    }


# Making long files quickly


def minute_of_sound() -> np.ndarray:
    """A minute of tones and noise: float32 (num_frames,)."""
    rng = np.random.default_rng(0)
    seconds = np.arange(MINUTE) / SOURCE_RATE
    tone = sum(0.1 * np.sin(2 * np.pi * f * seconds) for f in rng.uniform(80, 3000, 6))
    return np.float32(tone + 0.02 * rng.standard_normal(MINUTE))


def write_by_libsndfile(path: Path, minutes: int, **options: Any) -> None:
    """Writes the minute again and again, in small blocks."""
    sound = minute_of_sound()
    with soundfile.SoundFile(path, "w", SOURCE_RATE, 1, **options) as file:
        for _ in range(minutes):
            for start in range(0, MINUTE, 4096):
                file.write(sound[start : start + 4096])


def write_mp3(path: Path, minutes: int) -> None:
    """Repeats the coded minute: frames of MP3 can be joined."""
    minute = io.BytesIO()
    with soundfile.SoundFile(
        minute, "w", SOURCE_RATE, 1, format="MP3", bitrate_mode="CONSTANT"
    ) as file:
        for block in np.array_split(minute_of_sound(), 400):
            file.write(block)
    coded = minute.getvalue()
    frames = coded[coded.index(coded[:2], 2) :]  # without the first, which tells how many there are
    with path.open("wb") as output:
        for _ in range(minutes):
            output.write(frames)


def write_by_remuxing(path: Path, minutes: int, container: str, codec: str) -> None:
    """Repeats the coded minute's packets in one stream."""
    import av

    coded = io.BytesIO()
    with av.open(coded, "w", format=container) as output:
        stream = output.add_stream(codec, rate=48_000, layout="mono")
        for index, block in enumerate(
            np.array_split(np.resize(minute_of_sound(), 60 * 48_000), 60)
        ):
            frame = av.AudioFrame.from_ndarray(block[None], format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 48_000, index * 48_000
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    coded.seek(0)
    with av.open(coded) as source, av.open(str(path), "w", format=container) as output:
        stream = output.add_stream_from_template(source.streams.audio[0])
        packets = [p for p in source.demux(source.streams.audio[0]) if p.size]
        data = [(bytes(p), p.duration) for p in packets[:-2]]  # the last ones may be shorter
        position, time_base = 0, packets[0].time_base
        for _ in range(minutes):
            for content, duration in data:
                packet = av.Packet(content)
                packet.stream, packet.time_base = stream, time_base
                packet.pts = packet.dts = position
                packet.duration = duration
                position += duration or 0
                output.mux(packet)


FORMATS: dict[str, Callable[[Path, int], None]] = {
    "wav": functools.partial(write_by_libsndfile, format="RF64", subtype="PCM_16"),
    "flac": functools.partial(write_by_libsndfile, compression_level=0.0),
    "mp3": write_mp3,
    "opus": functools.partial(write_by_remuxing, container="ogg", codec="libopus"),
    "m4a": functools.partial(write_by_remuxing, container="ipod", codec="aac"),
}


# A web server that gives ranges


class RangeHandler(http.server.SimpleHTTPRequestHandler):
    """Serves files of a folder, whole or in ranges."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answers with the bytes asked for."""
        self.answer(with_body=True)

    def do_HEAD(self) -> None:
        """Answers with the size."""
        self.answer(with_body=False)

    def answer(self, with_body: bool) -> None:
        """Sends a file, or a part of it."""
        path = self.translate_path(self.path)
        size = os.path.getsize(path)
        wanted = re.match(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        start, stop = 0, size
        if wanted:
            start, stop = int(wanted[1]), min(int(wanted[2] or size) + 1, size)
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{size}")
        else:
            self.send_response(200)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(stop - start))
        self.end_headers()
        with open(path, "rb") as file:
            file.seek(start)
            while with_body and start < stop and (data := file.read(min(2**20, stop - start))):
                self.wfile.write(data)
                start += len(data)

    def log_message(self, *args: object) -> None:
        """Says nothing."""


class serving:  # noqa: N801 - a context manager, used as a verb
    """Serves a folder on loopback while it is open; gives the URL."""

    def __init__(self, folder: Path) -> None:
        handler = functools.partial(RangeHandler, directory=str(folder))
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> str:
        self._thread.start()
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


if __name__ == "__main__":
    main()
