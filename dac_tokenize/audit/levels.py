"""Is decoded sound finite, silent or clipped? Any number of rows, in bounded memory."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from dac_tokenize.tokenizer import DacTokenizer

Codes = npt.NDArray[np.uint16]
Samples = npt.NDArray[np.float32]

LEVEL_EDGES = tuple(float(edge) for edge in range(-100, 1, 4))
"""Edges of the histogram of levels, in dB of full scale."""

_FULL_SCALE = 0.999
_CLIPPED_SHARE = 0.001
_SILENCE_DB = -60.0
_NONE_DB = -120.0
_BATCH_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Levels:
    """How loud some sound is.

    Attributes:
        peak: highest absolute sample; NaN where one is not finite.
        rms_db: level (dB of full scale), at least -120; NaN where a sample is not finite.
        clipped_share: share of samples at full scale.
        num_not_finite: samples that are NaN or infinite.
    """

    peak: float
    rms_db: float
    clipped_share: float
    num_not_finite: int

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield what is wrong or worth a look: name of the check, what was found."""
        if self.num_not_finite:
            yield "not-finite", f"{self.num_not_finite:,} samples of the decoded sound"
            return
        if self.clipped_share > _CLIPPED_SHARE:
            yield "clipping", f"{self.clipped_share:.2%} of the decoded samples are at full scale"
        if self.rms_db < _SILENCE_DB:
            yield "silence", f"the decoded sound has {self.rms_db:.0f} dB of full scale"


def level_bin(rms_db: float) -> int:
    """Return the bin of a level: bin i holds what lies below `LEVEL_EDGES[i]`.

    >>> level_bin(-101.0), level_bin(-0.5)
    (0, 25)
    """
    return int(np.searchsorted(LEVEL_EDGES, rms_db, side="right"))


def measure_levels(blocks: Iterable[Samples]) -> Levels:
    """Return the levels of sound that comes in blocks.

    Args:
        blocks: float32, shape (n,) each.

    >>> measure_levels([np.float32([0.5, -1.0]), np.float32([0.5])]).peak
    1.0
    """
    peak = energy = 0.0
    count = clipped = not_finite = 0
    for block in blocks:
        sizes = np.abs(block)
        not_finite += int(np.sum(~np.isfinite(block)))
        peak = max(peak, float(sizes.max(initial=0.0)))
        clipped += int(np.sum(sizes >= _FULL_SCALE))
        energy += float(np.sum(np.square(block, dtype=np.float64)))
        count += len(block)
    if not_finite:
        return Levels(math.nan, math.nan, 0.0, not_finite)
    power = energy / max(count, 1)
    level = max(10 * math.log10(power), _NONE_DB) if power else _NONE_DB
    return Levels(peak, level, clipped / max(count, 1), 0)


def is_decodable(codes: Codes, codec: Any) -> bool:
    """Tell whether codes are such that a codec decodes them.

    Args:
        codes: shape (num_codebooks, num_frames).
        codec: what has `num_codebooks` and `codebook_size`.
    """
    return (
        codes.size > 0
        and len(codes) <= codec.num_codebooks
        and int(codes.max()) < codec.codebook_size
    )


def decoded_levels(
    tokenizer: DacTokenizer, clips: Iterable[tuple[Codes, int]]
) -> Iterator[Levels | None]:
    """Decode clips, and yield the levels of each, in order; at most a minute in memory at once.

    Args:
        tokenizer: the codec.
        clips: codes (num_codebooks, num_frames), and length in samples.

    Yields:
        The levels; None for codes that cannot be decoded.
    """
    most = _BATCH_SECONDS * tokenizer.sampling_rate
    waiting: list[tuple[Codes, int]] = []
    length = 0
    for codes, num_samples in clips:
        frames = codes.shape[1] * tokenizer.hop_length
        if waiting and length + frames > most:
            yield from _batch_levels(tokenizer, waiting)
            waiting, length = [], 0
        waiting.append((codes, num_samples))
        length += frames
    yield from _batch_levels(tokenizer, waiting)


def _batch_levels(
    tokenizer: DacTokenizer, clips: list[tuple[Codes, int]]
) -> Iterator[Levels | None]:
    good = [clip for clip in clips if is_decodable(clip[0], tokenizer)]
    if len(good) == 1:  # it may be of any length
        sounds: Iterator[Iterable[Samples]] = iter([tokenizer.decode_blocks(*good[0])])
    else:
        codes, lengths = [one for one, _ in good], [length for _, length in good]
        sounds = ([sound] for sound in tokenizer.decode(codes, lengths))
    for clip in clips:
        yield measure_levels(next(sounds)) if is_decodable(clip[0], tokenizer) else None
