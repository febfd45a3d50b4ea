"""Beam transforms: a corpus by shards, and clips to codes to clips in pipelines of one's own.

The unit of work of a corpus is one output shard, so that only small references travel between
workers; neither sound nor codes ever go through a shuffle. Each transform has a plain twin:

| transform | plain twin |
| --- | --- |
| `TokenizeShards` | `dac_tokenize.corpus.tokenize_shard` |
| `FinishCorpus` | `dac_tokenize.corpus.finish_corpus` |
| `EncodeAudio` | `DacTokenizer.encode_stream` |
| `DecodeAudio` | `DacTokenizer.decode` |

All of it lives in the package, so that remote workers import it and nothing of a main program is
pickled.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import apache_beam as beam
from apache_beam.metrics import Metrics

from dac_tokenize import progress
from dac_tokenize.corpus import (
    Plan,
    ShardResult,
    finish_corpus,
    load_plan,
    published_shard,
    tokenize_shard,
)
from dac_tokenize.corpus.footer import FailedInput
from dac_tokenize.corpus.tokenizing import NUM_THREADS
from dac_tokenize.errors import ClipError, CorpusError
from dac_tokenize.process import CodecOptions, tokenizer_for
from dac_tokenize.references import Reference
from dac_tokenize.waveform import WaveformOpener, WaveformOptions, audio_to_waveform

if TYPE_CHECKING:
    from dac_tokenize.tokenizer import DacTokenizer

RECORDS = "records"
FAILED = "failed"

# Enough clips to fill several rows, few enough to hold as waveforms.
_CLIPS_PER_BATCH = 64


class TokenizeCorpus(beam.PTransform):  # type: ignore[misc]
    """Make the corpus that is planned in an output folder: all shards, then the manifest.

    Goes at the root of a pipeline. The plan (`dac_tokenize.corpus.open_plan`) must be saved; it
    is read inside the pipeline and is no part of the job graph. A shard that is there already is
    left alone, so that retries by the engine, a second run and two drivers at once all end with
    the same files.

    Args:
        output: path or URL of the output folder, which all workers can write.
        codec: how each worker loads the codec that the plan was made for.
        num_threads: threads of each worker that fetch and decode sound ahead of the codec.

    Returns:
        A PCollection of one element, the manifest as a dict.
    """

    def __init__(self, output: str, codec: CodecOptions, num_threads: int = NUM_THREADS) -> None:
        super().__init__()
        self._output = output
        self._codec = codec
        self._num_threads = num_threads

    def expand(self, root: beam.pvalue.PBegin) -> beam.PCollection[dict[str, Any]]:
        """Build the transform."""
        return (
            root
            | "Output" >> beam.Create([self._output])
            | "ListShards" >> beam.FlatMap(_shard_indices).with_output_types(int)
            | "SpreadShards" >> beam.Reshuffle()
            | TokenizeShards(self._output, self._codec, self._num_threads)
            | FinishCorpus(self._output)
        )


class TokenizeShards(beam.PTransform):  # type: ignore[misc]
    """Encode shards of a saved plan, each into its own file.

    Takes numbers of shards, any of them any number of times. Idempotent: a shard that is published
    is not made again.

    Counters (namespace `TokenizeShards`): shards, shards_skipped, clips, clips_failed, audio_ms,
    num_frames; distributions: read_ms, encode_ms, write_ms of a shard.

    Args:
        output: path or URL of the output folder.
        codec: how each worker loads the codec.
        num_threads: threads that fetch and decode ahead.

    Returns:
        A PCollection of `ShardResult`.
    """

    def __init__(self, output: str, codec: CodecOptions, num_threads: int = NUM_THREADS) -> None:
        super().__init__()
        self._do = _TokenizeShard(output, codec, num_threads)

    def expand(self, shards: beam.PCollection[int]) -> beam.PCollection[ShardResult]:
        """Build the transform."""
        return shards | "TokenizeShard" >> beam.ParDo(self._do).with_output_types(ShardResult)


class FinishCorpus(beam.PTransform):  # type: ignore[misc]
    """Write manifest, failed inputs and dataset card once all shards have their results.

    Args:
        output: path or URL of the output folder.

    Returns:
        A PCollection of one element, the manifest as a dict.
    """

    def __init__(self, output: str) -> None:
        super().__init__()
        self._output = output

    def expand(self, results: beam.PCollection[ShardResult]) -> beam.PCollection[dict[str, Any]]:
        """Build the transform."""
        return (
            results
            | "Collect" >> beam.CombineGlobally(beam.combiners.ToListCombineFn())
            | "Finish" >> beam.Map(_finish, self._output)
        )


class EncodeAudio(beam.PTransform):  # type: ignore[misc]
    """Clips to records of codes, in a pipeline of one's own.

    Takes `Reference`s, or dicts with `key`, `audio` (any form that `audio_to_waveform` takes) and,
    for bare arrays, `sampling_rate`; other entries of a dict are carried into its record. A clip
    has the same codes however the runner bundles it.

    Args:
        codec: how each worker loads the codec.
        waveform: how sound is mixed and limited.

    Returns:
        Two PCollections by name: `records`, dicts with `key`, `audio_codes` (uint16 array of shape
        (num_codebooks, num_frames)), `num_frames`, `num_samples`, `duration_seconds`, `channel`
        and what was carried; and `failed`, dicts with `key`, `uri`, `stage`, `error`, `message`.

    >>> clips | EncodeAudio(CodecOptions())  # doctest: +SKIP
    """

    def __init__(
        self, codec: CodecOptions | None = None, waveform: WaveformOptions | None = None
    ) -> None:
        super().__init__()
        self._do = _EncodeClips(codec or CodecOptions(), waveform or WaveformOptions())

    def expand(self, clips: beam.PCollection[Any]) -> Any:
        """Build the transform."""
        return (
            clips
            | "Batch" >> beam.BatchElements(_CLIPS_PER_BATCH, _CLIPS_PER_BATCH)
            | "Encode" >> beam.ParDo(self._do).with_outputs(FAILED, main=RECORDS)
        )


class DecodeAudio(beam.PTransform):  # type: ignore[misc]
    """Records of codes to sound.

    Takes dicts with `audio_codes`, and `num_samples` where the sound is to have its true length.

    Args:
        codec: how each worker loads the codec.

    Returns:
        A PCollection of the same dicts with `waveform` (float32 array, shape (num_samples,)) and
        `sampling_rate` (Hz) added and `audio_codes` taken away.
    """

    def __init__(self, codec: CodecOptions | None = None) -> None:
        super().__init__()
        self._do = _DecodeRecords(codec or CodecOptions())

    def expand(self, records: beam.PCollection[dict[str, Any]]) -> beam.PCollection[dict[str, Any]]:
        """Build the transform."""
        return (
            records
            | "Batch" >> beam.BatchElements(_CLIPS_PER_BATCH, _CLIPS_PER_BATCH)
            | "Decode" >> beam.ParDo(self._do)
        )


def _shard_indices(output: str) -> range:
    return range(_saved_plan(output).num_shards)


def _finish(results: list[ShardResult], output: str) -> dict[str, Any]:
    manifest = finish_corpus(_saved_plan(output), output, results)
    return {name: getattr(manifest, name) for name in _MANIFEST_FIGURES}


_MANIFEST_FIGURES = (
    "plan_fingerprint",
    "clips",
    "written",
    "failed",
    "rows",
    "num_frames",
    "num_tokens",
    "seconds",
    "size_bytes",
)


def _saved_plan(output: str) -> Plan:
    plan = load_plan(output)
    if plan is None:
        raise CorpusError(f"{output} holds no plan; plan the corpus before it is encoded")
    return plan


class _TokenizeShard(beam.DoFn):  # type: ignore[misc]
    """Shard numbers to `ShardResult`s."""

    def __init__(self, output: str, codec: CodecOptions, num_threads: int) -> None:
        self._output = output
        self._codec = codec
        self._num_threads = num_threads
        self._counters = {
            name: Metrics.counter("TokenizeShards", name)
            for name in (
                "shards",
                "shards_skipped",
                "clips",
                "clips_failed",
                "audio_ms",
                "num_frames",
            )
        }
        self._stages = {
            name: Metrics.distribution("TokenizeShards", f"{name}_ms")
            for name in ("read", "encode", "write")
        }

    def setup(self) -> None:
        self._plan = _saved_plan(self._output)

    def process(self, index: int) -> Iterator[ShardResult]:
        result = published_shard(self._plan, index)
        if result is None:
            result = tokenize_shard(
                self._plan,
                index,
                tokenizer_for(self._codec),
                num_threads=self._num_threads,
                on_progress=progress.report_clip,
            )
        else:
            progress.report_skipped(result)
        # Counted here and not in a thread: Beam loses what other threads count.
        self._count(result)
        yield result

    def _count(self, result: ShardResult) -> None:
        self._counters["shards_skipped" if result.skipped else "shards"].inc()
        if result.skipped:
            return
        self._counters["clips"].inc(result.clips)
        self._counters["clips_failed"].inc(result.failed)
        self._counters["audio_ms"].inc(round(result.seconds * 1000))
        self._counters["num_frames"].inc(result.num_frames)
        for name, distribution in self._stages.items():
            distribution.update(round(getattr(result, f"{name}_seconds") * 1000))


class _EncodeClips(beam.DoFn):  # type: ignore[misc]
    """Batches of clips to records and failures."""

    def __init__(self, codec: CodecOptions, waveform: WaveformOptions) -> None:
        self._codec = codec
        self._waveform = waveform

    def process(self, clips: list[Any]) -> Iterator[Any]:
        tokenizer = tokenizer_for(self._codec)
        opened, failures = [], []
        for clip in clips:
            try:
                opened.append((clip, self._open(clip, tokenizer.sampling_rate)))
            except ClipError as error:
                failures.append((clip, error))
        for item in tokenizer.encode_stream(blocks for _, blocks in opened):
            clip = opened[item.index][0]
            if item.audio_codes is None:
                assert item.error is not None
                failures.append((clip, item.error))
                continue
            yield _carried(clip) | {
                "audio_codes": item.audio_codes,
                "num_frames": item.audio_codes.shape[1],
                "num_samples": item.num_samples,
                "duration_seconds": item.num_samples / tokenizer.sampling_rate,
                "channel": None if self._waveform.channels == "mix" else item.channel,
            }
        for clip, error in failures:
            yield beam.pvalue.TaggedOutput(FAILED, _failure(clip, error))

    def _open(self, clip: Any, sampling_rate: int) -> Iterable[Any]:
        if isinstance(clip, Reference):
            return WaveformOpener(sampling_rate, self._waveform)(clip).blocks
        waveform = audio_to_waveform(
            clip["audio"],
            sampling_rate,
            source_sampling_rate=clip.get("sampling_rate"),
            options=self._waveform,
        )
        return [waveform]


class _DecodeRecords(beam.DoFn):  # type: ignore[misc]
    """Batches of records to records with sound."""

    def __init__(self, codec: CodecOptions) -> None:
        self._codec = codec

    def process(self, records: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        tokenizer: DacTokenizer = tokenizer_for(self._codec)
        sounds = tokenizer.decode(
            [record["audio_codes"] for record in records],
            num_samples=[record.get("num_samples") for record in records],
        )
        for record, waveform in zip(records, sounds, strict=True):
            kept = {name: value for name, value in record.items() if name != "audio_codes"}
            yield kept | {"waveform": waveform, "sampling_rate": tokenizer.sampling_rate}


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
        key=clip.key if is_reference else str(clip.get("key")),
        uri=clip.uri if is_reference else "",
        stage=error.stage,
        error=type(error).__name__,
        message=str(error),
    )
    return {name: getattr(failed, name) for name in FailedInput.__slots__}
