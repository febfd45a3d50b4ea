"""Mutants of valid files, and a worker that reads them one after another.

    python -m tests.fuzz.mutants FIRST LAST PROGRESS

reads mutants FIRST to LAST - 1 in this process, which a crash, a hang or the memory limit may end:
PROGRESS then holds the number of the mutant. `python -m tests.fuzz.mutants SHOW NUMBER FILE` writes
one mutant to a file.
"""

import io
import json
import mmap
import os
import random
import resource
import struct
import sys
import tarfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from functools import cache

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dac_tokenize.errors import ClipError, PlanError
from dac_tokenize.sources import list_references
from dac_tokenize.waveform import WaveformOpener, WaveformOptions, audio_to_waveform
from tests.waveform.sounds import FORMATS, encode, tones

MEMORY_BOUND_BYTES = 256 * 2**20  # what one mutant may make the process grow by
RATE = 16_000
OPTIONS = WaveformOptions(max_clip_seconds=600.0)
INTERESTING = [0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1]


@cache
def seeds() -> list[tuple[str, bytes]]:
    """Valid files of every format that is read, small ones: name and bytes."""
    sound = tones(1200, 2)
    found = []
    for format, subtype in FORMATS:
        mono = subtype == "GSM610" or format == "SVX"
        data = encode(sound[:, :1] if mono else sound, RATE, format, subtype)
        found.append((f"a.{format}-{subtype}", data))
    found += [(f"a.{container}", data) for container, data in _ffmpeg_seeds()]
    flac, wav = encode(sound[:300], RATE, "FLAC"), encode(sound[:300], RATE)
    found.append(("a.tar", _tar({"0.flac": flac, "0.json": b'{"text": "x"}', "1.wav": wav})))
    found.append(("a.parquet", _parquet([flac, wav])))
    rows = [{"path": "a.wav", "offset": 0.01, "duration": 0.01, "text": "hé"}, {"path": "b.wav"}]
    found.append(("a.jsonl", "".join(json.dumps(row) + "\n" for row in rows).encode()))
    found.append(("a.csv", b'path,offset,text\na.wav,0.01,"x, y"\nb.wav,,"z\n"\n'))
    return found


def _ffmpeg_seeds() -> list[tuple[str, bytes]]:
    try:
        from tests.waveform.test_ffmpeg import FORMATS as KINDS
        from tests.waveform.test_ffmpeg import encode as encode_by_ffmpeg
    except ImportError:
        return []
    sound = tones(6000, 2, rate=48_000)
    return [(f"{box}-{codec}", encode_by_ffmpeg(sound, box, codec)) for box, codec, _ in KINDS]


def _tar(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return file.getvalue()


def _parquet(sounds: list[bytes]) -> bytes:
    file = io.BytesIO()
    audio = [{"bytes": sound, "path": "a"} for sound in sounds]
    pq.write_table(pa.table({"audio": audio, "text": ["x", "y"]}), file, row_group_size=1)
    return file.getvalue()


def mutant(number: int) -> tuple[str, bytes]:
    """Makes a mutant: the same one for the same number."""
    rng = random.Random(number)
    name, data = seeds()[number % len(seeds())]
    mutated = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        rng.choice(MUTATIONS)(rng, mutated)
    return name, bytes(mutated)


def _position(rng: random.Random, data: bytearray) -> int:
    """A place in a file, mostly in its header."""
    end = len(data) if rng.random() < 0.3 else min(len(data), 200)
    return rng.randrange(max(1, end))


def _flip_bit(rng: random.Random, data: bytearray) -> None:
    if data:
        data[_position(rng, data)] ^= 1 << rng.randrange(8)


def _set_number(rng: random.Random, data: bytearray) -> None:
    position, layout = _position(rng, data), rng.choice(["B", "<H", ">H", "<I", ">I", "<Q", ">Q"])
    size = struct.calcsize(layout)
    value = rng.choice([*INTERESTING, rng.randrange(2**32)]) % 2 ** (8 * size)
    data[position : position + size] = struct.pack(layout, value)


def _randomise(rng: random.Random, data: bytearray) -> None:
    position, size = _position(rng, data), rng.randrange(1, 40)
    data[position : position + size] = rng.randbytes(size)


def _cut(rng: random.Random, data: bytearray) -> None:
    del data[_position(rng, data) :]


def _delete(rng: random.Random, data: bytearray) -> None:
    position = _position(rng, data)
    del data[position : position + rng.randrange(1, 100)]


def _insert(rng: random.Random, data: bytearray) -> None:
    position = _position(rng, data)
    data[position:position] = rng.randbytes(rng.randrange(1, 100))


def _repeat(rng: random.Random, data: bytearray) -> None:
    position, size = _position(rng, data), rng.randrange(1, 300)
    data[position:position] = data[position : position + size] * rng.randrange(1, 5)


def _splice(rng: random.Random, data: bytearray) -> None:
    other = rng.choice(seeds())[1]
    data[_position(rng, data) :] = other[rng.randrange(len(other)) :]


MUTATIONS: list[Callable[[random.Random, bytearray], None]] = [
    _flip_bit,
    _flip_bit,
    _set_number,
    _set_number,
    _randomise,
    _cut,
    _delete,
    _insert,
    _repeat,
    _splice,
]


def read(name: str, data: bytes) -> str:
    """Reads a mutant; gives "sound" or the name of a named error, raises for anything else."""
    if name.rsplit(".", 1)[-1] in ("tar", "parquet", "jsonl", "csv"):
        return _read_container(name, data)
    try:
        samples = audio_to_waveform({"bytes": data, "path": None}, RATE, options=OPTIONS)
    except ClipError as error:
        return type(error).__name__ if str(error) else "an error without a message"
    assert samples.dtype == np.float32
    assert samples.shape[0] == 1
    assert samples.shape[1] > 0
    assert np.isfinite(samples).all()
    return "sound"


def _read_container(name: str, data: bytes) -> str:
    memory = fsspec.filesystem("memory")
    memory.pipe(f"memory://fuzz/{name}", data)
    if not memory.exists("memory://fuzz/a.wav"):
        memory.pipe("memory://fuzz/a.wav", encode(tones(1000), RATE))
    outcome, opener = "nothing", WaveformOpener(RATE, OPTIONS)
    try:
        for reference in list_references([f"memory://fuzz/{name}"]):
            reference.key.encode()
            json.dumps(dict(reference.metadata), allow_nan=False).encode()
            try:
                opener.read(reference)
                outcome = "sound"
            except ClipError as error:
                outcome = type(error).__name__
    except PlanError as error:
        outcome = type(error).__name__
    opener.close()
    return outcome


def work(first: int, last: int, progress_path: str) -> None:
    """Reads mutants; prints what went wrong, and a summary, as lines of JSON."""
    seeds()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # libmpg123 writes about every damaged frame
    _limit_memory()
    before = _peak_bytes()
    outcomes: Counter[str] = Counter()
    with open(progress_path, "r+b") as file, mmap.mmap(file.fileno(), 8) as progress:
        for number in range(first, last):
            progress[:] = struct.pack("<Q", number)
            name, data = mutant(number)
            try:
                _sabotage(number)
                outcomes[read(name, data)] += 1
            except BaseException:
                print(
                    json.dumps({"mutant": number, "name": name, "error": traceback.format_exc()}),
                    flush=True,
                )
        progress[:] = struct.pack("<Q", last)
    print(json.dumps({"outcomes": outcomes, "grown_bytes": _peak_bytes() - before}))


def _peak_bytes() -> int:
    with open("/proc/self/status") as file:
        lines = dict(line.split(":", 1) for line in file)
    return int(lines["VmHWM"].split()[0]) * 1024


def _sabotage(number: int) -> None:
    """Misbehaves where a test of the worker itself asks for it."""
    match os.environ.get("DAC_TOKENIZE_FUZZ_SABOTAGE", "").split(":"):
        case ["crash", at] if int(at) == number:
            os.abort()
        case ["hang", at] if int(at) == number:
            while True:
                time.sleep(1)
        case ["memory", at] if int(at) == number:
            np.ones(MEMORY_BOUND_BYTES // 4)


def _limit_memory() -> None:
    """Lets allocations past the bound fail, by a limit on the address space."""
    with open("/proc/self/statm") as file:
        size = int(file.read().split()[0]) * mmap.PAGESIZE
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY_BOUND_BYTES, resource.RLIM_INFINITY))


if __name__ == "__main__":
    if sys.argv[1] == "SHOW":
        with open(sys.argv[3], "wb") as shown:
            shown.write(mutant(int(sys.argv[2]))[1])
    else:
        work(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
