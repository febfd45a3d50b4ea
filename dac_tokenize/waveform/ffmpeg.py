"""What libsndfile does not read: FFmpeg behind the same small reader, with the extra `av`."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from dac_tokenize.errors import AudioError
from dac_tokenize.waveform.fetch import SourceFile
from dac_tokenize.waveform.options import Samples
from dac_tokenize.waveform.reader import read_up_to
from dac_tokenize.waveform.stores import source_errors

if TYPE_CHECKING:
    import av
    import av.container

# (offset, bytes there, FFmpeg's demuxer, what users call it). The demuxer is always given to
# FFmpeg: left to guess, it takes noise for music and playlists for leave to open other files.
MAGICS = (
    (4, b"ftyp", "mov", "MP4 or M4A"),
    (4, b"moov", "mov", "QuickTime"),
    (4, b"mdat", "mov", "QuickTime"),
    (4, b"wide", "mov", "QuickTime"),
    (0, b"\x1a\x45\xdf\xa3", "matroska", "WebM or Matroska"),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "asf", "WMA or ASF"),
    (0, b"wvpk", "wv", "WavPack"),
    (0, b"TTA1", "tta", "True Audio"),
    (0, b"MAC ", "ape", "Monkey's Audio"),
    (0, b"#!AMR", "amr", "AMR"),
    (0, b"FLV\x01", "flv", "Flash video"),
    (0, b"\x0b\x77", "ac3", "AC-3"),
    (0, b"\xff\xf1", "aac", "AAC"),
    (0, b"\xff\xf9", "aac", "AAC"),
    (0, b"RIFF", "wav", "WAV"),
    (0, b"OggS", "ogg", "Ogg"),
    (0, b"caff", "caf", "CAF"),
    (0, b"FORM", "aiff", "AIFF"),
)
PROMISING = frozenset(("mov", "matroska", "asf", "wv", "tta", "ape"))  # headers tell the length
PROMISE_TOLERANCE_SECONDS = 0.1  # codecs' delays, and times rounded to milliseconds


def find_demuxer(file: BinaryIO) -> tuple[str, str] | None:
    """Recognises a format by its first bytes.

    Args:
        file: seekable file; its position moves.

    Returns:
        FFmpeg's demuxer and the format's common name; None where none is known.
    """
    file.seek(0)
    head = file.read(16)
    for offset, magic, demuxer, name in MAGICS:
        if head[offset : offset + len(magic)] == magic:
            if magic == b"RIFF" and head[8:12] == b"AVI ":
                return "avi", "AVI"
            return demuxer, name
    return None


class FfmpegReader:
    """Reads the first audio stream; always forwards, from the start.

    Once made, it closes the source.

    Args:
        source: the sound.
        demuxer: FFmpeg's name of its format.

    Raises:
        AudioError: there is no sound in it that FFmpeg reads.
        SourceError: the bytes could not be read.
    """

    num_frames: int | None = None

    def __init__(self, source: SourceFile, demuxer: str) -> None:
        self._source, self._demuxer = source, demuxer
        self._container: av.container.InputContainer | None = None
        self._frames: Generator[Samples, None, None] | None = None
        try:
            self._open()
        except BaseException:
            self._close_container()
            raise

    def _open(self) -> None:
        import av

        self._source.file.seek(0)
        self._position = 0
        self._rest = np.zeros((0, 0), np.float32)
        with self._decoding("the file cannot be opened"):
            self._container = av.open(self._source.file, format=self._demuxer, mode="r")
            streams = self._container.streams.audio
            if not streams:
                raise AudioError("there is no audio stream in the file")
            stream = streams[0]
            context = stream.codec_context
            self.sampling_rate, self.num_channels = context.sample_rate, context.channels
            if not self.sampling_rate or not self.num_channels:
                raise AudioError(f"FFmpeg cannot decode its audio stream ({context.name})")
            self._promised = self._promise(stream)
            self._frames = self._decode(stream)

    def _promise(self, stream: Any) -> int | None:
        """Frames that the header promises, where the format has one that does."""
        if self._demuxer not in PROMISING:
            return None
        if stream.duration is not None and stream.time_base is not None:
            return int(stream.duration * stream.time_base * self.sampling_rate)
        if self._container is not None and self._container.duration is not None:
            return self._container.duration * self.sampling_rate // 1_000_000
        return None

    def _decode(self, stream: Any) -> Generator[Samples, None, None]:
        assert self._container is not None
        resampler = _new_resampler()
        num_frames = 0
        for frame in self._container.decode(stream):
            found = frame.sample_rate, frame.layout.nb_channels
            if found != (self.sampling_rate, self.num_channels):
                raise AudioError(
                    f"the sound changes at frame {num_frames} from {self.sampling_rate} Hz and "
                    f"{self.num_channels} channels to {found[0]} Hz and {found[1]} channels"
                )
            num_frames += frame.samples
            for converted in resampler.resample(frame):
                array: Any = converted.to_ndarray()  # interleaved
                yield array.reshape(-1, self.num_channels)
        if self._promised is not None:
            missing = self._promised - num_frames
            if missing > PROMISE_TOLERANCE_SECONDS * self.sampling_rate:
                raise AudioError(
                    f"the data is cut short: the header promises {self._promised} frames, "
                    f"only {num_frames} could be decoded"
                )

    def seek(self, frame: int) -> int:
        """Goes to a frame; decodes up to it. Gives the frame reached."""
        if frame < self._position:
            self._close_container()
            self._open()
        return read_up_to(self, frame, self._position)

    def read(self, num_frames: int) -> Samples:
        """Reads at most so many frames: float32 (num_frames, num_channels); none at the end."""
        assert self._frames is not None
        pieces, count = [self._rest.reshape(-1, self.num_channels)], len(self._rest)
        with self._decoding("the data is damaged"):
            while count < num_frames and (piece := next(self._frames, None)) is not None:
                pieces.append(piece)
                count += len(piece)
        joined = np.concatenate(pieces)
        self._rest = joined[num_frames:]
        self._position += min(num_frames, count)
        return joined[:num_frames]

    @contextlib.contextmanager
    def _decoding(self, what: str) -> Iterator[None]:
        """Turns FFmpeg's errors into those of the package; others are the store's."""
        import av

        with source_errors(self._source.name):
            try:
                yield
            except av.FFmpegError as error:
                raise AudioError(f"{what}: {error.strerror}") from error

    def _close_container(self) -> None:
        # It and this reader hold each other, and it the threads of FFmpeg's filters: left to the
        # garbage collector, they would stay for many sounds.
        if self._frames is not None:
            self._frames.close()
            self._frames = None
        if self._container is not None:
            self._container.close()
            self._container = None

    def close(self) -> None:
        """Closes the file under it."""
        self._close_container()
        self._source.close()


def _new_resampler() -> av.AudioResampler:
    """Return what makes samples float32 and interleaved.

    By itself it would start a thread for each core, which PyAV 19 leaves to the garbage collector.
    """
    import av

    one_thread: dict[str, Any] = {"threads": 1}
    try:
        return av.AudioResampler(format="flt", **one_thread)
    except TypeError:  # PyAV before 19
        return av.AudioResampler(format="flt")
