"""Readers of sound: what they have in common, and what is checked in all of them."""

from collections.abc import Iterator
from typing import Protocol

import numpy as np

from dac_tokenize.errors import AudioError, WaveformError
from dac_tokenize.waveform.options import Samples
from dac_tokenize.waveform.segment import END_TOLERANCE_SECONDS, segment_frames

MIN_SAMPLING_RATE, MAX_SAMPLING_RATE = 1_000, 1_000_000
MAX_CHANNELS = 64
BLOCK_SECONDS = 10
BLOCK_SAMPLES = 2**18  # over all channels: 1 MiB of float32


class SoundReader(Protocol):
    """Sound that can be read from any frame on."""

    sampling_rate: int
    num_channels: int
    num_frames: int | None

    def seek(self, frame: int) -> int:
        """Goes to a frame; gives the frame reached, an earlier one where the sound ends before."""

    def read(self, num_frames: int) -> Samples:
        """Reads at most so many frames: float32 (num_frames, num_channels); none at the end."""

    def close(self) -> None:
        """Closes the file under it."""


def read_up_to(reader: SoundReader, frame: int, position: int) -> int:
    """Reads on from a position to a frame, and throws away what is between.

    Returns:
        The frame reached: an earlier one where the sound ends before.
    """
    while position < frame:
        frames = reader.read(min(frame - position, block_frames(reader)))
        if not len(frames):
            break
        position += len(frames)
    return position


def check_header(sampling_rate: int, num_channels: int) -> None:
    """Refuses headers that cannot be right, before anything is allocated for them.

    Raises:
        AudioError: the sampling rate or the number of channels is absurd.
    """
    if not MIN_SAMPLING_RATE <= sampling_rate <= MAX_SAMPLING_RATE:
        raise AudioError(
            f"the header gives a sampling rate of {sampling_rate} Hz; expected "
            f"{MIN_SAMPLING_RATE} to {MAX_SAMPLING_RATE} Hz"
        )
    if num_channels > MAX_CHANNELS:
        raise AudioError(
            f"the header gives {num_channels} channels; expected at most {MAX_CHANNELS}"
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
    if stop is not None:
        check_limit(stop - start, rate, max_seconds)
    position = reader.seek(start)
    if position < start:
        segment_frames(offset_seconds, duration_seconds, rate, position)
    while stop is None or position < stop:
        wanted = block_frames(reader)
        frames = reader.read(wanted if stop is None else min(wanted, stop - position))
        if not len(frames):
            break
        check_finite(frames, position, rate)
        position += len(frames)
        check_limit(position - start, rate, max_seconds)
        yield frames
    _check_end(position, start, stop, reader, duration_seconds)


def check_limit(num_frames: int, sampling_rate: int, max_seconds: float | None) -> None:
    """Refuses clips that are too long.

    Raises:
        AudioError: there are more frames than the limit allows.
    """
    if max_seconds is not None and num_frames > max_seconds * sampling_rate:
        raise AudioError(
            f"the clip lasts {num_frames / sampling_rate:g} s or more; "
            f"max_clip_seconds allows {max_seconds:g} s"
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
    if position == start > 0:
        segment_frames(start / reader.sampling_rate, None, reader.sampling_rate, position)
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
