"""Rows with nearly the same codes, by MinHash, in memory that does not grow with the corpus.

A row is the set of its runs of `SHINGLE_FRAMES` frames of the first codebook. Signatures go to a
temporary file, and the hashes of their bands to buckets, of which one at a time is looked at.
"""

from __future__ import annotations

import importlib
import itertools
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from dac_tokenize.errors import UsageError

Signature = npt.NDArray[np.uint32]

SHINGLE_FRAMES = 4
NUM_HASHES = 64
MIN_SHINGLES = 16
"""Rows with fewer different runs, such as silence, are not compared."""

_BANDS = 8  # of 8 hashes: pairs that share three quarters of their runs meet in one
_BUCKETS = 64
_PRIME = np.uint64(0x9E3779B97F4A7C15)
_ENTRY = np.dtype([("hash", "<u8"), ("row", "<i8"), ("band", "<i8")])
_MAX_GROUP = 32  # of so many rows that share a band each is compared with each


def signature(codes: npt.NDArray[np.uint16]) -> Signature | None:
    """Return the MinHash signature of a clip's codes, or None where there is too little of it.

    Args:
        codes: uint16, shape (num_codebooks, num_frames).

    Returns:
        uint32, shape (`NUM_HASHES`,).
    """
    shingles = _shingles(codes[0])
    if len(shingles) < MIN_SHINGLES:
        return None
    # seed and permutations are the library's own, the same in every process
    minhash = _library().MinHash(num_perm=NUM_HASHES, hashfunc=int)
    minhash.update_batch(shingles.tolist())
    return np.asarray(minhash.hashvalues, np.uint32)


def similarity(one: Signature, other: Signature) -> float:
    """Return the estimated share of runs that two rows have in common, 0 to 1."""
    return float(np.mean(one == other))


def _shingles(codes: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint32]:
    """Return the different runs of a codebook, as 32-bit hashes."""
    if len(codes) < SHINGLE_FRAMES:
        return np.empty(0, np.uint32)
    runs = np.lib.stride_tricks.sliding_window_view(codes, SHINGLE_FRAMES).astype(np.uint64)
    mixed = np.zeros(len(runs), np.uint64)
    for column in runs.T:
        mixed = (mixed ^ column) * _PRIME
        mixed ^= mixed >> np.uint64(29)
    return np.unique((mixed >> np.uint64(32)).astype(np.uint32))


def _library() -> Any:
    try:
        datasketch = importlib.import_module("datasketch")
    except ImportError as error:
        raise UsageError(
            "near-duplicates need 'datasketch'; install it with pip install 'dac-tokenize[audit]'"
        ) from error
    return datasketch


@dataclass(frozen=True, slots=True)
class DuplicatePair:
    """Two rows with nearly the same codes.

    Attributes:
        one: number of the first row.
        other: number of the second, which is higher.
        similarity: share of runs in common, estimated, 0 to 1.
    """

    one: int
    other: int
    similarity: float


class SignatureSpool:
    """Signatures of any number of rows, on disk; a context manager that removes them.

    >>> with SignatureSpool() as spool:
    ...     for row in range(2):
    ...         spool.add(row, signature(np.arange(60, dtype=np.uint16)[None]))
    ...     [pair.similarity for pair in spool.pairs(0.8)]
    [1.0]
    """

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="dac-tokenize-audit-")
        root = Path(self._folder.name)
        self._signatures = (root / "signatures").open("w+b")
        self._buckets = [(root / f"bucket{i}").open("w+b") for i in range(_BUCKETS)]
        self._rows: Any = (root / "rows").open("w+b")
        self._count = 0
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for file in [self._signatures, self._rows, *self._buckets]:
            file.close()
        self._folder.cleanup()

    def add(self, row: int, values: Signature | None) -> None:
        """Add a row's signature; None is left out."""
        if values is None:
            return
        self._signatures.write(values.astype("<u4").tobytes())
        self._rows.write(np.int64(row).tobytes())
        for band, mixed in enumerate(_band_hashes(values)):
            entry = np.array([(mixed, self._count, band)], _ENTRY)
            self._buckets[int(mixed >> np.uint64(32)) % _BUCKETS].write(entry.tobytes())
        self._count += 1

    def pairs(self, threshold: float) -> Iterator[DuplicatePair]:
        """Yield pairs whose estimated similarity reaches `threshold`, once each.

        Of many rows that are all alike, each is paired with one other at least.
        """
        if not self._count:
            return
        for file in [self._signatures, self._rows, *self._buckets]:
            file.flush()
        signatures = np.memmap(
            self._signatures.name, "<u4", mode="r", shape=(self._count, NUM_HASHES)
        )
        rows = np.memmap(self._rows.name, "<i8", mode="r")
        for one, other, band in itertools.chain.from_iterable(map(_candidates, self._buckets)):
            first, second = signatures[one], signatures[other]
            alike = similarity(first, second)
            if alike >= threshold and _first_shared_band(first, second) == band:
                low, high = sorted((int(rows[one]), int(rows[other])))
                yield DuplicatePair(low, high, alike)


def _candidates(bucket: Any) -> Iterator[tuple[int, int, int]]:
    """Yield two rows that share a band, and the band, for all of a bucket."""
    entries = np.fromfile(bucket.name, _ENTRY)
    entries.sort(order=["hash", "row"])
    starts = np.flatnonzero(entries["hash"][1:] != entries["hash"][:-1]) + 1
    for group in np.split(entries, starts):
        rows, head = group["row"].tolist(), group["row"][:_MAX_GROUP].tolist()
        band = int(group["band"][0]) if len(group) else 0
        for one, other in itertools.combinations(head, 2):
            yield one, other, band
        for other in rows[_MAX_GROUP:]:
            yield rows[0], other, band


def _band_hashes(values: Signature) -> npt.NDArray[np.uint64]:
    """Return one hash for each band of a signature, shape (`_BANDS`,)."""
    mixed = np.arange(1, _BANDS + 1, dtype=np.uint64)
    for column in values.reshape(_BANDS, -1).astype(np.uint64).T:
        mixed = (mixed ^ column) * _PRIME
        mixed ^= mixed >> np.uint64(31)
    return mixed


def _first_shared_band(one: Signature, other: Signature) -> int:
    """Return the first band in which two rows agree, so that each pair is told once."""
    return int(np.argmax((one == other).reshape(_BANDS, -1).all(axis=1)))
