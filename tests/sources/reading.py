"""Lists inputs and reads everything that they give."""

import numpy as np

from dac_tokenize.errors import ClipError
from dac_tokenize.references import Reference
from dac_tokenize.sources import list_references
from dac_tokenize.waveform import WaveformOpener

RATE = 16_000


def listed(*inputs: object) -> list[Reference]:
    return list(list_references([str(one) for one in inputs]))


def read_all(references: list[Reference], rate: int = RATE) -> dict[str, np.ndarray | str]:
    """What each key gives: samples (num_channels, num_samples), or "ErrorClass: message"."""
    opener, results = WaveformOpener(rate), {}
    for reference in references:
        assert reference.key not in results
        try:
            results[reference.key] = opener.read(reference)
        except ClipError as error:
            results[reference.key] = f"{type(error).__name__}: {error}"
    opener.close()
    return results


def faults(results: dict[str, np.ndarray | str]) -> dict[str, str]:
    return {key: value for key, value in results.items() if isinstance(value, str)}
