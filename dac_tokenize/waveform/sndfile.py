"""Files to frames by libsndfile."""

import contextlib
import io
import os
from collections.abc import Iterator
from typing import Any

import soundfile

from dac_tokenize.errors import AudioError
from dac_tokenize.waveform.containers import Promise, find_promise, ogg_is_complete
from dac_tokenize.waveform.fetch import SourceFile
from dac_tokenize.waveform.mpeg import PRETENDED_GROWTH, unpromised_mp3_end
from dac_tokenize.waveform.options import Samples
from dac_tokenize.waveform.reader import read_up_to
from dac_tokenize.waveform.stores import source_errors

SAMPLE_BYTES = {"PCM_S8": 1, "PCM_U8": 1, "ULAW": 1, "ALAW": 1, "PCM_16": 2, "PCM_24": 3}
SAMPLE_BYTES |= {"PCM_32": 4, "FLOAT": 4, "DOUBLE": 8}
FORWARD_SECONDS = 10  # so far ahead, reading on is cheaper than a new start
UNKNOWN_LENGTH = 2**62  # libsndfile's count for a stream that does not tell its length
PRETENDED_TAIL_BYTES = 1024
UNRECOGNISED = (1, 4)  # libsndfile's codes for a format or an encoding that it does not know


class UnrecognisedError(AudioError):
    """Bytes that are none of libsndfile's formats."""


class GuardedFile:
    """A file for libsndfile's callbacks, out of which no exception can be thrown.

    An exception there would be printed and forgotten, and the file would seem to end.
    Here it is kept, for the reader to raise.

    Args:
        source: the sound.
        mp3_end: where MP3 of unknown length ends: the file then pretends to be longer, so that
            libsndfile reads all of it.
    """

    def __init__(self, source: SourceFile, mp3_end: int | None = None) -> None:
        self._file = source.file
        self._end = source.size_bytes if mp3_end is None else mp3_end
        self._size = self._end if mp3_end is None else mp3_end * PRETENDED_GROWTH
        self._position = 0
        self.error: Exception | None = None

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Moves the position; only a read touches the file."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def tell(self) -> int:
        """Gives the position."""
        return self._position

    def read(self, num_bytes: int = -1) -> bytes:
        """Reads at the position; nothing once an error has happened."""
        if self.error is not None:
            return b""
        if self._end < self._size - PRETENDED_TAIL_BYTES <= self._position:
            self._position += num_bytes  # where libsndfile looks for tags: there are none
            return bytes(num_bytes)
        try:
            self._file.seek(self._position)
            data = self._file.read(max(0, min(num_bytes, self._end - self._position)))
        except Exception as error:
            self.error = error
            return b""
        self._position += len(data)
        return data

    def write(self, data: object) -> int:
        """Refuses; soundfile wants the method to be there."""
        raise io.UnsupportedOperation("write")


class _ForwardFile(soundfile.SoundFile):  # type: ignore[misc]
    """A `SoundFile` that does not seek after every read, which would change MP3's samples."""

    def seekable(self) -> bool:
        return False

    def can_seek(self) -> bool:
        can: bool = super().seekable()
        return can


class SndfileReader:
    """Reads what libsndfile reads; once made, it closes the source.

    Raises:
        UnrecognisedError: the format is none of libsndfile's.
        AudioError: the bytes are no sound, or their header cannot be right.
        SourceError: the bytes could not be read.
    """

    def __init__(self, source: SourceFile) -> None:
        self._source = source
        self._guard: GuardedFile | None = None
        # before libsndfile has the file: a local one's position is shared with it
        promise = find_promise(source.file, source.size_bytes)
        self._is_complete = ogg_is_complete(source.file, source.size_bytes)
        self._mp3_end = unpromised_mp3_end(source.file, source.size_bytes)
        self._sound = self._start()
        if self._mp3_end is not None and self._sound.format != "MP3":
            self._sound.close()
            self._mp3_end = None
            self._sound = self._start()
        self.sampling_rate = int(self._sound.samplerate)
        self.num_channels = int(self._sound.channels)
        frames = int(self._sound.frames)
        is_known = self._mp3_end is None and frames < UNKNOWN_LENGTH
        self.num_frames = frames if is_known else None
        if not self._is_complete:
            raise AudioError("the data is cut short: its last Ogg page is not the stream's end")
        if promise is not None and self.num_frames is not None:
            self._check_promise(promise, self.num_frames)

    def _start(self) -> Any:
        """Opens the file at its first frame."""
        handle: Any
        if self._source.is_local and self._mp3_end is None:
            handle = os.dup(self._source.file.fileno())
            os.lseek(handle, 0, os.SEEK_SET)
        else:
            handle = self._guard = GuardedFile(self._source, self._mp3_end)
        self._position = 0
        try:
            return _ForwardFile(handle)
        except (soundfile.LibsndfileError, TypeError) as error:
            self._raise_source_error()
            text, is_ogg = _not_sound(self._source, error)
            whole_ogg = is_ogg and self._is_complete  # with a codec that libsndfile knows badly
            if getattr(error, "code", None) in UNRECOGNISED or whole_ogg:
                raise UnrecognisedError(text) from error
            raise AudioError(text) from error

    def _check_promise(self, promise: Promise, found: int) -> None:
        if not promise.is_kept:
            raise AudioError(
                f"the data is cut short: the header promises {promise.num_frames(found)} frames "
                f"({promise.sound_bytes} bytes), the file holds {found} "
                f"({promise.found_bytes} bytes)"
            )
        if (sample_bytes := SAMPLE_BYTES.get(self._sound.subtype)) is not None:
            # libsndfile takes what follows the sound in some containers for more of it
            self.num_frames = min(found, promise.sound_bytes // sample_bytes // self.num_channels)

    def seek(self, frame: int) -> int:
        """Goes to a frame, so that what follows is what a pass from the start would give.

        libsndfile's own seeking gives that for most formats, but not for all: MP3 is rounded
        otherwise after a seek, and of Ogg a decoder that has read before gives other sound. So
        MP3, like the few formats that cannot seek, is decoded from the start, and Ogg from one
        second ahead by a fresh decoder.

        Returns:
            The frame reached: an earlier one where the sound ends before.
        """
        ahead = frame - self._position
        if self._sound.format == "OGG":
            if not 0 <= ahead <= FORWARD_SECONDS * self.sampling_rate:
                self._sound = self._start()
                self._jump(max(0, frame - self.sampling_rate))
        elif self._sound.subtype.startswith("MPEG") or not self._sound.can_seek():
            if ahead < 0:
                self._sound = self._start()
        elif ahead:
            self._jump(frame)
        return read_up_to(self, frame, self._position)

    def _jump(self, frame: int) -> None:
        with self._decoding():
            self._position = self._sound.seek(frame)

    def read(self, num_frames: int) -> Samples:
        """Reads at most so many frames: float32 (num_frames, num_channels); none at the end."""
        with self._decoding():
            frames: Samples = self._sound.read(num_frames, dtype="float32", always_2d=True)
        self._position += len(frames)
        return frames

    def close(self) -> None:
        """Closes the file under it."""
        self._sound.close()
        self._source.close()

    @contextlib.contextmanager
    def _decoding(self) -> Iterator[None]:
        try:
            yield
        except soundfile.LibsndfileError as error:
            self._raise_source_error()
            raise AudioError(f"the data is damaged or cut short: {error.error_string}") from error
        self._raise_source_error()

    def _raise_source_error(self) -> None:
        if self._guard is not None and (error := self._guard.error) is not None:
            with source_errors(self._source.name):
                raise error


def _not_sound(source: SourceFile, error: Exception) -> tuple[str, bool]:
    """Says what stands at the start of a file that is no sound, and whether that is Ogg."""
    source.file.seek(0)
    head = source.file.read(16)
    reason = getattr(error, "error_string", "") or str(error)
    text = (
        f"not sound that libsndfile reads ({reason.strip().rstrip('.')}): "
        f"{source.size_bytes} bytes that start with {head!r}"
    )
    return text, head.startswith(b"OggS")
