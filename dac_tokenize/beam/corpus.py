"""A saved plan to a corpus: a shard is one unit of work."""

# Beam is annotated in parts only.
# mypy: allow-untyped-calls, allow-any-generics, allow-subclassing-any, no-warn-return-any

from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
from apache_beam.metrics.metric import Metrics
from apache_beam.pvalue import PBegin, PCollection
from apache_beam.transforms.combiners import ToListCombineFn

from dac_tokenize import progress
from dac_tokenize.corpus import (
    Plan,
    ShardProgress,
    ShardResult,
    finish_corpus,
    load_plan,
    published_shard,
    tokenize_shard,
)
from dac_tokenize.corpus.manifest import unfinished
from dac_tokenize.corpus.planning import sweep_temporaries
from dac_tokenize.corpus.tokenizing import NUM_THREADS
from dac_tokenize.errors import CorpusError
from dac_tokenize.process import CodecOptions, tokenizer_for
from dac_tokenize.watchdog import Watchdog


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
