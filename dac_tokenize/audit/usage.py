"""How a corpus uses its codebooks: counts, entropy, perplexity; and a histogram of durations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.int64]

DURATION_EDGES = tuple(float(2.0**power) for power in range(-3, 14))
"""Edges of the histogram of durations, in seconds, each twice the one before."""


def count_codes(counts: Counts, codes: npt.NDArray[np.uint16]) -> None:
    """Add a clip's codes to `counts`, shape (num_codebooks, codebook_size), in place.

    Codes out of range are left out; `check_row` reports them.
    """
    size = counts.shape[1]
    for book, row in zip(counts, codes, strict=False):
        book += np.bincount(row[row < size], minlength=size)


def duration_bin(seconds: float) -> int:
    """Return the bin of a duration: bin i holds what lies below `DURATION_EDGES[i]`.

    >>> duration_bin(0.1), duration_bin(1.0)
    (0, 4)
    """
    return int(np.searchsorted(DURATION_EDGES, seconds, side="right"))


@dataclass(frozen=True, slots=True)
class CodebookUsage:
    """How one codebook is used.

    Attributes:
        codebook: its number, from 0.
        used: entries that occur.
        usage: the same as a share of all entries.
        entropy_bits: entropy of its entries; at most log2 of the codebook's size.
        perplexity: 2 to the entropy: as many equally likely entries would say as much.
        top_share: share of the most frequent entry.
    """

    codebook: int
    used: int
    usage: float
    entropy_bits: float
    perplexity: float
    top_share: float


def codebook_usage(counts: Counts) -> list[CodebookUsage]:
    """Return the usage of each codebook.

    Args:
        counts: shape (num_codebooks, codebook_size).

    >>> codebook_usage(np.array([[2, 2, 0, 0]]))[0].perplexity
    2.0
    """
    return [_usage(book, row) for book, row in enumerate(counts)]


def _usage(codebook: int, counts: npt.NDArray[Any]) -> CodebookUsage:
    total = int(counts.sum())
    if not total:
        return CodebookUsage(codebook, 0, 0.0, 0.0, 1.0, 0.0)
    shares = counts[counts > 0] / total
    entropy = float(-(shares * np.log2(shares)).sum()) + 0.0
    return CodebookUsage(
        codebook=codebook,
        used=len(shares),
        usage=len(shares) / len(counts),
        entropy_bits=entropy,
        perplexity=float(2.0**entropy),
        top_share=float(shares.max()),
    )
