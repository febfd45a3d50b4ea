"""Many channels to those that are wanted."""

import numpy as np

from dac_tokenize.waveform.options import ChannelPolicy, Samples


def num_output_channels(num_channels: int, policy: ChannelPolicy) -> int:
    """Tells how many channels the policy leaves."""
    return num_channels if policy == "split" else 1


def apply_policy(frames: Samples, policy: ChannelPolicy) -> Samples:
    """Applies the channel policy to interleaved frames.

    The mean is summed in float32, channel after channel, so that a sample's value does not
    depend on the block it is read in.

    Args:
        frames: float32 array (num_frames, num_source_channels).
        policy: "mix", "first" or "split".

    Returns:
        float32 array (num_frames, num_channels), C-contiguous.

    >>> apply_policy(np.float32([[1, 3]]), "mix")
    array([[2.]], dtype=float32)
    """
    if policy == "split" or frames.shape[1] == 1:
        return np.ascontiguousarray(frames)
    mixed = frames[:, :1].copy()
    if policy == "mix":
        for channel in range(1, frames.shape[1]):
            mixed += frames[:, channel : channel + 1]
        mixed /= np.float32(frames.shape[1])
    return mixed
