"""Are the codes those of plain `DacModel`? One clip at a time, float32, on the CPU."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dac_tokenize.codec.geometry import encoder_chain

Codes = npt.NDArray[np.uint16]
Samples = npt.NDArray[np.float32]

_SHIFTS = (-3, -2, -1, 1, 2, 3)
_ALIKE = 0.9
_UNLIKE = 0.5


class PlainCodec:
    """transformers' `DacModel.encode` on one clip alone, zero-padded to a whole frame.

    Nothing of this package's own encoder is used, so that agreement proves it.

    Args:
        model: a `DacModel` in float32 on the CPU.
    """

    def __init__(self, model: Any) -> None:
        ratios = [int(ratio) for ratio in model.config.downsampling_ratios]
        self._model = model
        self.downsampling_ratios = ratios
        self.hop_length = math.prod(ratios)
        self.context_frames: int = encoder_chain(ratios).context_frames[1]

    def encode(self, samples: Samples, num_codebooks: int) -> Codes:
        """Return the codes of a whole clip.

        Args:
            samples: float32, shape (num_samples,).
            num_codebooks: codebooks wanted.

        Returns:
            uint16, shape (num_codebooks, num_frames).
        """
        import torch

        padded = np.pad(samples, (0, -len(samples) % self.hop_length))
        with torch.inference_mode():
            values = torch.from_numpy(padded.astype(np.float32))[None, None]
            codes = self._model.encode(values).audio_codes[0, :num_codebooks]
        return np.asarray(codes, np.uint16)


def agreement(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> list[float]:
    """Return the share of equal codes in each codebook, over the frames that both have.

    >>> agreement(np.array([[1, 2], [3, 4]]), np.array([[1, 2], [3, 5]]))
    [1.0, 0.5]
    """
    frames = min(one.shape[1], other.shape[1])
    books = min(len(one), len(other))
    if not frames:
        return [0.0] * books
    shares: list[float] = (one[:books, :frames] == other[:books, :frames]).mean(axis=1).tolist()
    return shares


@dataclass(frozen=True, slots=True)
class Disagreement:
    """A clip whose codes are not plain `DacModel`'s, with what tells why.

    Attributes:
        held: first codebook as the corpus holds it, shape (num_frames,).
        plain: first codebook as plain `DacModel` gives it.
        detail: what was found.
    """

    held: npt.NDArray[np.uint16]
    plain: npt.NDArray[np.uint16]
    detail: str

    def is_of(self, other: Disagreement) -> bool:
        """Whether this clip's codes are those of another clip's sound."""
        frames = min(len(self.held), len(other.plain))
        return bool(frames and np.mean(self.held[:frames] == other.plain[:frames]) > _ALIKE)


def explain(held: Codes, plain: Codes) -> Disagreement:
    """Say how codes differ from plain `DacModel`'s.

    >>> plain = np.arange(60).reshape(2, 30).astype(np.uint16)
    >>> explain(np.roll(plain, 1, axis=1), plain).detail
    '0.00% of codes agree; they do when moved by 1 frame: the codes are late'
    """
    shares = agreement(held, plain)
    detail = f"{np.mean(shares):.2%} of codes agree"
    moved = {shift: float(np.mean(_moved(held, plain, shift))) for shift in _SHIFTS}
    best = max(moved, key=lambda shift: moved[shift])
    wrong = [book for book, share in enumerate(shares) if share < _UNLIKE]
    if moved[best] > _ALIKE:
        frames = "1 frame" if abs(best) == 1 else f"{abs(best)} frames"
        late = "late" if best > 0 else "early"
        detail += f"; they do when moved by {frames}: the codes are {late}"
    elif wrong and len(wrong) < len(shares) and min(_others(shares, wrong)) > _ALIKE:
        detail += f"; those of codebook {', '.join(map(str, wrong))} do not"
    elif len(wrong) == len(shares):
        detail += "; the codes are of other sound, or of another codec"
    return Disagreement(held[0].copy(), plain[0].copy(), detail)


def _others(shares: list[float], wrong: list[int]) -> list[float]:
    return [share for book, share in enumerate(shares) if book not in wrong]


def _moved(held: Codes, plain: Codes, shift: int) -> list[float]:
    """Return the agreement when `held` is taken to come `shift` frames late."""
    if abs(shift) >= held.shape[1]:
        return [0.0]
    return agreement(held[:, max(shift, 0) :], plain[:, max(-shift, 0) :])
