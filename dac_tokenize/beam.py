"""Beam transforms: a corpus by shards, and clips to codes to clips in pipelines of one's own.

The unit of work of a corpus is one output shard, so that only small references travel between
workers; neither sound nor codes ever go through a shuffle. Each transform has a plain twin:

| transform | plain twin |
| --- | --- |
| `TokenizeShards` | `dac_tokenize.corpus.tokenize_shard` |
| `FinishCorpus` | `dac_tokenize.corpus.finish_corpus` |
| `EncodeAudio` | `DacTokenizer.encode_stream` |
| `DecodeAudio` | `DacTokenizer.decode` |
| `AuditCodes` | `dac_tokenize.audit.auditing.audit_corpus` |

All of it lives in the package, so that remote workers import it and nothing of a main program is
pickled.
"""

# Beam is annotated in parts only.
# mypy: allow-untyped-calls, allow-any-generics, allow-subclassing-any, no-warn-return-any

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import Any

import apache_beam as beam
from apache_beam.metrics.metric import Metrics
from apache_beam.pvalue import DoOutputsTuple, PBegin, PCollection, TaggedOutput
from apache_beam.transforms.combiners import ToListCombineFn

from dac_tokenize import progress
from dac_tokenize.audit.transform import AuditCodes
from dac_tokenize.corpus import (
    Plan,
    ShardProgress,
    ShardResult,
    finish_corpus,
    load_plan,
    published_shard,
    tokenize_shard,
)
from dac_tokenize.corpus.footer import FailedInput
from dac_tokenize.corpus.manifest import unfinished
from dac_tokenize.corpus.planning import sweep_temporaries
from dac_tokenize.corpus.tokenizing import NUM_THREADS
from dac_tokenize.errors import ClipError, CorpusError, UsageError
from dac_tokenize.process import CodecOptions, tokenizer_for
from dac_tokenize.references import Reference
from dac_tokenize.watchdog import Watchdog
from dac_tokenize.waveform import WaveformOpener, WaveformOptions, audio_to_waveform

__all__ = [
    "FAILED",
    "RECORDS",
    "AuditCodes",
    "DecodeAudio",
    "EncodeAudio",
    "FinishCorpus",
    "TokenizeCorpus",
    "TokenizeShards",
]

RECORDS = "records"
"""Name of the output of `EncodeAudio` that holds the clips' codes."""

FAILED = "failed"
"""Name of the output of `EncodeAudio` that holds the clips which gave none."""

# Enough clips to fill several rows of the codec.
_CLIPS_PER_BATCH = 64


class TokenizeCorpus(beam.PTransform):
    """Make the corpus that is planned in an output folder: all shards, then the manifest.

    Goes at the root of a pipeline. The plan (`dac_tokenize.corpus.open_plan`) must be saved; it
    is read inside the pipeline and is no part of the job graph. A shard that is there already is
    left alone, so that retries by the engine, a second run and two drivers at once all end with
    the same files.

    Args:
        output: path or URL of the output folder, which all workers can write.
        codec: how each worker loads the codec that the plan was made for; None: the shipped one.
        num_threads: threads of each worker that fetch and decode sound ahead of the codec.
        stall_timeout_seconds: a worker process that finishes nothing for so long ends itself, for
            the engine to start another; only for engines whose workers are processes of their
            own. None: never.

    Returns:
        A PCollection of one element, a dict with the manifest's figures: `plan_fingerprint`,
        `clips`, `written`, `failed`, `rows`, `num_frames`, `num_tokens`, `num_samples`, `seconds`,
        `hours`, `size_bytes`.

    >>> with beam.Pipeline() as pipeline:  # doctest: +SKIP
    ...     pipeline | TokenizeCorpus("gs://bucket/corpus") | beam.Map(print)
    """

    def __init__(
        self,
        output: str,
        codec: CodecOptions | None = None,
        num_threads: int = NUM_THREADS,
        stall_timeout_seconds: float | None = None,
    ) -> None:
        super().__init__()
        self._output = output
        self._shards = TokenizeShards(output, codec, num_threads, stall_timeout_seconds)

    def expand(self, root: PBegin) -> PCollection[dict[str, Any]]:
        """Build the transform."""
        return (
            root
            | "Output" >> beam.Create([self._output])
            | "ListShards" >> beam.FlatMap(_shard_indices).with_output_types(int)
            | "SpreadShards" >> beam.Reshuffle()
            | self._shards
            | FinishCorpus(self._output)
        )


class TokenizeShards(beam.PTransform):
    """Encode shards of a saved plan, each into its own file.

    Takes numbers of shards, any of them any number of times. Idempotent: a shard that is published
    is not made again.

    Counters (namespace `TokenizeShards`): `shards`, `shards_skipped`, `clips`, `clips_failed`, of
    these `clips_failed_SourceError` and so on by class, `audio_ms`, `num_frames`; distributions:
    `read_ms` (waiting for sound), `encode_ms`, `write_ms` of a shard. Shards skipped count in
    `shards_skipped` only, so that the counters of a run and of those that went on add up.

    Args:
        output: path or URL of the output folder.
        codec: how each worker loads the codec; None: the shipped one.
        num_threads: threads that fetch and decode ahead.
        stall_timeout_seconds: as for `TokenizeCorpus`.

    Returns:
        A PCollection of `dac_tokenize.corpus.ShardResult`.
    """

    def __init__(
        self,
        output: str,
        codec: CodecOptions | None = None,
        num_threads: int = NUM_THREADS,
        stall_timeout_seconds: float | None = None,
    ) -> None:
        super().__init__()
        codec = codec or CodecOptions()
        self._do = _TokenizeShard(output, codec, num_threads, stall_timeout_seconds)

    def expand(self, shards: PCollection[int]) -> PCollection[ShardResult]:
        """Build the transform."""
        return shards | "TokenizeShard" >> beam.ParDo(self._do)


class FinishCorpus(beam.PTransform):
    """Write manifest, failed inputs and dataset card once all shards have their results.

    Idempotent. Of several results for one shard, one counts.

    Args:
        output: path or URL of the output folder.

    Returns:
        A PCollection of one element, a dict as from `TokenizeCorpus`.
    """

    def __init__(self, output: str) -> None:
        super().__init__()
        self._output = output

    def expand(self, results: PCollection[ShardResult]) -> PCollection[dict[str, Any]]:
        """Build the transform."""
        return (
            results
            | "Collect" >> beam.CombineGlobally(ToListCombineFn())
            | "Finish" >> beam.Map(_finish, self._output)
        )


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


def _shard_indices(output: str) -> Iterable[int]:
    return unfinished(_saved_plan(output)).indices


def _finish(results: list[ShardResult], output: str) -> dict[str, Any]:
    manifest = finish_corpus(_saved_plan(output), output, results)
    sweep_temporaries(output)  # of workers that died, whose shards the engine gave to others
    return {name: getattr(manifest, name) for name in _MANIFEST_FIGURES}


_MANIFEST_FIGURES = (
    "plan_fingerprint",
    "clips",
    "written",
    "failed",
    "rows",
    "num_frames",
    "num_tokens",
    "num_samples",
    "seconds",
    "hours",
    "size_bytes",
)


def _saved_plan(output: str) -> Plan:
    plan = load_plan(output)
    if plan is None:
        raise CorpusError(f"{output} holds no plan; plan the corpus before it is encoded")
    return plan


class _TokenizeShard(beam.DoFn):
    """Shard numbers to `ShardResult`s."""

    def __init__(
        self,
        output: str,
        codec: CodecOptions,
        num_threads: int,
        stall_timeout_seconds: float | None = None,
    ) -> None:
        self._output = output
        self._codec = codec
        self._num_threads = num_threads
        self._stall_timeout_seconds = stall_timeout_seconds
        counters = ("shards", "shards_skipped", "clips", "clips_failed", "audio_ms", "num_frames")
        self._counters = {name: Metrics.counter("TokenizeShards", name) for name in counters}
        self._stages = {
            name: Metrics.distribution("TokenizeShards", f"{name}_ms")
            for name in ("read", "encode", "write")
        }

    def setup(self) -> None:
        self._plan = _saved_plan(self._output)
        # Of a worker that died on this machine before: nobody elsewhere can know that it has.
        sweep_temporaries(self._output)

    def process(self, index: int) -> Iterator[ShardResult]:
        # Asked before the codec is loaded, which a run with nothing left to do then never is.
        result = published_shard(self._plan, index)
        if result is None:
            result = self._make(index)
        else:
            progress.report_skipped(result)
        # Counted here and not in a thread: Beam loses what other threads count.
        self._count(result)
        yield result

    def _make(self, index: int) -> ShardResult:
        name = self._plan.shard_name(index)
        with Watchdog(self._stall_timeout_seconds, shard=name) as watchdog:

            def on_progress(done: ShardProgress) -> None:
                watchdog.beat()
                progress.report_clips(done)

            tokenizer = tokenizer_for(self._codec)
            watchdog.beat()
            return tokenize_shard(
                self._plan,
                index,
                tokenizer,
                num_threads=self._num_threads,
                on_progress=on_progress,
                on_block=watchdog.beat,
            )

    def _count(self, result: ShardResult) -> None:
        if result.skipped:
            self._counters["shards_skipped"].inc()
            return
        self._counters["shards"].inc()
        self._counters["clips"].inc(result.clips)
        self._counters["clips_failed"].inc(result.failed)
        for error, count in result.failed_by_error.items():
            Metrics.counter("TokenizeShards", f"clips_failed_{error}").inc(count)
        self._counters["audio_ms"].inc(round(result.seconds * 1000))
        self._counters["num_frames"].inc(result.num_frames)
        for name, distribution in self._stages.items():
            distribution.update(round(getattr(result, f"{name}_seconds") * 1000))


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
