"""One shard of a plan into one file, resumable: the plain twin of the Beam transform.

A run is: `open_plan`, then `tokenize_shard` for every shard, in any order, on any number of
machines and as often as one likes, then `finish_corpus`. A shard whose file is there is skipped.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from dac_tokenize import events, files
from dac_tokenize.corpus.footer import FailedInput, ShardFooter, ShardStats
from dac_tokenize.corpus.manifest import MANIFEST_NAME
from dac_tokenize.corpus.plan import Plan, load_shard, planned_shard
from dac_tokenize.corpus.record import Record, corpus_schema
from dac_tokenize.corpus.results import ShardResult, shard_result
from dac_tokenize.corpus.shard import ShardWriter, read_shard
from dac_tokenize.errors import ClipError, CorpusError, StoreError
from dac_tokenize.events import log_event
from dac_tokenize.prefetch import prefetch_waveforms
from dac_tokenize.references import Reference
from dac_tokenize.waveform import WaveformOpener

if TYPE_CHECKING:
    from dac_tokenize.tokenizer import DacTokenizer, EncodedClip

NUM_THREADS = 4
"""Threads that fetch and decode sound ahead of the codec."""


@dataclass(frozen=True, slots=True)
class ShardProgress:
    """What has been done since the last report, to be added up.

    Attributes:
        index: number of the shard.
        clips: inputs done, failed ones included.
        failed: inputs that gave no row.
        seconds: seconds of sound encoded.
        skipped: True where the shard was there already: one report for all of it.
    """

    index: int
    clips: int
    failed: int
    seconds: float
    skipped: bool = False


OnProgress = Callable[[ShardProgress], None]

_logger = logging.getLogger(__name__)


def corpus_folders(output: str) -> list[str]:
    """Return the folders that a run writes to, where temporary files may be left."""
    return [output, files.join(output, "data"), files.join(output, "_plan")]


def published_shard(plan: Plan, index: int) -> ShardResult | None:
    """Return the result of a shard that an earlier run published, or None where it must be made.

    Needs no codec, so a worker may ask before it loads one.

    Args:
        plan: the corpus's plan.
        index: number of the shard.

    Returns:
        The result, read from the file's footer. Its checksum is None where the corpus has a
        manifest, which knows it.

    Raises:
        CorpusError: the plan is damaged.
    """
    url = plan.shard_url(index)
    found = read_shard(url)
    if found is None or found[0].shard_fingerprint != planned_shard(plan, index).fingerprint:
        return None
    footer, file = found
    # Of what was added last, the manifest may know nothing yet.
    added = index >= plan.generations[-1].first_shard > 0
    known = not added and files.exists(files.join(plan.output, MANIFEST_NAME))
    if not known:
        file = replace(file, checksum=files.checksum(url))
    log_event(_logger, logging.INFO, "shard skipped", shard=plan.shard_name(index))
    return shard_result(plan, footer, file, skipped=True)


def tokenize_shard(
    plan: Plan,
    index: int,
    tokenizer: DacTokenizer,
    *,
    num_threads: int = NUM_THREADS,
    on_progress: OnProgress | None = None,
    on_block: Callable[[], None] | None = None,
    anew: bool = False,
) -> ShardResult:
    """Encode one shard and publish its file, unless it is there already.

    Rows are in the order of the plan, then of channels. Where channels are split, the key of a
    row is the clip's key with ``#<channel>`` behind it. A clip that cannot be encoded is listed in
    the footer, and the others go on.

    Args:
        plan: the corpus's plan.
        index: number of the shard, from 0.
        tokenizer: the codec that the plan was made for.
        num_threads: threads that fetch and decode ahead.
        on_progress: called after every clip, or once for a shard that is skipped.
        on_block: called for every block of sound that the codec takes, as a sign of life.
        anew: make the shard even where it is there; the new file takes the old one's place.

    Returns:
        What the shard holds.

    Raises:
        CorpusMismatchError: `tokenizer` is not the codec of the plan.
        StoreError: the store of the inputs or of the output does not answer.
        CorpusError: the plan is damaged, the file cannot be written, or memory ran out.
    """
    plan.check_request(replace(plan.request, codec=tokenizer.identity))
    if not anew and (result := published_shard(plan, index)) is not None:
        if on_progress is not None:
            progress = ShardProgress(index, result.clips, result.failed, result.seconds, True)
            on_progress(progress)
        return result
    run = _ShardRun(plan, index, tokenizer, on_progress, on_block)
    try:
        with events.context(shard=plan.shard_name(index)):
            return run.encode(load_shard(plan, index), num_threads)
    except StoreError as error:
        raise StoreError(f"{plan.shard_name(index)} is not made: {error}") from error
    except (OSError, MemoryError) as error:
        raise CorpusError(_stopped(plan, index, error)) from error


def _stopped(plan: Plan, index: int, error: OSError | MemoryError) -> str:
    where = f"{plan.shard_name(index)} of {plan.output}"
    if isinstance(error, OSError):
        what, remedy = f"{where} cannot be written: {error}", "make room or mend the store"
    else:
        what, remedy = f"memory ran out at {where}", "give smaller --shard-seconds or more memory"
    return f"{what}; what was published before stays readable, so {remedy}, and run again to go on"


_LOGGED_FIGURES = (
    "clips",
    "failed",
    "rows",
    "num_frames",
    "seconds",
    "size_bytes",
    "read_seconds",
    "encode_seconds",
    "write_seconds",
)


@dataclass(slots=True)
class _ShardRun:
    """The making of one shard."""

    plan: Plan
    index: int
    tokenizer: DacTokenizer
    on_progress: OnProgress | None
    on_block: Callable[[], None] | None
    sent: list[tuple[int, Reference, Sequence[float | None] | None]] = field(default_factory=list)
    failures: list[tuple[int, FailedInput]] = field(default_factory=list)
    stats: ShardStats = field(default_factory=ShardStats)
    clock: dict[str, float] = field(default_factory=lambda: {"read": 0.0, "write": 0.0})

    def encode(self, references: list[Reference], num_threads: int) -> ShardResult:
        """Encode all references and publish the shard's file."""
        log_event(_logger, logging.INFO, "shard started", clips=len(references))
        start = time.perf_counter()
        schema = corpus_schema(self.plan.request.codec, self.plan.metadata_schema)
        options = self.plan.request.waveform
        opener = WaveformOpener(self.tokenizer.sampling_rate, options)
        waveforms: Any = prefetch_waveforms(references, opener, num_threads=num_threads)
        with (
            closing(opener),
            closing(waveforms),
            ShardWriter(self.plan.shard_url(self.index), schema) as writer,
        ):
            encoded = self.tokenizer.encode_stream(self._clips(waveforms))
            for sent, items in itertools.groupby(encoded, key=lambda item: item.index):
                position, reference, loudness = self.sent[sent]
                self._take(writer, position, reference, loudness, list(items))
            footer = self._footer(len(references))
            with self._timed("write"):
                file = writer.publish(footer)
        read, write = self.clock["read"], self.clock["write"]
        encode = time.perf_counter() - start - read - write
        result = shard_result(self.plan, footer, file, skipped=False)
        result = replace(result, read_seconds=read, encode_seconds=encode, write_seconds=write)
        figures = {name: round(getattr(result, name), 3) for name in _LOGGED_FIGURES}
        log_event(_logger, logging.INFO, "shard published", **figures)
        return result

    def _clips(self, waveforms: Iterable[tuple[Reference, Any]]) -> Iterator[Iterator[Any]]:
        """Yield the blocks of each clip that could be opened; note the others as failed."""
        waiting = iter(waveforms)
        for position in itertools.count():
            with self._timed("read"):
                item = next(waiting, None)
            if item is None:
                return
            reference, waveform = item
            if isinstance(waveform, ClipError):
                self._fail(position, reference, waveform)
            else:
                self.sent.append((position, reference, waveform.source_loudness))
                yield self._blocks(waveform.blocks)

    def _blocks(self, blocks: Iterator[Any]) -> Iterator[Any]:
        while True:
            with self._timed("read"):
                block = next(blocks, None)
            if block is None:
                return
            if self.on_block is not None:
                self.on_block()
            yield block

    def _take(
        self,
        writer: ShardWriter,
        position: int,
        reference: Reference,
        source_loudness: Sequence[float | None] | None,
        items: list[EncodedClip],
    ) -> None:
        """Write the rows of a clip, one a channel, or note it as failed."""
        for item in items:
            if item.error is not None:
                self._fail(position, reference, item.error)
                return
        with self._timed("write"):
            for item in items:
                loudness = source_loudness[item.channel] if source_loudness else None
                writer.write(self._record(reference, loudness, item))
        seconds = items[0].num_samples / self.tokenizer.sampling_rate
        codes = [item.audio_codes for item in items if item.audio_codes is not None]
        self.stats = replace(
            self.stats,
            rows=self.stats.rows + len(items),
            num_frames=self.stats.num_frames + sum(clip.shape[1] for clip in codes),
            num_tokens=self.stats.num_tokens + sum(clip.size for clip in codes),
            num_samples=self.stats.num_samples + sum(item.num_samples for item in items),
            seconds=self.stats.seconds + seconds,
        )
        self._report(failed=0, seconds=seconds)

    def _record(
        self, reference: Reference, source_loudness: float | None, item: EncodedClip
    ) -> Record:
        channels = self.plan.request.waveform.channels
        assert item.audio_codes is not None
        return Record(
            key=f"{reference.key}#{item.channel}" if channels == "split" else reference.key,
            audio_codes=item.audio_codes,
            num_samples=item.num_samples,
            duration_seconds=item.num_samples / self.tokenizer.sampling_rate,
            source_uri=reference.uri,
            channel=None if channels == "mix" else item.channel,
            offset_seconds=reference.offset_seconds,
            source_loudness=source_loudness,
            metadata=reference.metadata,
        )

    def _fail(self, position: int, reference: Reference, error: ClipError) -> None:
        failure = FailedInput(
            key=reference.key,
            uri=reference.uri,
            stage=error.stage,
            error=type(error).__name__,
            message=str(error),
        )
        self.failures.append((position, failure))
        fields = {name: getattr(failure, name) for name in ("key", "uri", "stage", "error")}
        log_event(_logger, logging.INFO, "clip failed", **fields, reason=failure.message)
        self._report(failed=1, seconds=0.0)

    def _report(self, failed: int, seconds: float) -> None:
        if self.on_progress is not None:
            self.on_progress(ShardProgress(self.index, 1, failed, seconds))

    def _footer(self, num_clips: int) -> ShardFooter:
        failures = tuple(failure for _, failure in sorted(self.failures, key=lambda pair: pair[0]))
        written = len({position for position, _, _ in self.sent} - {p for p, _ in self.failures})
        assert written + len(failures) == num_clips, (written, len(failures), num_clips)
        generation = self.plan.generation_of(self.index)
        return ShardFooter(
            codec=asdict(self.plan.request.codec),
            waveform=asdict(self.plan.request.waveform),
            plan_fingerprint=generation.fingerprint,
            shard_fingerprint=planned_shard(self.plan, self.index).fingerprint,
            index=self.index,
            num_shards=generation.end_shard,
            stats=replace(self.stats, clips=num_clips, failed=len(failures)),
            failures=failures,
        )

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.clock[stage] += time.perf_counter() - start
