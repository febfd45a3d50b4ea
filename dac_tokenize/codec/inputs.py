"""What a user hands to the codec, checked: clips as lanes of float32 blocks, codes as int64."""

from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from dac_tokenize.errors import UsageError, WaveformError
from dac_tokenize.waveform.resample import resample_array

ClipLike: TypeAlias = npt.NDArray[Any] | Iterable[npt.NDArray[Any]]


def checked_lanes(
    index: int, clip: ClipLike, sampling_rate: int
) -> Iterator[npt.NDArray[np.float32]]:
    """Yield the blocks of a clip as float32 of shape (num_channels, n).

    Args:
        index: which clip it is, for messages.
        clip: an array of shape (num_samples,) or (num_channels, num_samples), or blocks of these.
        sampling_rate: Hz, to say where a bad sample lies.

    Raises:
        WaveformError: there is no sample, or one is not finite.
        UsageError: a block is not float, or its shape does not fit.
    """
    done = 0
    num_channels = None
    blocks = (clip,) if isinstance(clip, np.ndarray) or hasattr(clip, "__array__") else clip
    for given in blocks:
        block = np.asarray(given)
        if block.dtype.kind != "f" or block.ndim not in (1, 2):
            raise UsageError(
                f"clip {index} is an array of {block.dtype} with shape {block.shape}; expected "
                "floating point in [-1, 1] of shape (num_samples,) or (num_channels, num_samples)"
            )
        block = np.atleast_2d(block).astype(np.float32, copy=False)
        if num_channels not in (None, len(block)):
            raise UsageError(
                f"clip {index} changes from {num_channels} channels to {len(block)} on its way"
            )
        num_channels = len(block)
        _check_finite(index, block, done, sampling_rate)
        done += block.shape[-1]
        yield block
    if not done:
        raise WaveformError(f"clip {index} has no samples; expected at least one")


def mono_at_rate(
    index: int, clip: npt.ArrayLike, source_rate: int, sampling_rate: int
) -> npt.NDArray[np.float32]:
    """Return a mono clip, shape (num_samples,), at `sampling_rate`, resampled if need be.

    Raises:
        UsageError: it is not a one-dimensional float array, or the rate is not positive.
    """
    array = np.asarray(clip)
    if array.dtype.kind != "f" or array.ndim != 1:
        raise UsageError(
            f"clip {index} is an array of {array.dtype} with shape {array.shape}; expected "
            "floating point in [-1, 1] of shape (num_samples,)"
        )
    if source_rate <= 0:
        raise UsageError(f"sampling_rate is {source_rate}; expected Hz, above 0")
    frames = array.astype(np.float32, copy=False)[:, None]
    return resample_array(frames, source_rate, sampling_rate)[:, 0]


def checked_codes(
    index: int, codes: npt.ArrayLike, num_codebooks: int, codebook_size: int
) -> npt.NDArray[np.int64]:
    """Return codes as int64 of shape (num_codebooks, num_frames).

    Codebooks that are not given are filled with `codebook_size`, which decodes to nothing.

    Raises:
        UsageError: wrong type, shape or range.
    """
    array = np.asarray(codes)
    if array.dtype.kind not in "iu" or array.ndim != 2:
        raise UsageError(
            f"codes of clip {index} are an array of {array.dtype} with shape {array.shape}; "
            "expected integers of shape (num_codebooks, num_frames)"
        )
    if not 1 <= array.shape[0] <= num_codebooks or not array.shape[1]:
        raise UsageError(
            f"codes of clip {index} have shape {array.shape}; expected 1 to {num_codebooks} "
            "codebooks and at least one frame"
        )
    low, high = int(array.min()), int(array.max())
    if low < 0 or high >= codebook_size:
        raise UsageError(
            f"codes of clip {index} run from {low} to {high}; expected 0 to {codebook_size - 1}"
        )
    full = np.full((num_codebooks, array.shape[1]), codebook_size, np.int64)
    full[: len(array)] = array
    return full


def _check_finite(
    index: int, block: npt.NDArray[np.float32], done: int, sampling_rate: int
) -> None:
    finite = np.isfinite(block)
    if finite.all():
        return
    channel, at = (int(i) for i in np.argwhere(~finite)[0])
    raise WaveformError(
        f"clip {index} holds {block[channel, at]} at sample {done + at} "
        f"({(done + at) / sampling_rate:.3f} s); expected finite samples"
    )
