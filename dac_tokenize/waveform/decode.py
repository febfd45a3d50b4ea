"""Files to frames: libsndfile behind one small reader."""

import contextlib
import io
import os
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import soundfile

from dac_tokenize.errors import AudioError, WaveformError
from dac_tokenize.waveform.containers import Promise, find_promise, ogg_is_complete
from dac_tokenize.waveform.fetch import SourceFile
from dac_tokenize.waveform.options import Samples
from dac_tokenize.waveform.segment import END_TOLERANCE_SECONDS, segment_frames
from dac_tokenize.waveform.stores import source_errors

MIN_SAMPLING_RATE, MAX_SAMPLING_RATE = 1_000, 1_000_000
MAX_CHANNELS = 64
BLOCK_SECONDS = 10
BLOCK_SAMPLES = 2**18  # over all channels: 1 MiB of float32
SAMPLE_BYTES = {"PCM_S8": 1, "PCM_U8": 1, "ULAW": 1, "ALAW": 1, "PCM_16": 2, "PCM_24": 3}
SAMPLE_BYTES |= {"PCM_32": 4, "FLOAT": 4, "DOUBLE": 8}
FORWARD_SECONDS = 10  # so far ahead, reading on is cheaper than a new start
UNKNOWN_LENGTH = 2**62  # libsndfile's count for a stream that does not tell its length


class SoundReader(Protocol):
    """Sound that can be read from any frame on."""

    sampling_rate: int
    num_channels: int
    num_frames: int | None

    def seek(self, frame: int) -> None:
        """Goes to a frame."""

    def read(self, num_frames: int) -> Samples:
        """Reads at most so many frames: float32 (num_frames, num_channels); none at the end."""

    def close(self) -> None:
        """Closes the file under it."""


class GuardedFile:
    """A file for libsndfile's callbacks, out of which no exception can be thrown.

    An exception there would be printed and forgotten, and the file would seem to end.
    Here it is kept, for the reader to raise.
    """

    def __init__(self, source: SourceFile) -> None:
        self._file = source.file
        self._size = source.size_bytes
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
        try:
            self._file.seek(self._position)
            data = self._file.read(max(0, min(num_bytes, self._size - self._position)))
        except Exception as error:
            self.error = error
            return b""
        self._position += len(data)
        return data

    def write(self, data: object) -> int:
        """Refuses; soundfile wants the method to be there."""
        raise io.UnsupportedOperation("write")


class _ForwardFile(soundfile.SoundFile):  # type: ignore[misc]
    """A `SoundFile` that does not seek after every read, which would damage MP3."""

    def seekable(self) -> bool:
        return False

    def can_seek(self) -> bool:
        can: bool = super().seekable()
        return can


class SndfileReader:
    """Reads what libsndfile reads; takes the source over and closes it.

    Raises:
        AudioError: the bytes are no sound, or their header cannot be right.
        SourceError: the bytes could not be read.
    """

    def __init__(self, source: SourceFile) -> None:
        self._source = source
        self._guard: GuardedFile | None = None
        self._sound: Any = None
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        if self._source.size_bytes == 0:
            raise AudioError("the file is empty (0 bytes); expected sound")
        # before libsndfile has the file: a local one's position is shared with it
        promise = find_promise(self._source.file, self._source.size_bytes)
        is_complete = ogg_is_complete(self._source.file, self._source.size_bytes)
        self._reopen()
        self.sampling_rate = int(self._sound.samplerate)
        self.num_channels = int(self._sound.channels)
        frames = int(self._sound.frames)
        self.num_frames = frames if frames < UNKNOWN_LENGTH else None
        self._check_header()
        if not is_complete:
            raise AudioError("the data is cut short: its last Ogg page is not the stream's end")
        if promise is not None and self.num_frames is not None:
            self._check_promise(promise, self.num_frames)

    def _reopen(self) -> None:
        """Starts to decode at the first frame."""
        handle: Any
        if self._source.is_local:
            handle = os.dup(self._source.file.fileno())
            os.lseek(handle, 0, os.SEEK_SET)
        else:
            handle = self._guard = GuardedFile(self._source)
        try:
            self._sound = _ForwardFile(handle)
        except (soundfile.LibsndfileError, TypeError) as error:
            self._raise_source_error()
            raise AudioError(_not_sound(self._source, error)) from error
        self._position = 0

    def _check_header(self) -> None:
        if not MIN_SAMPLING_RATE <= self.sampling_rate <= MAX_SAMPLING_RATE:
            raise AudioError(
                f"the header gives a sampling rate of {self.sampling_rate} Hz; expected "
                f"{MIN_SAMPLING_RATE} to {MAX_SAMPLING_RATE} Hz"
            )
        if self.num_channels > MAX_CHANNELS:
            raise AudioError(
                f"the header gives {self.num_channels} channels; expected at most {MAX_CHANNELS}"
            )

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

    def seek(self, frame: int) -> None:
        """Goes to a frame, so that what follows is what a pass from the start would give.

        libsndfile's own seeking gives that for most formats, but not for all: in MP3 the frames
        after a seek are damaged, and in Ogg those of a decoder that has read before. So MP3,
        like the few formats that cannot seek, is decoded from the start, and Ogg from one second
        ahead by a fresh decoder.
        """
        ahead = frame - self._position
        if ahead == 0:
            return
        if self._sound.format == "OGG":
            if not 0 < ahead <= FORWARD_SECONDS * self.sampling_rate:
                self._reopen()
                self._jump(max(0, frame - self.sampling_rate))
        elif self._sound.subtype.startswith("MPEG") or not self._sound.can_seek():
            if ahead < 0:
                self._reopen()
        else:
            self._jump(frame)
        while self._position < frame:
            if not len(self.read(min(frame - self._position, block_frames(self)))):
                return

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
        if self._sound is not None:
            self._sound.close()
        self._source.close()

    @contextlib.contextmanager
    def _decoding(self) -> Iterator[None]:
        try:
            yield
        except soundfile.LibsndfileError as error:
            self._raise_source_error()
            raise AudioError(f"the data is damaged: {error.error_string}") from error
        self._raise_source_error()

    def _raise_source_error(self) -> None:
        if self._guard is not None and (error := self._guard.error) is not None:
            with source_errors(self._source.name):
                raise error


def _not_sound(source: SourceFile, error: Exception) -> str:
    """Says what stands at the start of a file that is no sound."""
    source.file.seek(0)
    head = source.file.read(16)
    reason = getattr(error, "error_string", "") or str(error)
    return (
        f"not sound that libsndfile reads ({reason.strip().rstrip('.')}): "
        f"{source.size_bytes} bytes that start with {head!r}"
    )


def block_frames(reader: SoundReader) -> int:
    """Chooses how many frames to read at once: at most 10 s, and 1 MiB of float32."""
    return max(1, min(BLOCK_SECONDS * reader.sampling_rate, BLOCK_SAMPLES // reader.num_channels))


def read_segment(
    reader: SoundReader,
    offset_seconds: float = 0.0,
    duration_seconds: float | None = None,
    max_seconds: float | None = None,
) -> Iterator[Samples]:
    """Reads one segment in blocks, and checks every one.

    Args:
        reader: where to read; left open.
        offset_seconds: start of the segment.
        duration_seconds: its length; None for all that follows.
        max_seconds: the longest segment to accept; None for any.

    Yields:
        float32 arrays (num_frames, num_channels) at the source's rate.

    Raises:
        AudioError: the segment is not in the recording, damaged, cut short or too long.
        WaveformError: a sample is NaN or infinite, or there are none at all.
        SourceError: the bytes could not be read.
    """
    rate = reader.sampling_rate
    start, stop = segment_frames(offset_seconds, duration_seconds, rate, reader.num_frames)
    limit = None if max_seconds is None else int(max_seconds * rate)
    _check_limit(stop, start, limit, rate)
    reader.seek(start)
    position = start
    while stop is None or position < stop:
        wanted = block_frames(reader)
        frames = reader.read(wanted if stop is None else min(wanted, stop - position))
        if not len(frames):
            break
        check_finite(frames, position, rate)
        position += len(frames)
        _check_limit(position, start, limit, rate)
        yield frames
    _check_end(position, start, stop, reader, duration_seconds)


def _check_limit(stop: int | None, start: int, limit: int | None, rate: int) -> None:
    if stop is not None and limit is not None and stop - start > limit:
        raise AudioError(
            f"the clip lasts {(stop - start) / rate:g} s or more; "
            f"max_clip_seconds allows {limit / rate:g} s"
        )


def _check_end(
    position: int,
    start: int,
    stop: int | None,
    reader: SoundReader,
    duration_seconds: float | None,
) -> None:
    """Refuses a segment that ended before it should have, or that held nothing."""
    if stop is not None and position < stop:
        if reader.num_frames is not None:
            raise AudioError(
                f"the data is cut short: the header promises {reader.num_frames} frames, "
                f"only {position} could be decoded"
            )
        if stop - position > END_TOLERANCE_SECONDS * reader.sampling_rate:
            segment_frames(
                start / reader.sampling_rate, duration_seconds, reader.sampling_rate, position
            )
    if position == start:
        raise WaveformError("the file holds no samples; expected at least one")


def check_finite(frames: Samples, first_frame: int, sampling_rate: int) -> None:
    """Refuses samples that are NaN or infinite.

    Raises:
        WaveformError: there is one; says which, and where.
    """
    finite = np.isfinite(frames)
    if finite.all():
        return
    index, channel = np.argwhere(~finite)[0]
    frame = first_frame + int(index)
    raise WaveformError(
        f"sample {frame} of channel {channel} (at {frame / sampling_rate:.6f} s) is "
        f"{frames[index, channel]}; expected finite numbers"
    )
