"""How far decoded sound lies from its source in time, and both cut to where they overlap."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from dac_tokenize.codec.geometry import decoder_chain

Samples = npt.NDArray[np.float32]

RESIDUAL_SAMPLES = 4
"""Samples by which a lag may pass what the codec's strides explain."""

_SEARCHED_SAMPLES = 2**20  # a minute at 16 kHz tells a lag as well as an hour does


def expected_lags(downsampling_ratios: Sequence[int]) -> tuple[int, int]:
    """Return the least and the greatest lag that a codec's strides allow.

    A transposed convolution of odd stride returns one position too few. What is missing of the
    sound is missing at its start, so that it comes early by as much, or at its end, so that it is
    in time, by how the codec was trained; late it never comes. The convolutions themselves are
    symmetric: what the encoder reads and what the decoder writes for a frame have one centre.

    Args:
        downsampling_ratios: of the codec's config.

    Returns:
        Samples by which decoded sound may come late; negative where it comes early.

    >>> expected_lags([2, 4, 5, 8]), expected_lags([2, 4, 8, 8])
    ((-8, 0), (0, 0))
    """
    return -decoder_chain(list(downsampling_ratios)[::-1]).levels[-1].deficit, 0


def widened(lags: tuple[int, int]) -> tuple[int, int]:
    """Return the lags that are looked at where `lags` are expected.

    >>> widened((-8, 0))
    (-12, 4)
    """
    return lags[0] - RESIDUAL_SAMPLES, lags[1] + RESIDUAL_SAMPLES


def estimate_lag(reference: Samples, estimate: Samples, lags: tuple[int, int]) -> int:
    """Return by how many samples `estimate` comes after `reference`, where they agree most.

    Args:
        reference: float, shape (n,).
        estimate: float, shape (m,).
        lags: the least and the greatest lag to look at.

    Returns:
        The lag of the highest cross-correlation; the one nearest to 0 where several are as high.

    >>> sound = np.sin(np.arange(500) ** 1.5).astype(np.float32)
    >>> estimate_lag(sound, np.concatenate([np.zeros(7, np.float32), sound]), (-20, 20))
    7
    """
    first, second = reference[:_SEARCHED_SAMPLES], estimate[:_SEARCHED_SAMPLES]
    reach = max(map(abs, lags))
    size = 1 << int(max(len(first), len(second)) + reach).bit_length()
    spectrum = np.fft.rfft(second, size) * np.conj(np.fft.rfft(first, size))
    looked_at = np.array(sorted(range(lags[0], lags[1] + 1), key=abs))
    return int(looked_at[np.argmax(np.fft.irfft(spectrum, size)[looked_at])])


def aligned(reference: Samples, estimate: Samples, lag: int) -> tuple[Samples, Samples]:
    """Return the stretches of both that lie over each other when `lag` is taken back.

    Args:
        reference: float32, shape (n,).
        estimate: float32, shape (m,).
        lag: samples by which `estimate` comes late, negative where it comes early.

    Returns:
        Two arrays of one length, which may be 0.

    >>> aligned(np.float32([1, 2, 3]), np.float32([0, 1, 2]), 1)
    (array([1., 2.], dtype=float32), array([1., 2.], dtype=float32))
    """
    first, second = reference[max(-lag, 0) :], estimate[max(lag, 0) :]
    length = min(len(first), len(second))
    return first[:length], second[:length]


def in_time(samples: Samples, lag: int) -> Samples:
    """Return sound of the same length with `lag` taken back; zeros come in at the end it leaves.

    >>> in_time(np.float32([1, 2, 3]), -1), in_time(np.float32([1, 2, 3]), 1)
    (array([0., 1., 2.], dtype=float32), array([2., 3., 0.], dtype=float32))
    """
    if lag < 0:
        return np.pad(samples, (-lag, 0))[: len(samples)]
    return np.pad(samples[lag:], (0, min(lag, len(samples))))
