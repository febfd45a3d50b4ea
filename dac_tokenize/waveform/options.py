"""What the caller may choose about waveforms, and the waveform that comes out."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from dac_tokenize.errors import UsageError

Samples = npt.NDArray[np.float32]
ChannelPolicy = Literal["mix", "first", "split"]

MIN_LOUDNESS_LUFS = -70.0  # the absolute gate of ITU-R BS.1770: below it, there is no loudness


@dataclass(frozen=True, slots=True)
class WaveformOptions:
    """How sound becomes waveforms.

    Attributes:
        channels: "mix" takes the mean of all channels, in float32 and before resampling; "first"
            takes the first channel; "split" keeps every channel, each becoming its own row.
        max_clip_seconds: refuse clips that decode to more than this; None for no limit.
        loudness: integrated loudness (LUFS, ITU-R BS.1770-4) to bring every channel of every
            clip to, measured as it will be encoded: after the channel policy and resampling.
            None leaves the level as it is, which is also what transformers does. Needs the
            extra `loudness`; a clip longer than 95 s at 44.1 kHz mono is decoded twice.

    >>> WaveformOptions(channels="split").channels
    'split'
    """

    channels: ChannelPolicy = "mix"
    max_clip_seconds: float | None = None
    loudness: float | None = None

    def __post_init__(self) -> None:
        policies = get_args(ChannelPolicy)
        if self.channels not in policies:
            raise UsageError(
                f"channels must be one of {', '.join(policies)}, not {self.channels!r}"
            )
        if self.max_clip_seconds is not None and not self.max_clip_seconds > 0:
            raise UsageError(f"max_clip_seconds must be above 0, not {self.max_clip_seconds}")
        if self.loudness is not None and not MIN_LOUDNESS_LUFS < self.loudness <= 0:
            raise UsageError(
                f"loudness must lie between {MIN_LOUDNESS_LUFS:g} and 0 LUFS, not {self.loudness}"
            )


@dataclass(slots=True)
class Waveform:
    """One clip's sound, decoded and resampled while it is read.

    Attributes:
        num_channels: channels in every block, after the channel policy: 1 unless it is "split".
        source_sampling_rate: sampling rate of the source (Hz).
        blocks: float32 arrays (num_channels, num_samples) at the rate asked for, at least one
            sample and at most `MAX_BLOCK_SECONDS` each, in order. Reading them raises a
            `ClipError` where the sound turns out bad: then nothing of the clip may be kept.
        source_loudness: loudness (LUFS) of each channel of the blocks, before it was brought to
            the target; None for a channel without loudness, whose level is left as it is (less
            than 0.4 s, or nothing above the gate of -70 LUFS). None where no target was set.
    """

    num_channels: int
    source_sampling_rate: int
    blocks: Iterator[Samples]
    source_loudness: tuple[float | None, ...] | None = None

    def close(self) -> None:
        """Ends the reading early and gives back what it holds; harmless when called twice."""
        close = getattr(self.blocks, "close", None)
        if close is not None:
            close()


MAX_BLOCK_SECONDS = 30.0
