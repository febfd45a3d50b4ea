"""Picked rows against their sources: decoded, scored, encoded again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dac_tokenize.audit.alignment import aligned, estimate_lag, expected_lags, in_time, widened
from dac_tokenize.audit.clips import ClipAudit, Sound
from dac_tokenize.audit.fidelity import PlainCodec, agreement, explain
from dac_tokenize.audit.findings import Finding
from dac_tokenize.audit.levels import is_decodable, measure_levels
from dac_tokenize.audit.metrics import Quality, measure, measure_all
from dac_tokenize.audit.picked import PickedRows
from dac_tokenize.codec.geometry import decoder_chain
from dac_tokenize.errors import ClipError

if TYPE_CHECKING:
    from dac_tokenize.audit.sampling import Pick
    from dac_tokenize.corpus.plan import Plan
    from dac_tokenize.references import Reference
    from dac_tokenize.tokenizer import DacTokenizer

Samples = npt.NDArray[np.float32]
Codes = npt.NDArray[np.uint16]

MAX_SECONDS = 60.0
"""Longer clips are measured over so many seconds from their start."""

_LAG_GAIN = 1.1  # by how much another lag must correlate better for the sound to count as shifted
_SHIFTED_CORRELATION = 0.2


@dataclass(frozen=True, slots=True)
class MeasureOptions:
    """What is measured of each picked row.

    Attributes:
        codebooks: numbers of codebooks to decode with, ascending; the last is scored as such.
        levels_told: whether the checks of all rows tell what is silent or clipped.
        fidelity: encode the source again by plain `DacModel` and compare.
        stability: encode the decoded sound again, compare codes and sound.
        perceptual: from `perceptual.checked_scores`.
        min_clip_agreement: share of codes below which a clip is told as a fault.
    """

    codebooks: tuple[int, ...]
    levels_told: bool = False
    fidelity: bool = True
    stability: bool = True
    perceptual: tuple[str, ...] = ()
    min_clip_agreement: float = 0.99


class Measurer:
    """Measures picked rows of one corpus; holds the codec.

    Args:
        plan: the corpus's plan.
        tokenizer: the corpus's codec, from `tokenizer_of`.
        options: what to measure.
        plain_model: the codec once more, as a plain `DacModel`.
    """

    def __init__(
        self, plan: Plan, tokenizer: DacTokenizer, options: MeasureOptions, plain_model: Any
    ) -> None:
        self._plan = plan
        self._tokenizer = tokenizer
        self._options = options
        self._plain = PlainCodec(plain_model)
        ratios = self._plain.downsampling_ratios
        self.expected_lags = expected_lags(ratios)
        self._decoder_context: int = decoder_chain(ratios[::-1]).context_frames[1]
        self._rows = PickedRows(plan, tokenizer.sampling_rate)

    def measure(self, picks: Iterable[Pick]) -> Iterator[ClipAudit]:
        """Yield what is measured of each row; reads only the row groups that hold one."""
        for pick, row, reference in self._rows.read(picks):
            yield self._measure_row(pick, row, reference)

    def sounds(self, picks: Iterable[Pick], max_seconds: float) -> Iterator[tuple[Pick, Sound]]:
        """Yield the sound of each row, cut to its first seconds."""
        for pick, row, reference in self._rows.read(picks):
            frames = self._frames(row["audio_codes"], max_seconds)
            yield pick, self._sound(row, reference, frames)

    def close(self) -> None:
        """Close recordings that are kept open."""
        self._rows.close()

    def _frames(self, codes: Codes, max_seconds: float) -> int:
        return min(int(codes.shape[1]), max(1, int(max_seconds * self._tokenizer.frame_rate)))

    def _sound(self, row: Mapping[str, Any], reference: Reference, frames: int) -> Sound:
        decoded = self._decode(row, frames, (row["audio_codes"].shape[0],))[0]
        try:
            source = self._source(row, reference, frames)
        except ClipError as error:
            return Sound(None, decoded, error)
        return Sound(source[: frames * self._tokenizer.hop_length], decoded)

    def _decode(self, row: Mapping[str, Any], frames: int, counts: Iterable[int]) -> list[Samples]:
        """Decode the first frames with several numbers of codebooks."""
        codes = row["audio_codes"][:, : frames + self._decoder_context]
        return self._variants(codes, counts, self._length(row, frames))

    def _variants(self, codes: Codes, counts: Iterable[int], length: int) -> list[Samples]:
        variants = [codes[:count] for count in counts]
        return self._tokenizer.decode(variants, [length] * len(variants))

    def _length(self, row: Mapping[str, Any], frames: int) -> int:
        return int(min(row["num_samples"], frames * self._tokenizer.hop_length))

    def _source(self, row: Mapping[str, Any], reference: Reference, frames: int) -> Samples:
        """Read the first frames' source, and what the encoder sees after them."""
        wanted = (frames + self._plain.context_frames) * self._tokenizer.hop_length
        return self._rows.source(row, reference, wanted)

    def _measure_row(self, pick: Pick, row: dict[str, Any], reference: Reference) -> ClipAudit:
        where = self._plan.shard_name(pick.shard)
        found: list[tuple[str, str]] = []
        source: Samples | None = None
        frames = self._frames(row["audio_codes"], MAX_SECONDS)
        try:
            source = self._source(row, reference, frames)
        except ClipError as error:
            found.append(("source", str(error)))
        # Codes that no codec decodes are told by the checks of all rows.
        values: dict[str, Any] = {}
        if is_decodable(row["audio_codes"], self._tokenizer):
            values = self._figures(row, source, frames, found)
        return ClipAudit(
            pick=pick,
            duration_seconds=row["num_samples"] / self._tokenizer.sampling_rate,
            source_uri=row["source_uri"],
            offset_seconds=row["offset_seconds"],
            channel=row["channel"],
            metadata={name: row[name] for name in self._plan.metadata_schema.names},
            expected_lags=self.expected_lags,
            findings=tuple(Finding(check, pick.key, where, detail) for check, detail in found),
            **values,
        )

    def _figures(
        self,
        row: Mapping[str, Any],
        source: Samples | None,
        frames: int,
        found: list[tuple[str, str]],
    ) -> dict[str, Any]:
        decoded = self._decode(row, frames, self._options.codebooks)
        levels = measure_levels([decoded[-1]])
        values: dict[str, Any] = {"levels": levels}
        if not self._options.levels_told:
            found.extend(levels.problems())
        lag = 0
        if source is not None:
            values |= self._against_source(row, source, decoded, frames, found)
            lag = int(np.clip(values["lag_samples"], *self.expected_lags))
        if self._options.stability and not levels.num_not_finite:
            length = len(decoded[-1])
            values |= self._encoded_again(
                row["audio_codes"][:, :frames],
                decoded[-1],
                None if source is None else source[:length],
                lag,
            )
        return values

    def _against_source(
        self,
        row: Mapping[str, Any],
        source: Samples,
        decoded: list[Samples],
        frames: int,
        found: list[tuple[str, str]],
    ) -> dict[str, Any]:
        length = len(decoded[-1])
        if frames == row["audio_codes"].shape[1] and len(source) != row["num_samples"]:
            more = "at least " if len(source) > row["num_samples"] else ""
            detail = f"it has {more}{len(source)} samples now; the row says {row['num_samples']}"
            found.append(("source", detail))
        values: dict[str, Any] = {}
        if self._options.fidelity:
            values = self._fidelity(row["audio_codes"], source, frames, found)
        lag = estimate_lag(source[:length], decoded[-1], widened(self.expected_lags))
        if values.get("disagreement") is not None or not self._options.fidelity:
            self._find_shift(source[:length], decoded[-1], lag, found)
        values["quality"] = self._quality(source[:length], decoded, lag)
        return values | {"lag_samples": lag}

    def _quality(self, source: Samples, sounds: Sequence[Samples], lag: int) -> dict[int, Quality]:
        """Return the figures of sounds, one for each number of codebooks, that have one lag."""
        pairs = [aligned(source, sound, lag) for sound in sounds]
        figures = measure_all(
            pairs[0][0],
            [sound for _, sound in pairs],
            self._tokenizer.sampling_rate,
            self._options.perceptual,
        )
        return dict(zip(self._options.codebooks, figures, strict=True))

    def _fidelity(
        self, codes: Codes, source: Samples, frames: int, found: list[tuple[str, str]]
    ) -> dict[str, Any]:
        plain = self._plain.encode(source, len(codes))[:, :frames]
        held = codes[:, :frames]
        shares = agreement(held, plain)
        values: dict[str, Any] = {"agreement": tuple(shares)}
        if np.mean(shares) < self._options.min_clip_agreement:
            values["disagreement"] = explain(held, plain)
            found.append(("fidelity", values["disagreement"].detail))
        return values

    def _encoded_again(
        self, codes: Codes, decoded: Samples, source: Samples | None, lag: int
    ) -> dict[str, Any]:
        """Send decoded sound through the codec once more.

        The codec's own offset is taken back first, so that frames lie where they lay; and after
        the second decoding as after the first.
        """
        first = in_time(decoded, lag)
        again = self._tokenizer.encode([first])[0]
        sounds = self._variants(again, self._options.codebooks, len(first))
        values: dict[str, Any] = {
            "stability": tuple(agreement(codes, again)),
            "repeat": measure(
                *aligned(first, sounds[-1], lag),
                self._tokenizer.sampling_rate,
                self._options.perceptual,
            ),
        }
        if source is not None:
            values["again"] = self._quality(source, sounds, lag)
        return values

    def _find_shift(
        self, source: Samples, decoded: Samples, lag: int, found: list[tuple[str, str]]
    ) -> None:
        """Look for a lag of whole frames that fits clearly better than those of the codec."""
        hop = self._tokenizer.hop_length
        wide = estimate_lag(source, decoded, (-3 * hop, 3 * hop))
        least, most = widened(self.expected_lags)
        if most - hop < wide < hop + least:
            return
        near, far = (_correlation(*aligned(source, decoded, one)) for one in (lag, wide))
        if far > max(_LAG_GAIN * near, _SHIFTED_CORRELATION):
            frames = wide / hop
            found.append(("shifted", f"the decoded sound fits best moved by {frames:+.2f} frames"))


def _correlation(one: Samples, other: Samples) -> float:
    norm = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(one @ other) / norm if norm else 0.0
