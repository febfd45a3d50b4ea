"""Checks of one row's codes, without any sound; those of files are in `corpus.checking`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from dac_tokenize.codec.checkpoint import CodecIdentity

Codes = npt.NDArray[np.uint16]

REPEAT_SECONDS = 1.0
_MIN_CONSTANT_FRAMES = 12
_VARIED_SHARE = 0.25  # of the frames that must differ in the other codebooks


def check_codes(codes: Codes, codec: CodecIdentity) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with one row's codes, or worth a look: name of the check, what was found.

    Args:
        codes: uint16, shape (num_codebooks, num_frames).
        codec: the codec that the corpus was planned for.
    """
    if not codes.size:
        return
    if constant := constant_codebooks(codes):
        names = ", ".join(str(book) for book in constant)
        yield "constant-codebook", f"codebook {names} is {int(codes[constant[0], 0])} throughout"
    longest = longest_repeat(codes) / codec.frame_rate
    if longest >= REPEAT_SECONDS:
        yield "repeating", f"{longest:.1f} s of the same frame"


def constant_codebooks(codes: Codes) -> list[int]:
    """Return the codebooks that never change in a clip whose other codebooks do.

    >>> varied = np.arange(40).reshape(2, 20).astype(np.uint16)
    >>> constant_codebooks(np.vstack([varied, np.zeros((1, 20), np.uint16)]))
    [2]
    """
    if codes.shape[1] < _MIN_CONSTANT_FRAMES:
        return []
    constant = np.flatnonzero((codes == codes[:, :1]).all(axis=1)).tolist()
    if not constant:
        return []
    distinct = [len(np.unique(book)) for book in codes]
    varied = sum(count >= _VARIED_SHARE * codes.shape[1] for count in distinct)
    return constant if varied >= len(codes) / 2 else []


def longest_repeat(codes: Codes) -> int:
    """Return the length in frames of the longest run of one and the same frame.

    >>> longest_repeat(np.array([[1, 1, 1, 2], [5, 5, 5, 5]], np.uint16))
    3
    """
    changes = np.flatnonzero((codes[:, 1:] != codes[:, :-1]).any(axis=0)) + 1
    edges = np.concatenate([[0], changes, [codes.shape[1]]])
    return int(np.diff(edges).max())
