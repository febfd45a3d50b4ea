"""What a file's header promises, where libsndfile quietly makes do with what is there.

Known are RIFF (WAV), RF64, W64, AIFF, SVX, AU, CAF, NIST and Ogg. FLAC and MP3 need no look: their
decoders give fewer frames than promised, or fail. Rarer containers are taken as they come.
"""

import re
import struct
from dataclasses import dataclass
from typing import BinaryIO

UNKNOWN_SIZES = (0, 0x7FFFF000, 0xFFFFFFFF, 2**64 - 1)  # written by sox and ffmpeg into pipes
W64_GUID_TAIL = b"\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a"
MAX_CHUNKS = 1000
OGG_TAIL_BYTES = 2**17  # two pages of the largest size
OGG_END_OF_STREAM = 4


@dataclass(frozen=True, slots=True)
class Promise:
    """The bytes of sound that a header announces, and the bytes that follow it in the file."""

    sound_bytes: int
    found_bytes: int

    @property
    def is_kept(self) -> bool:
        """Whether all of the sound is there."""
        return self.found_bytes >= self.sound_bytes

    def num_frames(self, found_frames: int) -> int:
        """Frames promised, from those found; exact where all frames have the same size.

        >>> Promise(sound_bytes=96_000, found_bytes=47_979).num_frames(23_989)
        48000
        """
        frame_bytes = self.found_bytes // max(1, found_frames)
        if frame_bytes and self.found_bytes - frame_bytes * found_frames < frame_bytes:
            return self.sound_bytes // frame_bytes
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
    magic, found = head[:4], None
    if magic in (b"RIFF", b"RF64"):
        found = _find_chunk(file, size_bytes, 12, "<4sI", b"data")
    elif magic == b"RIFX":
        found = _find_chunk(file, size_bytes, 12, ">4sI", b"data")
    elif magic == b"FORM":
        sound = b"BODY" if head[8:12] in (b"8SVX", b"16SV") else b"SSND"
        found = _find_chunk(file, size_bytes, 12, ">4sI", sound)
    elif magic == b"caff":
        found = _find_chunk(file, size_bytes, 8, ">4sQ", b"data")
    elif magic == b"riff":
        found = _find_chunk(file, size_bytes, 40, "<16sQ", b"data" + W64_GUID_TAIL)
    elif magic in (b".snd", b"dns.") and len(head) >= 12:
        found = struct.unpack(">II" if magic == b".snd" else "<II", head[4:12])
    elif magic == b"NIST":
        found = _find_nist_data(file)
    if found is None or found[1] in UNKNOWN_SIZES:
        return None
    start, length = found
    return Promise(length, max(0, size_bytes - start))


def _find_chunk(
    file: BinaryIO, size_bytes: int, position: int, layout: str, wanted: bytes
) -> tuple[int, int] | None:
    """Finds the chunk of sound: where its samples start, and how many bytes it says they take."""
    header_bytes = struct.calcsize(layout)
    long_length = None
    for _ in range(MAX_CHUNKS):
        file.seek(position)
        header = file.read(header_bytes)
        if len(header) < header_bytes or position >= size_bytes:
            return None
        name, length = struct.unpack(layout, header)
        start = position + header_bytes
        if name == wanted:
            if name == b"SSND":  # two numbers stand before the samples
                return start + 8, max(0, length - 8)
            if name == b"data" and header_bytes == 12:  # CAF: a number stands before them
                return start + 4, length - 4 if 4 <= length < 2**63 else 0
            if header_bytes == 24:  # W64 counts the header
                return start, max(0, length - 24)
            return start, long_length if long_length and length == 0xFFFFFFFF else length
        if name == b"ds64" and len(sizes := file.read(16)) == 16:
            long_length = struct.unpack("<8xQ", sizes)[0]
        position = _next_chunk(position, header_bytes, length)
    return None


def _next_chunk(position: int, header_bytes: int, length: int) -> int:
    if header_bytes == 24:
        return position + max(24, (length + 7) // 8 * 8)
    padding = length % 2 if header_bytes == 8 else 0
    return position + header_bytes + length + padding


def _find_nist_data(file: BinaryIO) -> tuple[int, int] | None:
    file.seek(0)
    header = file.read(1024)
    fields = dict(re.findall(rb"^(\w+) -i (\d+)$", header, re.MULTILINE))
    size = re.match(rb"NIST_1A\s+(\d+)", header)
    try:
        count = int(fields[b"sample_count"]) * int(fields.get(b"sample_n_bytes", b"1"))
        return int(size[1]), count * int(fields.get(b"channel_count", b"1"))  # type: ignore[index]
    except (KeyError, TypeError):
        return None


def ogg_is_complete(file: BinaryIO, size_bytes: int) -> bool:
    """Tells whether an Ogg file ends with a whole page that is marked as the last.

    Args:
        file: seekable file; its position moves.
        size_bytes: its size.

    Returns:
        True also for a file that is no Ogg file.
    """
    file.seek(0)
    if file.read(4) != b"OggS":
        return True
    start = max(0, size_bytes - OGG_TAIL_BYTES)
    file.seek(start)
    tail = file.read(OGG_TAIL_BYTES)
    position = tail.rfind(b"OggS\0")
    if position < 0 or position + 27 > len(tail):
        return False
    num_segments = tail[position + 26]
    lacing = tail[position + 27 : position + 27 + num_segments]
    page_bytes = 27 + num_segments + sum(lacing)
    whole = len(lacing) == num_segments and position + page_bytes <= len(tail)
    return whole and bool(tail[position + 5] & OGG_END_OF_STREAM)
