"""How far decoded sound lies from its source in time, and both cut to where they overlap."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from dac_tokenize.codec.geometry import decoder_chain

Samples = npt.NDArray[np.float32]

RESIDUAL_SAMPLES = 4
"""Samples by which a lag may pass what the codec's strides explain."""

_SEARCHED_SAMPLES = 2**20  # a minute at 16 kHz tells a lag as well as an hour does


def decoder_slack(downsampling_ratios: Sequence[int]) -> int:
    """Return by how many samples a codec's decoder may shift sound, from its strides.

    Transposed convolutions of odd stride return a little less than they should; a codec trained
    without a loss on waveforms may put what is missing at either end.

    >>> decoder_slack([2, 4, 5, 8]), decoder_slack([2, 4, 8, 8])
    (8, 0)
    """
    return decoder_chain(list(downsampling_ratios)[::-1]).levels[-1].deficit


def estimate_lag(reference: Samples, estimate: Samples, max_lag: int) -> int:
    """Return by how many samples `estimate` comes after `reference`, where they agree most.

    Args:
        reference: float, shape (n,).
        estimate: float, shape (m,).
        max_lag: largest lag to look at, to either side.

    Returns:
        The lag of the highest cross-correlation; the one nearest to 0 where several are as high.

    >>> sound = np.sin(np.arange(500) ** 1.5).astype(np.float32)
    >>> estimate_lag(sound, np.concatenate([np.zeros(7, np.float32), sound]), 20)
    7
    """
    first, second = reference[:_SEARCHED_SAMPLES], estimate[:_SEARCHED_SAMPLES]
    size = 1 << int(len(first) + len(second) + max_lag).bit_length()
    spectrum = np.fft.rfft(second, size) * np.conj(np.fft.rfft(first, size))
    lags = np.array(sorted(range(-max_lag, max_lag + 1), key=abs))
    return int(lags[np.argmax(np.fft.irfft(spectrum, size)[lags])])


def aligned(reference: Samples, estimate: Samples, lag: int) -> tuple[Samples, Samples]:
    """Return the stretches of both that lie over each other when `lag` is taken back.

    Args:
        reference: float, shape (n,).
        estimate: float, shape (m,).
        lag: samples by which `estimate` comes late, negative where it comes early.

    Returns:
        Two arrays of one length, which may be 0.

    >>> aligned(np.float32([1, 2, 3]), np.float32([0, 1, 2]), 1)
    (array([1., 2.], dtype=float32), array([1., 2.], dtype=float32))
    """
    first, second = reference[max(-lag, 0) :], estimate[max(lag, 0) :]
    length = min(len(first), len(second))
    return first[:length], second[:length]
