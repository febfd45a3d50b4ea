"""Loudness after ITU-R BS.1770-4, measured in a stream, with pyloudnorm's filters."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from dac_tokenize.errors import UsageError
from dac_tokenize.waveform.options import MIN_LOUDNESS_LUFS, Samples

GATE_SECONDS = 0.4  # the standard's blocks
HOPS_PER_GATE = 4  # which overlap by three quarters
RELATIVE_GATE = -10.0
OFFSET = -0.691


class LoudnessMeter:
    """Measures one channel while it is read, in memory of 80 bytes a second.

    Gives what `pyloudnorm.Meter` gives for the whole, and the same, bit for bit, however the
    samples are cut into blocks.

    Args:
        sampling_rate: of the samples (Hz).

    Raises:
        UsageError: pyloudnorm is not installed.
    """

    def __init__(self, sampling_rate: int) -> None:
        check_installed()
        import pyloudnorm  # type: ignore[import-untyped]

        self._rate = sampling_rate
        filters = pyloudnorm.Meter(sampling_rate)._filters.values()
        self._filters = [(one.b, one.a, np.zeros(len(one.b) - 1)) for one in filters]
        self._gains = [one.passband_gain for one in filters]
        self._rest: npt.NDArray[np.float64] = np.zeros(0)
        self._energies: list[float] = []
        self._num_samples = 0

    def add(self, samples: npt.NDArray[Any]) -> None:
        """Takes the next samples: an array (num_samples,)."""
        from scipy.signal import lfilter  # type: ignore[import-untyped]

        filtered = samples.astype(np.float64)
        for index, (b, a, state) in enumerate(self._filters):
            filtered, state = lfilter(b, a, filtered, zi=state)
            filtered = self._gains[index] * filtered
            self._filters[index] = b, a, state
        self._num_samples += len(samples)
        self._rest = np.concatenate([self._rest, filtered])
        while (length := self._hop_length()) <= len(self._rest):
            self._energies.append(float(np.sum(np.square(self._rest[:length]))))
            self._rest = self._rest[length:]

    def _edge(self, hop: int) -> int:
        return int(GATE_SECONDS * hop / HOPS_PER_GATE * self._rate)

    def _hop_length(self) -> int:
        hop = len(self._energies)
        return self._edge(hop + 1) - self._edge(hop)

    def loudness(self) -> float | None:
        """Gives the integrated loudness of all samples so far.

        Returns:
            The loudness (LUFS); None where there is less than 0.4 s, or nothing above the
            absolute gate of -70 LUFS.
        """
        if self._num_samples < GATE_SECONDS * self._rate:
            return None
        seconds = self._num_samples / self._rate
        num_gates = round((seconds - GATE_SECONDS) / GATE_SECONDS * HOPS_PER_GATE) + 1
        energies = [*self._energies, float(np.sum(np.square(self._rest)))]
        hops = np.zeros(num_gates + HOPS_PER_GATE - 1)
        hops[: len(energies)] = energies[: len(hops)]
        gates = np.lib.stride_tricks.sliding_window_view(hops, HOPS_PER_GATE).sum(axis=1)
        powers = gates / (GATE_SECONDS * self._rate)
        loud = powers[_lufs(powers) >= MIN_LOUDNESS_LUFS]
        if not len(loud):
            return None
        louder = loud[_lufs(loud) > _lufs(loud.mean()) + RELATIVE_GATE]
        return float(_lufs(louder.mean()))


def _lufs(power: Any) -> Any:
    with np.errstate(divide="ignore"):
        return OFFSET + 10.0 * np.log10(power)


def check_installed() -> None:
    """Makes sure that loudness can be measured.

    Raises:
        UsageError: pyloudnorm is not installed.
    """
    try:
        import pyloudnorm  # noqa: F401
    except ImportError as error:
        raise UsageError(
            "loudness is measured with pyloudnorm: pip install 'dac-tokenize[loudness]'"
        ) from error


def measure(blocks: Iterable[Samples], num_channels: int, sampling_rate: int) -> list[float | None]:
    """Measures every channel of a clip for itself.

    Args:
        blocks: float32 arrays (num_channels, num_samples).
        num_channels: channels in every block.
        sampling_rate: of the blocks (Hz).

    Returns:
        Loudness of each channel (LUFS), as `LoudnessMeter.loudness` gives it.
    """
    meters = [LoudnessMeter(sampling_rate) for _ in range(num_channels)]
    for block in blocks:
        for meter, samples in zip(meters, block, strict=True):
            meter.add(samples)
    return [meter.loudness() for meter in meters]


def gains(loudness: Iterable[float | None], target: float) -> Samples:
    """Gives the factors that bring channels to a target; 1 for those without loudness.

    >>> gains([-26.0, None], target=-20.0).round(3)
    array([[1.995],
           [1.   ]], dtype=float32)
    """
    factors = [1.0 if one is None else 10.0 ** ((target - one) / 20.0) for one in loudness]
    return np.array(factors, np.float32)[:, None]


def amplified(blocks: Iterable[Samples], factors: Samples) -> Iterator[Samples]:
    """Multiplies blocks (num_channels, num_samples) by a factor for each channel."""
    for block in blocks:
        yield block * factors
