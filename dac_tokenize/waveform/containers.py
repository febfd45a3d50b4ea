"""How much sound a file's header promises, which libsndfile quietly cuts to what is there.

Only the containers in which libsndfile does so are looked at: RIFF, RF64, W64, AIFF and AU.
"""

import struct
from dataclasses import dataclass
from typing import BinaryIO

UNKNOWN_SIZES = (0, 0x7FFFF000, 0xFFFFFFFF)  # written by sox and ffmpeg into pipes
W64_DATA = b"data\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a"
MAX_CHUNKS = 1000


@dataclass(frozen=True, slots=True)
class Promise:
    """The sound data that a header announces, and what of it is in the file, in bytes."""

    sound_bytes: int
    found_bytes: int

    def num_frames(self, found_frames: int) -> int:
        """Frames promised, from those found; exact where every frame has the same size."""
        return round(found_frames * self.sound_bytes / max(1, self.found_bytes))


def find_promise(file: BinaryIO, size_bytes: int) -> Promise | None:
    """Reads what a header promises.

    Args:
        file: seekable file; its position moves.
        size_bytes: its size.

    Returns:
        The promise; None where the header makes none, or where another container is used.
    """
    file.seek(0)
    head = file.read(40)
    found = None
    if head[:4] in (b"RIFF", b"RIFX", b"RF64"):
        found = _find_riff_data(file, size_bytes, ">" if head[:4] == b"RIFX" else "<")
    elif head[:4] == b"FORM":
        found = _find_riff_data(file, size_bytes, ">")
    elif head[:4] == b"riff" and len(head) == 40:
        found = _find_w64_data(file, size_bytes)
    elif head[:4] in (b".snd", b"dns.") and len(head) >= 12:
        start, length = struct.unpack(">II" if head[:4] == b".snd" else "<II", head[4:12])
        found = start, length
    if found is None or found[1] in UNKNOWN_SIZES:
        return None
    start, length = found
    return Promise(length, max(0, min(length, size_bytes - start)))


def _find_riff_data(file: BinaryIO, size_bytes: int, order: str) -> tuple[int, int] | None:
    """Finds the chunk of sound: where its content starts and how long it says it is."""
    position, long_size = 12, None
    for _ in range(MAX_CHUNKS):
        file.seek(position)
        header = file.read(8)
        if len(header) < 8 or position >= size_bytes:
            return None
        name, length = header[:4], struct.unpack(order + "I", header[4:])[0]
        if name == b"ds64":
            fields = file.read(16)
            long_size = struct.unpack("<Q", fields[8:])[0] if len(fields) == 16 else None
        if name == b"SSND":  # two numbers stand before the samples
            return position + 16, max(0, length - 8)
        if name == b"data":
            return position + 8, long_size if long_size and length == 0xFFFFFFFF else length
        position += 8 + length + length % 2
    return None


def _find_w64_data(file: BinaryIO, size_bytes: int) -> tuple[int, int] | None:
    position = 40
    for _ in range(MAX_CHUNKS):
        file.seek(position)
        header = file.read(24)
        if len(header) < 24 or position >= size_bytes:
            return None
        length = struct.unpack("<Q", header[16:])[0]
        if header[:16] == W64_DATA:
            return position + 24, max(0, length - 24)
        position += max(24, (length + 7) // 8 * 8)
    return None
