"""Waveforms ahead of their use: a bounded pool of threads fetches, decodes and resamples."""

from collections.abc import Callable, Iterable, Iterator

from dac_tokenize.errors import ClipError
from dac_tokenize.references import Reference
from dac_tokenize.waveform import Waveform


def prefetch_waveforms(
    references: Iterable[Reference],
    open: Callable[[Reference], Waveform],
    num_threads: int = 4,
    max_buffered_seconds: float = 600.0,
) -> Iterator[tuple[Reference, Waveform | ClipError]]:
    """Placeholder with the final interface: one after another, without threads."""
    for reference in references:
        try:
            yield reference, open(reference)
        except ClipError as error:
            yield reference, error
