"""Seconds to frames: where a segment of a recording starts and ends, exactly."""

import math
from decimal import ROUND_HALF_UP, Decimal

from dac_tokenize.errors import AudioError

END_TOLERANCE_SECONDS = 0.1  # manifests round durations: a clip may pass the end by so much


def seconds_to_frames(seconds: float, sampling_rate: int) -> int:
    """Rounds a time to the nearest frame, halves up, as exactly as its decimals are written.

    Args:
        seconds: time of 0 or more.
        sampling_rate: frames a second.

    Returns:
        The frame, 0 or more.

    >>> seconds_to_frames(0.1, 44100), seconds_to_frames(0.00003125, 16000)
    (4410, 1)
    """
    return int((Decimal(repr(float(seconds))) * sampling_rate).to_integral_value(ROUND_HALF_UP))


def segment_frames(
    offset_seconds: float,
    duration_seconds: float | None,
    sampling_rate: int,
    num_frames: int | None,
) -> tuple[int, int | None]:
    """Finds the frames of a segment. Offset and duration are rounded each for itself.

    So equal durations give equal numbers of frames, wherever the segments start.

    Args:
        offset_seconds: start of the segment.
        duration_seconds: its length; None for all that follows.
        sampling_rate: sampling rate of the recording (Hz).
        num_frames: frames in the recording; None where that shows only at its end.

    Returns:
        The first frame and the frame after the last one (None: up to the end). A segment that
        passes the end by at most `END_TOLERANCE_SECONDS` ends with the recording.

    Raises:
        AudioError: the segment is not inside the recording.

    >>> segment_frames(1.0, 0.5, 16000, 32000)
    (16000, 24000)
    """
    check_segment(offset_seconds, duration_seconds)
    start = seconds_to_frames(offset_seconds, sampling_rate)
    if num_frames is not None and start >= num_frames and start > 0:
        raise AudioError(
            f"the clip starts at {offset_seconds:g} s, past the end of the recording, which "
            f"lasts {num_frames / sampling_rate:g} s ({num_frames} frames at {sampling_rate} Hz)"
        )
    if duration_seconds is None:
        return start, num_frames
    stop = start + seconds_to_frames(duration_seconds, sampling_rate)
    if stop == start:
        raise AudioError(f"a clip of {duration_seconds:g} s holds no frame at {sampling_rate} Hz")
    if num_frames is None or stop <= num_frames:
        return start, stop
    if stop - num_frames > END_TOLERANCE_SECONDS * sampling_rate:
        raise AudioError(
            f"the clip ends at {offset_seconds + duration_seconds:g} s, past the end of the "
            f"recording, which lasts {num_frames / sampling_rate:g} s"
        )
    return start, num_frames


def check_segment(offset_seconds: float, duration_seconds: float | None) -> None:
    """Refuses offsets and durations that no recording can satisfy.

    Raises:
        AudioError: one of them is negative or not a finite number, or the duration is 0.
    """
    if not (math.isfinite(offset_seconds) and offset_seconds >= 0):
        raise AudioError(f"the clip's offset is {offset_seconds} s; expected 0 or more")
    if duration_seconds is None:
        return
    if not (math.isfinite(duration_seconds) and duration_seconds > 0):
        raise AudioError(f"the clip's duration is {duration_seconds} s; expected more than 0")
