"""MP3 without a header that tells its length: libsndfile guesses it, and stops by the guess.

libsndfile takes the file's size and the first frame's bitrate for a length, and stops there: of a
file of variable bitrate it may read a third, and of most others it promises more than there is.
"""

from typing import BinaryIO

ID3_HEADER_BYTES = 10
SEARCH_BYTES = 4096
TAG_BYTES = 128  # an ID3v1 tag at the end
PRETENDED_GROWTH = 64  # more than the ratio of the highest and the lowest bitrate


def unpromised_mp3_end(file: BinaryIO, size_bytes: int) -> int | None:
    """Finds where the sound of an MP3 ends that does not say how many frames it has.

    Args:
        file: seekable file; its position moves.
        size_bytes: its size.

    Returns:
        The first byte after the sound; None for MP3 with a count of frames, and for what is not
        MP3 at all.
    """
    start = _skip_id3(file)
    file.seek(start)
    head = file.read(SEARCH_BYTES)
    sync = next((at for at in range(len(head) - 1) if _is_sync(head, at)), None)
    if sync is None or (start == 0 and sync > 0) or _tells_frames(head[sync : sync + 200]):
        return None
    if size_bytes >= TAG_BYTES:
        file.seek(size_bytes - TAG_BYTES)
        if file.read(3) == b"TAG":
            return size_bytes - TAG_BYTES
    return size_bytes


def _skip_id3(file: BinaryIO) -> int:
    """Gives the first byte after the tags at a file's start."""
    position = 0
    while True:
        file.seek(position)
        header = file.read(ID3_HEADER_BYTES)
        if len(header) < ID3_HEADER_BYTES or header[:3] != b"ID3":
            return position
        size = 0
        for byte in header[6:10]:
            size = size << 7 | byte & 0x7F
        position += ID3_HEADER_BYTES + size + (ID3_HEADER_BYTES if header[5] & 0x10 else 0)


def _is_sync(data: bytes, at: int) -> bool:
    """Tells the header of a frame: eleven bits set, and no reserved version or layer."""
    return data[at] == 0xFF and data[at + 1] & 0xE0 == 0xE0 and data[at + 1] & 0x06 != 0


def _tells_frames(frame: bytes) -> bool:
    for name in (b"Xing", b"Info"):
        at = frame.find(name)
        if at >= 0 and len(frame) >= at + 12:
            return bool(frame[at + 7] & 1) and int.from_bytes(frame[at + 8 : at + 12], "big") > 0
    return False
