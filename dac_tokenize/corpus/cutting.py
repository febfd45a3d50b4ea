"""The arithmetic of plans: how long clips probably are, and where shards start.

A clip's length is known, or estimated from the size of its file: some files of each suffix are
opened for their headers, which gives bytes a second for that suffix. So planning a million remote
files opens a few dozen of them. Estimates only decide where shards are cut; rows hold true lengths.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from dac_tokenize import files
from dac_tokenize.errors import StoreError
from dac_tokenize.retries import is_shared_store

FILES_PROBED = 32
"""Most files of a suffix opened to learn its bytes a second."""

UNKNOWN_SECONDS = 10.0
"""Estimate for a clip whose duration and size are both unknown."""

FALLBACK_BYTES_PER_SECOND: Mapping[str, float] = {
    ".wav": 88_200.0,
    ".aif": 88_200.0,
    ".aiff": 88_200.0,
    ".au": 88_200.0,
    ".flac": 50_000.0,
    ".mp3": 16_000.0,
    ".m4a": 16_000.0,
    ".ogg": 14_000.0,
    ".opus": 8_000.0,
    ".webm": 12_000.0,
}
"""Bytes a second where no file of a suffix could be opened: usual rates."""

_OTHER_BYTES_PER_SECOND = 16_000.0
_CREDIBLE_BYTES_PER_SECOND = (50.0, 10e6)
_MAX_SUFFIXES = 64


@dataclass(slots=True)
class EvenSample:
    """Keeps evenly spaced items of a stream whose length is not known beforehand.

    Every `stride`-th item is kept; when twice `size` are, every other goes and the stride doubles.

    >>> sample = EvenSample(size=2)
    >>> for item in range(9):
    ...     sample.add(item)
    >>> sample.items()
    [0, 4]
    """

    size: int = FILES_PROBED
    stride: int = 1
    count: int = 0
    kept: list[Any] = field(default_factory=list)

    def add(self, item: Any) -> None:
        """Offer the next item of the stream."""
        if self.count % self.stride == 0:
            self.kept.append(item)
            if len(self.kept) >= 2 * self.size:
                self.kept = self.kept[::2]
                self.stride *= 2
        self.count += 1

    def items(self) -> list[Any]:
        """Return at most `size` items, evenly spaced over all that was offered."""
        if len(self.kept) <= self.size:
            return list(self.kept)
        return [self.kept[i * len(self.kept) // self.size] for i in range(self.size)]


def suffix_of(name: str) -> str:
    """Return the lower-case suffix of a path or URL, with its dot; "" where it has none.

    >>> suffix_of("s3://bucket/a.b/clip.WAV")
    '.wav'
    """
    return PurePosixPath(name.split("?", 1)[0]).suffix.lower()


class SizeSamples:
    """Samples of (uri, size_bytes) for each suffix, from a stream of files."""

    def __init__(self, size: int = FILES_PROBED) -> None:
        self._size = size
        self._samples: dict[str, EvenSample] = {}

    def add(self, uri: str, size_bytes: int) -> None:
        """Offer a file of known size and unknown duration."""
        suffix = suffix_of(uri)
        if suffix not in self._samples:
            if len(self._samples) >= _MAX_SUFFIXES:
                return
            self._samples[suffix] = EvenSample(self._size)
        self._samples[suffix].add((uri, size_bytes))

    def bytes_per_second(self, probe: Callable[[str], float | None]) -> dict[str, float]:
        """Return the bytes a second of each suffix.

        Args:
            probe: gives a file's duration in seconds, or None where it cannot be told.
        """
        with ThreadPoolExecutor(max_workers=8) as pool:
            return {
                suffix: _rate(suffix, sample.items(), pool, probe)
                for suffix, sample in sorted(self._samples.items())
            }


def _rate(
    suffix: str,
    probed: Sequence[tuple[str, int]],
    pool: ThreadPoolExecutor,
    probe: Callable[[str], float | None],
) -> float:
    total_bytes, total_seconds = 0, 0.0
    durations = pool.map(probe, [uri for uri, _ in probed])
    low, high = _CREDIBLE_BYTES_PER_SECOND
    for (_, size_bytes), seconds in zip(probed, durations, strict=True):
        if seconds is not None and low * seconds <= size_bytes <= high * seconds:
            total_bytes += size_bytes
            total_seconds += seconds
    if total_bytes and total_seconds:
        return total_bytes / total_seconds
    return FALLBACK_BYTES_PER_SECOND.get(suffix, _OTHER_BYTES_PER_SECOND)


def probe_seconds(uri: str) -> float | None:
    """Return the duration in seconds that a sound file's header gives; None where it gives none.

    Raises:
        StoreError: the store that holds the file, and others, does not answer.
    """
    import soundfile

    from dac_tokenize.waveform.fetch import SourceFile
    from dac_tokenize.waveform.sndfile import GuardedFile

    try:
        with files.open_file(uri) as file:
            size_bytes = file.seek(0, os.SEEK_END)
            # libsndfile would go on reading, and waiting, after an error.
            guard = GuardedFile(SourceFile(file, size_bytes, uri))
            try:
                return float(soundfile.info(guard).duration)
            finally:
                if guard.error is not None:
                    raise guard.error
    except Exception as error:  # whatever a broken file raises: it only costs the estimate
        if isinstance(error, StoreError) and is_shared_store(uri):
            raise
        return None


def estimate_seconds(
    name: str,
    offset_seconds: float,
    duration_seconds: float | None,
    size_bytes: int | None,
    bytes_per_second: Mapping[str, float],
) -> float:
    """Return the known or likely length of a clip in seconds, 0 or more.

    `name` is what has the sound's suffix: its URI, or its key where it lies within an object.

    >>> estimate_seconds("a.wav", 1.0, None, 64_000, {".wav": 32_000.0})
    1.0
    """
    if duration_seconds is not None:
        return max(duration_seconds, 0.0)
    if size_bytes is None:
        return UNKNOWN_SECONDS
    suffix = suffix_of(name)
    rate = bytes_per_second.get(suffix)
    if rate is None:
        rate = FALLBACK_BYTES_PER_SECOND.get(suffix, _OTHER_BYTES_PER_SECOND)
    return max(size_bytes / rate - offset_seconds, 0.0)


class ShardCutter:
    """Says at which clip a new shard starts.

    A shard takes clips as long as their seconds stay within `shard_seconds` and their number
    within `max_clips`; it has at least one clip, however long that is.

    >>> cutter = ShardCutter(shard_seconds=10.0, max_clips=100)
    >>> [cutter.starts_shard(seconds) for seconds in (6.0, 4.0, 1.0, 30.0)]
    [True, False, True, True]
    """

    def __init__(self, shard_seconds: float, max_clips: int) -> None:
        self._shard_seconds = shard_seconds
        self._max_clips = max_clips
        self._seconds = 0.0
        self._clips = 0

    def starts_shard(self, seconds: float) -> bool:
        """Take the next clip; tell whether it is the first of a shard."""
        full = self._clips >= self._max_clips or self._seconds + seconds > self._shard_seconds
        starts = self._clips == 0 or full
        self._seconds = seconds if starts else self._seconds + seconds
        self._clips = 1 if starts else self._clips + 1
        return starts


def shard_starts(seconds: Iterable[float], shard_seconds: float, max_clips: int) -> Iterator[int]:
    """Yield the index of the first clip of each shard; see `ShardCutter`."""
    cutter = ShardCutter(shard_seconds, max_clips)
    return (index for index, length in enumerate(seconds) if cutter.starts_shard(length))
