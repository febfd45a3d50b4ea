"""Several codecs on one sample of sound: bitrate, token rate, usage and quality side by side."""

from __future__ import annotations

import hashlib
import heapq
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from dac_tokenize import files, publishing
from dac_tokenize.audit.alignment import aligned, estimate_lag, expected_lags, widened
from dac_tokenize.audit.charts import perplexity_chart, rates_chart
from dac_tokenize.audit.media import mp3
from dac_tokenize.audit.metrics import METRICS, Quality, measure_all
from dac_tokenize.audit.options import codebook_counts
from dac_tokenize.audit.page import METRIC_NAMES, render
from dac_tokenize.audit.perceptual import checked_scores
from dac_tokenize.audit.report import publish_json
from dac_tokenize.audit.summary import quantiles
from dac_tokenize.audit.usage import codebook_usage, count_codes
from dac_tokenize.codec.checkpoint import load_checkpoint
from dac_tokenize.errors import ClipError, CorpusError, UsageError
from dac_tokenize.references import Reference
from dac_tokenize.tokenizer import DacTokenizer
from dac_tokenize.waveform import WaveformOpener

Samples = npt.NDArray[np.float32]

COMPARISON_NAME = "compare.json"
PAGE_NAME = "compare.html"
CLIP_SECONDS = 20.0
"""Longer clips are compared over so many seconds from their start."""

_PLAYED_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class CompareOptions:
    """What is compared.

    Attributes:
        models: names on the Hub, folders, or "shipped".
        codebooks: numbers of codebooks to decode with, or "all"; all is always among them.
        sample: how many clips.
        seed: another seed picks others.
        perceptual: which of `perceptual.SCORES` are computed as well.
        page_clips: clips that the page plays.
        device: as for `DacTokenizer.from_pretrained`.
    """

    models: tuple[str, ...]
    codebooks: tuple[int | str, ...] = (1, 2, 4, 8, "all")
    sample: int = 30
    seed: int = 0
    perceptual: tuple[str, ...] = ()
    page_clips: int = 3
    device: str = "auto"

    def __post_init__(self) -> None:
        if not self.models:
            raise UsageError("there are no models to compare; give at least one")
        if self.sample < 1:
            raise UsageError(f"the sample is {self.sample} clips; expected at least 1")


@dataclass(slots=True)
class Comparison:
    """What a comparison found.

    Attributes:
        values: all figures; what `compare.json` holds.
        sounds: of the clips that the page plays: key, name (a codec or "source"), MP3 as data URI.
    """

    values: dict[str, Any]
    sounds: list[tuple[str, str, str]] = field(default_factory=list)


def pick_references(references: Iterable[Reference], count: int, seed: int) -> list[Reference]:
    """Pick references by a hash of seed and key, in bounded memory; sorted by key."""

    def luck(reference: Reference) -> bytes:
        text = f"{seed}:{reference.key}".encode("utf-8", "surrogatepass")
        return hashlib.blake2b(text, digest_size=8).digest()

    picked = heapq.nsmallest(count, references, key=luck)
    return sorted(picked, key=lambda reference: reference.key)


def compare_codecs(references: Iterable[Reference], options: CompareOptions) -> Comparison:
    """Encode and decode a sample by several codecs, and hold the sound to its source.

    All codecs are scored at the highest of their sampling rates, so that what a lower one cannot
    hold counts against it.

    Args:
        references: the sound, any number of clips.
        options: which codecs, how many clips.

    Raises:
        CodecError: a codec does not load.
        CorpusError: no clip can be read.
        UsageError: an option is out of range, or a library is not installed.

    >>> compare_codecs(list_references(["speech"]), CompareOptions(("shipped",)))  # doctest: +SKIP
    """
    checked_scores(options.perceptual)
    codecs = [_Codec.load(model, options) for model in options.models]
    rate = max(codec.tokenizer.sampling_rate for codec in codecs)
    picked = pick_references(references, options.sample, options.seed)
    clips, failed = _readable(picked, rate)
    comparison = Comparison({"failed": failed})
    for key, source in [(one.key, _read(one, rate)) for one in clips[: options.page_clips]]:
        played = source[: round(_PLAYED_SECONDS * rate)]
        comparison.sounds.append((key, "source", mp3(played, rate)))
    rows = [_score(codec, clips, rate, options, comparison.sounds) for codec in codecs]
    comparison.values |= {
        "schema_version": 1,
        "scored_at_hz": rate,
        "clips": len(clips),
        "codecs": rows,
    }
    return comparison


@dataclass(frozen=True, slots=True)
class _Codec:
    """One of the codecs.

    Attributes:
        name: as it was asked for.
        tokenizer: the codec.
        counts: numbers of codebooks to decode with.
        lags: samples by which its decoded sound may come late, the least and the greatest.
    """

    name: str
    tokenizer: DacTokenizer
    counts: tuple[int, ...]
    lags: tuple[int, int]

    @classmethod
    def load(cls, model: str, options: CompareOptions) -> _Codec:
        checkpoint = load_checkpoint(model)
        tokenizer = DacTokenizer(checkpoint, device=options.device)
        counts = codebook_counts(options.codebooks, tokenizer.num_codebooks)
        ratios = checkpoint.model.config.downsampling_ratios
        return cls(model, tokenizer, counts, widened(expected_lags(ratios)))


def _readable(
    picked: Sequence[Reference], rate: int
) -> tuple[list[Reference], list[dict[str, str]]]:
    good, failed = [], []
    for reference in picked:
        try:
            _read(reference, rate)
            good.append(reference)
        except ClipError as error:
            failed.append({"key": reference.key, "message": str(error)})
    if not good:
        why = failed[0]["message"] if failed else "there is no sound"
        raise CorpusError(f"no clip can be read: {why}")
    return good, failed


def _read(reference: Reference, rate: int) -> Samples:
    """Return the first seconds of a clip, shape (num_samples,)."""
    blocks, length = [], 0
    waveform = WaveformOpener(rate)(reference)
    try:
        for block in waveform.blocks:
            blocks.append(block[0])
            length += block.shape[1]
            if length >= CLIP_SECONDS * rate:
                break
    finally:
        waveform.close()
    return np.concatenate(blocks)[: round(CLIP_SECONDS * rate)]


def _score(
    codec: _Codec,
    clips: Sequence[Reference],
    rate: int,
    options: CompareOptions,
    sounds: list[tuple[str, str, str]],
) -> dict[str, Any]:
    """Return the figures of one codec; add what the page plays to `sounds`."""
    tokenizer, counts = codec.tokenizer, codec.counts
    own_rate = tokenizer.sampling_rate
    usage = np.zeros((tokenizer.num_codebooks, tokenizer.codebook_size), np.int64)
    found: dict[int, list[Quality]] = {count: [] for count in counts}
    for place, reference in enumerate(clips):
        source, own = _read(reference, rate), _read(reference, own_rate)
        codes = tokenizer.encode([own])[0]
        count_codes(usage, codes)
        decoded = tokenizer.decode([codes[:count] for count in counts], [len(own)] * len(counts))
        lag = estimate_lag(own, decoded[-1], codec.lags)
        pairs = [_at_rate(source, sound, lag, own_rate, rate) for sound in decoded]
        measured = measure_all(pairs[0][0], [one for _, one in pairs], rate, options.perceptual)
        for count, quality in zip(counts, measured, strict=True):
            found[count].append(quality)
        if place < options.page_clips:
            played = decoded[-1][: round(_PLAYED_SECONDS * own_rate)]
            sounds.append((reference.key, codec.name, mp3(played, own_rate)))
    books = codebook_usage(usage)
    return {
        "model": codec.name,
        "codec": asdict(tokenizer.identity),
        "frame_rate": tokenizer.frame_rate,
        "usage": [asdict(book) for book in books],
        "rates": list(_rows(tokenizer, books, found)),
    }


def _at_rate(
    source: Samples, decoded: Samples, lag: int, codec_rate: int, rate: int
) -> tuple[Samples, Samples]:
    """Return source and decoded sound at the common rate, aligned."""
    import soxr

    if codec_rate != rate:
        decoded = np.asarray(soxr.resample(decoded, codec_rate, rate), np.float32)
    return aligned(source, decoded, round(lag * rate / codec_rate))


def _rows(
    codec: DacTokenizer, books: Sequence[Any], found: dict[int, list[Quality]]
) -> Iterator[dict[str, Any]]:
    for count, qualities in found.items():
        row: dict[str, Any] = {
            "codebooks": count,
            "tokens_per_second": count * codec.frame_rate,
            "bits_per_second": count * codec.frame_rate * math.log2(codec.codebook_size),
            "entropy_bits_per_second": codec.frame_rate
            * sum(book.entropy_bits for book in books[:count]),
            "mean_usage": float(np.mean([book.usage for book in books[:count]])),
            "mean_perplexity": float(np.mean([book.perplexity for book in books[:count]])),
        }
        for metric in METRICS:
            summary = quantiles([getattr(quality, metric) for quality in qualities])
            if summary is not None:
                row[metric] = summary["median"]
        yield row


def write_comparison(comparison: Comparison, folder: str) -> None:
    """Write `compare.json` and `compare.html`; each appears when it is whole.

    Raises:
        CorpusError: a file cannot be written.
        UsageError: a library is not installed.
    """
    values = comparison.values
    codecs = values["codecs"]
    shown = [name for name in METRICS if any(name in row for row in codecs[0]["rates"])]
    played: dict[str, list[tuple[str, str]]] = {}
    for key, name, uri in comparison.sounds:
        played.setdefault(key, []).append((name, uri))
    named = [(_label(codec["model"]), codec) for codec in codecs]
    curves = [(name, codec["rates"]) for name, codec in named]
    page = render(
        "compare.html.j2",
        {
            "rate": rates_chart(curves, "si_sdr_db"),
            "mel": rates_chart(curves, "log_mel_db"),
            "usage": perplexity_chart([(name, codec["usage"]) for name, codec in named]),
        },
        values=values,
        metrics=[(name, METRIC_NAMES[name]) for name in shown],
        played=played,
    )
    try:
        publish_json(values, files.join(folder, COMPARISON_NAME))
        publishing.publish_bytes(page.encode("utf-8", "replace"), files.join(folder, PAGE_NAME))
    except OSError as error:
        raise CorpusError(f"the comparison in {folder} cannot be written: {error}") from error


def _label(model: str) -> str:
    """Return a codec's name for a chart, whose texts may hold markup of plotly's."""
    name = model.rstrip("/").rsplit("/", 1)[-1]
    return name.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
