"""Picked rows against their sources: fetched again, decoded, scored, encoded again."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dac_tokenize.audit.alignment import RESIDUAL_SAMPLES, aligned, decoder_slack, estimate_lag
from dac_tokenize.audit.checks import reference_key
from dac_tokenize.audit.fidelity import Disagreement, PlainCodec, agreement, explain
from dac_tokenize.audit.findings import Finding
from dac_tokenize.audit.metrics import Quality, measure
from dac_tokenize.audit.sampling import Pick
from dac_tokenize.codec.geometry import decoder_chain
from dac_tokenize.corpus.footer import open_parquet
from dac_tokenize.corpus.plan import Plan, load_shard
from dac_tokenize.corpus.record import codes_from_array
from dac_tokenize.errors import ClipError, UsageError
from dac_tokenize.references import Reference
from dac_tokenize.waveform import WaveformOpener

if TYPE_CHECKING:
    from dac_tokenize.tokenizer import DacTokenizer

Samples = npt.NDArray[np.float32]
Codes = npt.NDArray[np.uint16]

MAX_SECONDS = 60.0
"""Longer clips are measured over so many seconds from their start."""

_FULL_SCALE = 0.999
_CLIPPED_SHARE = 0.001
_SILENCE_DB = -60.0
_LAG_GAIN = 1.1  # by how much another lag must correlate better for the sound to count as shifted


@dataclass(frozen=True, slots=True)
class MeasureOptions:
    """What is measured of each picked row.

    Attributes:
        codebooks: numbers of codebooks to decode with, ascending; the last is scored as such.
        fidelity: encode the source again by plain `DacModel` and compare.
        stability: encode the decoded sound again and compare.
        perceptual: also STOI and PESQ.
        min_clip_agreement: share of codes below which a clip is told as a fault.
    """

    codebooks: tuple[int, ...]
    fidelity: bool = True
    stability: bool = True
    perceptual: bool = False
    min_clip_agreement: float = 0.99


@dataclass(frozen=True, slots=True)
class ClipAudit:
    """What was measured of one row.

    Attributes:
        pick: the row.
        duration_seconds: its length.
        source_uri: where its source lies.
        offset_seconds: where it starts there.
        channel: channel of the source; None for the mixdown.
        metadata: its metadata columns.
        lag_samples: samples by which the decoded sound comes late; None without a source.
        quality: by number of codebooks; empty without a source.
        agreement: with plain `DacModel`, by codebook; empty where not measured.
        stability: of codes of the decoded sound, by codebook; empty where not measured.
        peak: highest absolute sample of the decoded sound.
        rms_db: its level (dB of full scale).
        findings: what was found wrong.
        disagreement: evidence where codes are not plain `DacModel`'s.
    """

    pick: Pick
    duration_seconds: float
    source_uri: str
    offset_seconds: float
    channel: int | None
    metadata: Mapping[str, Any]
    lag_samples: int | None = None
    quality: Mapping[int, Quality] = field(default_factory=dict)
    agreement: tuple[float, ...] = ()
    stability: tuple[float, ...] = ()
    peak: float = 0.0
    rms_db: float = -120.0
    findings: tuple[Finding, ...] = ()
    disagreement: Disagreement | None = None

    @property
    def best(self) -> Quality | None:
        """Quality with all codebooks asked for; None without a source."""
        return self.quality[max(self.quality)] if self.quality else None


@dataclass(frozen=True, slots=True)
class Sound:
    """Source and decoded sound of one row, from its start, at the codec's rate.

    Attributes:
        source: float32, shape (n,); None where it cannot be read.
        decoded: float32, shape (m,).
        error: why there is no source.
    """

    source: Samples | None
    decoded: Samples
    error: ClipError | None = None


class Measurer:
    """Measures picked rows of one corpus; holds the codec.

    Args:
        plan: the corpus's plan.
        tokenizer: the corpus's codec, from `tokenizer_of`.
        options: what to measure.
        plain_model: loads the codec once more as a plain `DacModel`; called when first needed.
    """

    def __init__(
        self,
        plan: Plan,
        tokenizer: DacTokenizer,
        options: MeasureOptions,
        plain_model: Callable[[], Any],
    ) -> None:
        self._plan = plan
        self._tokenizer = tokenizer
        self._options = options
        self._plain = PlainCodec(plain_model())
        ratios = self._plain.downsampling_ratios
        self.slack = decoder_slack(ratios)
        self._decoder_context: int = decoder_chain(ratios[::-1]).context_frames[1]
        self._opener = WaveformOpener(tokenizer.sampling_rate, plan.request.waveform)

    def measure(self, picks: Iterable[Pick]) -> Iterator[ClipAudit]:
        """Yield what is measured of each row; reads only the row groups that hold one."""
        for pick, row, reference in self._rows(picks):
            yield self._measure_row(pick, row, reference)

    def sounds(self, picks: Iterable[Pick], max_seconds: float) -> Iterator[tuple[Pick, Sound]]:
        """Yield the sound of each row, cut to its first seconds, aligned as it is scored."""
        for pick, row, reference in self._rows(picks):
            frames = self._frames(row["audio_codes"], max_seconds)
            yield pick, self._sound(row, reference, frames)

    def close(self) -> None:
        """Close recordings that are kept open."""
        self._opener.close()

    def _rows(self, picks: Iterable[Pick]) -> Iterator[tuple[Pick, dict[str, Any], Reference]]:
        split = self._plan.request.waveform.channels == "split"
        for shard, of_shard in itertools.groupby(sorted(picks), key=lambda pick: pick.shard):
            references = {one.key: one for one in load_shard(self._plan, shard)}
            with open_parquet(self._plan.shard_url(shard)) as file:
                for group, of_group in itertools.groupby(of_shard, key=lambda pick: pick.group):
                    try:
                        table = file.read_row_group(group)
                    except (OSError, ValueError):  # the checks of all rows tell
                        continue
                    for pick in of_group:
                        row = _row(table, pick.row)
                        key = reference_key(pick.key, split)
                        yield pick, row, references.get(key) or Reference(key, row["source_uri"])

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
        length = min(row["num_samples"], frames * self._tokenizer.hop_length)
        variants = [codes[:count] for count in counts]
        return self._tokenizer.decode(variants, [length] * len(variants))

    def _source(self, row: Mapping[str, Any], reference: Reference, frames: int) -> Samples:
        """Read the first frames' source, and what the encoder sees after them."""
        wanted = (frames + self._plain.context_frames) * self._tokenizer.hop_length
        blocks: list[Samples] = []
        waveform = self._opener(reference)
        try:
            for block in waveform.blocks:
                blocks.append(block[row["channel"] or 0])
                if sum(map(len, blocks)) > wanted:
                    break
        finally:
            waveform.close()
        # One sample more than needed stays, so that a source that is too long shows.
        return np.concatenate(blocks)[: max(wanted, row["num_samples"] + 1)]

    def _measure_row(self, pick: Pick, row: dict[str, Any], reference: Reference) -> ClipAudit:
        codes: Codes = row["audio_codes"]
        where = self._plan.shard_name(pick.shard)
        frames = self._frames(codes, MAX_SECONDS)
        values: dict[str, Any] = {}
        found: list[tuple[str, str]] = []
        try:
            decoded = self._decode(row, frames, self._options.codebooks)
        except UsageError as error:
            found.append(("shape", str(error)))
        else:
            values |= self._levels(decoded[-1], found)
            if self._options.stability:
                again = self._tokenizer.encode([decoded[-1]])[0]
                values["stability"] = tuple(agreement(codes[:, :frames], again))
            try:
                source = self._source(row, reference, frames)
            except ClipError as error:
                found.append(("source", str(error)))
            else:
                values |= self._against_source(row, source, decoded, frames, found)
        return ClipAudit(
            pick=pick,
            duration_seconds=row["num_samples"] / self._tokenizer.sampling_rate,
            source_uri=row["source_uri"],
            offset_seconds=row["offset_seconds"],
            channel=row["channel"],
            metadata={name: row[name] for name in self._plan.metadata_schema.names},
            findings=tuple(Finding(check, pick.key, where, detail) for check, detail in found),
            **values,
        )

    def _levels(self, decoded: Samples, found: list[tuple[str, str]]) -> dict[str, Any]:
        if not np.isfinite(decoded).all():
            found.append(("not-finite", f"{np.sum(~np.isfinite(decoded))} samples"))
            return {"peak": math.nan, "rms_db": math.nan}
        peak = float(np.abs(decoded).max(initial=0.0))
        power = float(np.mean(decoded.astype(np.float64) ** 2)) if len(decoded) else 0.0
        level = 10 * math.log10(max(power, 1e-12))
        clipped = float(np.mean(np.abs(decoded) >= _FULL_SCALE)) if len(decoded) else 0.0
        if clipped > _CLIPPED_SHARE:
            found.append(("clipping", f"{clipped:.2%} of the decoded samples are at full scale"))
        if level < _SILENCE_DB:
            found.append(("silence", f"the decoded sound has {level:.0f} dB of full scale"))
        return {"peak": peak, "rms_db": level}

    def _against_source(
        self,
        row: Mapping[str, Any],
        source: Samples,
        decoded: list[Samples],
        frames: int,
        found: list[tuple[str, str]],
    ) -> dict[str, Any]:
        rate, length = self._tokenizer.sampling_rate, len(decoded[-1])
        if frames == row["audio_codes"].shape[1] and len(source) != row["num_samples"]:
            more = "at least " if len(source) > row["num_samples"] else ""
            found.append(
                (
                    "source",
                    f"it has {more}{len(source)} samples now; the row says {row['num_samples']}",
                )
            )
        values: dict[str, Any] = {}
        if self._options.fidelity:
            values = self._fidelity(row["audio_codes"], source, frames, found)
        lag = estimate_lag(source[:length], decoded[-1], self.slack + RESIDUAL_SAMPLES)
        if values.get("disagreement") is not None or not self._options.fidelity:
            self._find_shift(source[:length], decoded[-1], lag, found)
        pairs = [aligned(source[:length], sound, lag) for sound in decoded]
        values["quality"] = {
            count: measure(*pair, rate, self._options.perceptual)
            for count, pair in zip(self._options.codebooks, pairs, strict=True)
        }
        return values | {"lag_samples": lag}

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

    def _find_shift(
        self, source: Samples, decoded: Samples, lag: int, found: list[tuple[str, str]]
    ) -> None:
        """Look for a lag of whole frames that fits clearly better than those of the codec."""
        wide = estimate_lag(source, decoded, 3 * self._tokenizer.hop_length)
        if abs(wide) < self._tokenizer.hop_length - self.slack - RESIDUAL_SAMPLES:
            return
        near, far = (_correlation(*aligned(source, decoded, one)) for one in (lag, wide))
        if far > max(_LAG_GAIN * near, 0.2):
            frames = wide / self._tokenizer.hop_length
            found.append(("shifted", f"the decoded sound fits best moved by {frames:+.2f} frames"))


def _correlation(one: Samples, other: Samples) -> float:
    norm = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(one @ other) / norm if norm else 0.0


def _row(table: Any, place: int) -> dict[str, Any]:
    values: dict[str, Any] = {
        name: table.column(name)[place].as_py()
        for name in table.column_names
        if name != "audio_codes"
    }
    chunk = table.slice(place, 1).column("audio_codes").combine_chunks()
    return values | {"audio_codes": codes_from_array(chunk)[0]}
