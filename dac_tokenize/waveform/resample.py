"""Sampling rates: soxr at its high quality, in a stream."""

from collections.abc import Iterable, Iterator

import numpy as np
import soxr

from dac_tokenize.waveform.options import Samples

QUALITY = "HQ"


def resample_blocks(
    blocks: Iterable[Samples], source_rate: int, sampling_rate: int, num_channels: int
) -> Iterator[Samples]:
    """Resamples a stream of blocks; bit for bit what `resample_array` makes of them joined.

    Args:
        blocks: float32 arrays (num_frames, num_channels) at `source_rate`, of any sizes.
        source_rate: their sampling rate (Hz).
        sampling_rate: the rate wanted (Hz).
        num_channels: channels in every block.

    Yields:
        float32 arrays (num_frames, num_channels) at `sampling_rate`, none empty.
    """
    if source_rate == sampling_rate:
        yield from (block for block in blocks if len(block))
        return
    stream = soxr.ResampleStream(
        source_rate, sampling_rate, num_channels, dtype="float32", quality=QUALITY
    )
    for block in blocks:
        out = stream.resample_chunk(block)
        if len(out):
            yield out
    out = stream.resample_chunk(np.zeros((0, num_channels), np.float32), last=True)
    if len(out):
        yield out


def resample_array(frames: Samples, source_rate: int, sampling_rate: int) -> Samples:
    """Resamples a whole clip in one call.

    Args:
        frames: float32 array (num_frames, num_channels) at `source_rate`.
        source_rate: its sampling rate (Hz).
        sampling_rate: the rate wanted (Hz).

    Returns:
        float32 array (num_frames, num_channels) at `sampling_rate`.
    """
    if source_rate == sampling_rate or not len(frames):
        return frames
    resampled: Samples = soxr.resample(frames, source_rate, sampling_rate, quality=QUALITY)
    return resampled.reshape(-1, frames.shape[1])
