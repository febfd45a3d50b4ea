"""Clips to codes to clips, in pipelines of one's own."""

# Beam is annotated in parts only.
# mypy: allow-untyped-calls, allow-any-generics, allow-subclassing-any, no-warn-return-any

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import apache_beam as beam
from apache_beam.metrics.metric import Metrics
from apache_beam.pvalue import DoOutputsTuple, PCollection, TaggedOutput

from dac_tokenize.corpus.footer import FailedInput
from dac_tokenize.errors import ClipError, UsageError
from dac_tokenize.process import CodecOptions, tokenizer_for
from dac_tokenize.references import Reference
from dac_tokenize.waveform import WaveformOpener, WaveformOptions, audio_to_waveform

RECORDS = "records"
"""Name of the output of `EncodeAudio` that holds the clips' codes."""

FAILED = "failed"
"""Name of the output of `EncodeAudio` that holds the clips which gave none."""

# Enough clips to fill several rows of the codec.
_CLIPS_PER_BATCH = 64


class EncodeAudio(beam.PTransform):
    """Clips to records of codes, in a pipeline of one's own.

    Takes `dac_tokenize.Reference`s, or dicts with `key` (text), `audio` (any form that
    `dac_tokenize.waveform.audio_to_waveform` takes) and, for bare arrays, `sampling_rate` (Hz);
    other entries of a dict, and a reference's metadata, are carried into the record. A clip has
    the same codes however the runner orders and bundles it; retries are harmless.

    Counters (namespace `EncodeAudio`): `clips`, `clips_failed`, `audio_ms`.

    Args:
        codec: how each worker loads the codec; None: the shipped one.
        waveform: how sound is mixed and limited.

    Returns:
        Two PCollections by name. `records`: dicts with `key` (``#<channel>`` behind it where
        channels are split), `audio_codes` (uint16, shape (num_codebooks, num_frames)),
        `num_frames`, `num_samples` (at the codec's rate), `duration_seconds`, `channel` (None for
        the mixdown) and what was carried; of a reference also `source_uri` and `offset_seconds`.
        `failed`: dicts with `key`, `uri`, `stage`, `error`, `message`.

    Raises:
        UsageError: (in the workers) an element is neither, or lacks an entry.

    >>> encoded = clips | EncodeAudio()  # doctest: +SKIP
    >>> encoded.records | beam.Map(lambda record: record["audio_codes"].shape)  # doctest: +SKIP
    """

    def __init__(
        self, codec: CodecOptions | None = None, waveform: WaveformOptions | None = None
    ) -> None:
        super().__init__()
        self._do = _EncodeClips(codec or CodecOptions(), waveform or WaveformOptions())

    def expand(self, clips: PCollection[Any]) -> DoOutputsTuple:
        """Build the transform."""
        return (
            clips
            | "Batch" >> beam.BatchElements(_CLIPS_PER_BATCH, _CLIPS_PER_BATCH)
            | "Encode" >> beam.ParDo(self._do).with_outputs(FAILED, main=RECORDS)
        )


class DecodeAudio(beam.PTransform):
    """Records of codes to sound.

    Takes dicts with `audio_codes` (integers, shape (num_codebooks, num_frames)), and `num_samples`
    where the sound is to have its true length.

    Args:
        codec: how each worker loads the codec; None: the shipped one.

    Returns:
        A PCollection of the same dicts with `waveform` (float32, shape (num_samples,)) and
        `sampling_rate` (Hz) added and `audio_codes` taken away.

    Raises:
        UsageError: (in the workers) an element has no codes, or none that fit the codec.
    """

    def __init__(self, codec: CodecOptions | None = None) -> None:
        super().__init__()
        self._do = _DecodeRecords(codec or CodecOptions())

    def expand(self, records: PCollection[dict[str, Any]]) -> PCollection[dict[str, Any]]:
        """Build the transform."""
        return (
            records
            | "Batch" >> beam.BatchElements(_CLIPS_PER_BATCH, _CLIPS_PER_BATCH)
            | "Decode" >> beam.ParDo(self._do)
        )


class _EncodeClips(beam.DoFn):
    """Batches of clips to records and failures."""

    def __init__(self, codec: CodecOptions, waveform: WaveformOptions) -> None:
        self._codec = codec
        self._waveform = waveform
        counters = ("clips", "clips_failed", "audio_ms")
        self._counters = {name: Metrics.counter("EncodeAudio", name) for name in counters}

    def process(self, clips: list[Any]) -> Iterator[Any]:
        for clip in clips:
            _check_clip(clip)
        tokenizer = tokenizer_for(self._codec)
        opener = WaveformOpener(tokenizer.sampling_rate, self._waveform)
        try:
            encoded = tokenizer.encode_stream(self._blocks(clip, opener) for clip in clips)
            for index, items in itertools.groupby(encoded, key=lambda item: item.index):
                yield from self._outputs(clips[index], list(items), tokenizer.sampling_rate)
        finally:
            opener.close()

    def _blocks(self, clip: Any, opener: WaveformOpener) -> Iterator[Any]:
        """Yield a clip's blocks; opened only when the codec asks for them."""
        if isinstance(clip, Reference):
            yield from opener(clip).blocks
        else:
            yield audio_to_waveform(
                clip["audio"],
                opener.sampling_rate,
                source_sampling_rate=clip.get("sampling_rate"),
                options=self._waveform,
            )

    def _outputs(self, clip: Any, items: list[Any], sampling_rate: int) -> Iterator[Any]:
        """Yield the records of a clip's channels, or the clip as failed."""
        self._counters["clips"].inc()
        for item in items:
            if item.error is not None:
                self._counters["clips_failed"].inc()
                yield TaggedOutput(FAILED, _failure(clip, item.error))
                return
        self._counters["audio_ms"].inc(round(items[0].num_samples * 1000 / sampling_rate))
        channels = self._waveform.channels
        for item in items:
            carried = _carried(clip)
            yield carried | {
                "key": f"{carried['key']}#{item.channel}"
                if channels == "split"
                else carried["key"],
                "audio_codes": item.audio_codes,
                "num_frames": item.audio_codes.shape[1],
                "num_samples": item.num_samples,
                "duration_seconds": item.num_samples / sampling_rate,
                "channel": None if channels == "mix" else item.channel,
            }


class _DecodeRecords(beam.DoFn):
    """Batches of records to records with sound."""

    def __init__(self, codec: CodecOptions) -> None:
        self._codec = codec

    def process(self, records: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        for record in records:
            if not isinstance(record, Mapping) or "audio_codes" not in record:
                raise UsageError(f"DecodeAudio takes dicts with audio_codes; got {_named(record)}")
        tokenizer = tokenizer_for(self._codec)
        sounds = tokenizer.decode(
            [record["audio_codes"] for record in records],
            num_samples=[record.get("num_samples") for record in records],
        )
        for record, waveform in zip(records, sounds, strict=True):
            kept = {name: value for name, value in record.items() if name != "audio_codes"}
            yield kept | {"waveform": waveform, "sampling_rate": tokenizer.sampling_rate}


def _check_clip(clip: Any) -> None:
    if isinstance(clip, Reference):
        return
    if not isinstance(clip, Mapping) or not {"key", "audio"} <= clip.keys():
        raise UsageError(
            "EncodeAudio takes dac_tokenize.Reference objects, or dicts with key and audio; got "
            + _named(clip)
        )
    if not isinstance(clip["key"], str):
        raise UsageError(f"EncodeAudio takes keys that are text; got {clip['key']!r}")


def _named(element: Any) -> str:
    """Return what an element is, in a few words."""
    if isinstance(element, Mapping):
        return f"a dict with {', '.join(map(str, element)) or 'nothing in it'}"
    return f"a {type(element).__name__}"


def _carried(clip: Any) -> dict[str, Any]:
    """Return what of a clip goes into its record."""
    if isinstance(clip, Reference):
        return {
            **clip.metadata,
            "key": clip.key,
            "source_uri": clip.uri,
            "offset_seconds": clip.offset_seconds,
        }
    return {name: value for name, value in clip.items() if name not in ("audio", "sampling_rate")}


def _failure(clip: Any, error: ClipError) -> dict[str, Any]:
    is_reference = isinstance(clip, Reference)
    failed = FailedInput(
        key=clip.key if is_reference else clip["key"],
        uri=clip.uri if is_reference else "",
        stage=error.stage,
        error=type(error).__name__,
        message=str(error),
    )
    return asdict(failed)
