"""Picked rows against their sources: decoded, scored, encoded again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
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

_BATCH_SECONDS = 30.0
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


@dataclass(slots=True)
class _Work:
    """A row while it is measured."""

    pick: Pick
    row: dict[str, Any]
    frames: int
    source: Samples | None = None
    decoded: list[Samples] = field(default_factory=list)
    is_sound: bool = False
    found: list[tuple[str, str]] = field(default_factory=list)
    values: dict[str, Any] = field(default_factory=dict)

    @property
    def codes(self) -> Codes:
        codes: Codes = self.row["audio_codes"]
        return codes


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
        for batch in self._batches(picks):
            self._decode_batch(batch)
            for work in batch:
                if work.source is not None and work.decoded:
                    self._against_source(work, work.source)
            if self._options.stability:
                self._encode_again([work for work in batch if work.is_sound])
            for work in batch:
                yield self._result(work)

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
        codes = row["audio_codes"][:, : frames + self._decoder_context]
        decoded = self._tokenizer.decode([codes], [self._length(row, frames)])[0]
        try:
            source = self._source(row, reference, frames)
        except ClipError as error:
            return Sound(None, decoded, error)
        return Sound(source[: frames * self._tokenizer.hop_length], decoded)

    def _length(self, row: Mapping[str, Any], frames: int) -> int:
        return int(min(row["num_samples"], frames * self._tokenizer.hop_length))

    def _source(self, row: Mapping[str, Any], reference: Reference, frames: int) -> Samples:
        """Read the first frames' source, and what the encoder sees after them."""
        wanted = (frames + self._plain.context_frames) * self._tokenizer.hop_length
        return self._rows.source(row, reference, wanted)

    def _batches(self, picks: Iterable[Pick]) -> Iterator[list[_Work]]:
        """Yield rows with their sources, so many that short ones fill the codec's rows."""
        batch: list[_Work] = []
        samples = 0
        for pick, row, reference in self._rows.read(picks):
            work = _Work(pick, row, self._frames(row["audio_codes"], MAX_SECONDS))
            try:
                work.source = self._source(row, reference, work.frames)
            except ClipError as error:
                work.found.append(("source", str(error)))
            batch.append(work)
            samples += self._length(row, work.frames)
            if samples >= _BATCH_SECONDS * self._tokenizer.sampling_rate:
                yield batch
                batch, samples = [], 0
        yield batch

    def _decode_batch(self, batch: Sequence[_Work]) -> None:
        # Codes that no codec decodes are told by the checks of all rows.
        good = [work for work in batch if is_decodable(work.codes, self._tokenizer)]
        codes = [work.codes[:, : work.frames + self._decoder_context] for work in good]
        sounds = self._variants(codes, [self._length(work.row, work.frames) for work in good])
        for work, decoded in zip(good, sounds, strict=True):
            work.decoded = decoded
            levels = measure_levels([decoded[-1]])
            work.values["levels"] = levels
            work.is_sound = not levels.num_not_finite
            if not self._options.levels_told:
                work.found.extend(levels.problems())

    def _variants(self, clips: Sequence[Codes], lengths: Sequence[int]) -> Iterator[list[Samples]]:
        """Decode clips with each number of codebooks."""
        counts = self._options.codebooks
        decoded = self._tokenizer.decode(
            [codes[:count] for codes in clips for count in counts],
            [length for length in lengths for _ in counts],
        )
        for place in range(0, len(decoded), len(counts)):
            yield decoded[place : place + len(counts)]

    def _result(self, work: _Work) -> ClipAudit:
        pick, row = work.pick, work.row
        where = self._plan.shard_name(pick.shard)
        return ClipAudit(
            pick=pick,
            duration_seconds=row["num_samples"] / self._tokenizer.sampling_rate,
            source_uri=row["source_uri"],
            offset_seconds=row["offset_seconds"],
            channel=row["channel"],
            metadata={name: row[name] for name in self._plan.metadata_schema.names},
            expected_lags=self.expected_lags,
            findings=tuple(Finding(check, pick.key, where, detail) for check, detail in work.found),
            **work.values,
        )

    def _against_source(self, work: _Work, source: Samples) -> None:
        codes, length = work.codes, len(work.decoded[-1])
        if work.frames == codes.shape[1] and len(source) != work.row["num_samples"]:
            more = "at least " if len(source) > work.row["num_samples"] else ""
            detail = f"it has {more}{len(source)} samples now; the row says"
            work.found.append(("source", f"{detail} {work.row['num_samples']}"))
        if self._options.fidelity:
            work.values |= self._fidelity(codes, source, work.frames, work.found)
        lag = estimate_lag(source[:length], work.decoded[-1], widened(self.expected_lags))
        if work.values.get("disagreement") is not None or not self._options.fidelity:
            self._find_shift(source[:length], work.decoded[-1], lag, work.found)
        work.values["quality"] = self._quality(source[:length], work.decoded, lag)
        work.values["lag_samples"] = lag

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

    def _encode_again(self, batch: Sequence[_Work]) -> None:
        """Send decoded sound through the codec once more.

        The codec's own offset is taken back first, so that frames lie where they lay; and after
        the second decoding as after the first.
        """
        lags = [
            int(np.clip(work.values.get("lag_samples", 0), *self.expected_lags)) for work in batch
        ]
        firsts = [in_time(work.decoded[-1], lag) for work, lag in zip(batch, lags, strict=True)]
        codes = self._tokenizer.encode(firsts)
        sounds = self._variants(codes, [len(first) for first in firsts])
        rate, perceptual = self._tokenizer.sampling_rate, self._options.perceptual
        for work, lag, first, again, second in zip(batch, lags, firsts, codes, sounds, strict=True):
            work.values["stability"] = tuple(agreement(work.codes[:, : work.frames], again))
            pair = aligned(first, second[-1], lag)
            work.values["repeat"] = measure(*pair, rate, perceptual)
            if work.source is not None:
                work.values["again"] = self._quality(work.source[: len(first)], second, lag)

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
