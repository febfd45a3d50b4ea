"""All shards of a plan through a pool of processes: the twin of `TokenizeShards` on one machine."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Literal

import torch

from dac_tokenize import temporaries
from dac_tokenize.corpus import Plan, ShardProgress, ShardResult
from dac_tokenize.corpus.manifest import unfinished
from dac_tokenize.corpus.tokenizing import NUM_THREADS, corpus_folders
from dac_tokenize.errors import ShardsGivenUpError
from dac_tokenize.events import log_event
from dac_tokenize.process import CodecOptions
from dac_tokenize.workers.pool import Done, Lost, Pool, Said
from dac_tokenize.workers.worker import Job, Log, serve

STALL_TIMEOUT_SECONDS = 600.0
"""Longer than a web server that does not answer holds up a clip, which then counts as failed."""

_logger = logging.getLogger(__name__)


def tokenize_shards(
    plan: Plan,
    codec: CodecOptions | None = None,
    *,
    num_workers: int,
    num_threads: int = NUM_THREADS,
    stall_timeout_seconds: float = STALL_TIMEOUT_SECONDS,
    on_progress: Callable[[ShardProgress], None] | None = None,
) -> Generator[ShardResult]:
    """Encode the shards of a saved plan in several processes, for `finish_corpus`.

    Worker r uses CUDA device r modulo their number; on the CPU, workers share out the cores. A
    worker that dies, or finishes nothing for too long, costs its shard in flight: another process
    makes it. A shard that has cost three workers is given up, after all others are made. Nothing is
    left running when this ends, or when this process is killed.

    Call it under ``if __name__ == "__main__":``, as everything that starts processes.

    Args:
        plan: the corpus's plan, from `dac_tokenize.corpus.open_plan`.
        codec: how each worker loads the codec that the plan was made for; None: the shipped one.
        num_workers: how many processes, 1 or more.
        num_threads: threads of each that fetch and decode sound ahead of the codec.
        stall_timeout_seconds: a worker that has taken no sound and finished no clip for so long
            is killed.
        on_progress: called with what was done since it was last called; with negative numbers
            when the shard in flight of a lost worker was dropped.

    Yields:
        One result a shard, in any order; the last one when all are done.

    Raises:
        ShardsGivenUpError: when all others are done; names the shards.
        WorkersLostError: workers die and no shard is done.
        DacTokenizeError: what `tokenize_shard` raised in a worker; the run ends.

    >>> plan = open_plan("out", request, references)  # doctest: +SKIP
    >>> finish_corpus(plan, "out", tokenize_shards(plan, num_workers=2))  # doctest: +SKIP
    """
    level = logging.getLogger("dac_tokenize").getEffectiveLevel()
    codec = codec or CodecOptions()
    job = Job(plan, codec, num_workers, num_threads, level, dict(os.environ))
    run = _Run(plan, on_progress)
    on_gpu = codec.device != "cpu" and torch.cuda.device_count() > 0
    start_method: Literal["spawn", "forkserver"] = "spawn" if on_gpu else "forkserver"
    pool = Pool(serve, (job,), num_workers, stall_timeout_seconds, start_method)
    for event in pool.run(unfinished(plan).indices):
        match event:
            case Said(task, Log(record)):
                logging.getLogger(record.name).handle(record)
            case Said(task, progress):
                run.count(task, progress)
            case Lost():
                run.lose(event)
            case Done(task, result):
                run.done(task, result)
                yield result
    if run.given_up:
        raise ShardsGivenUpError(run.what_was_given_up())


@dataclass(slots=True)
class _Run:
    """What is known of a run's shards."""

    plan: Plan
    on_progress: Callable[[ShardProgress], None] | None
    in_flight: dict[int, list[ShardProgress]] = field(default_factory=dict)
    given_up: list[Lost] = field(default_factory=list)

    def count(self, index: int, progress: list[ShardProgress]) -> None:
        self.in_flight.setdefault(index, []).extend(progress)
        for one in progress:
            self._report(one)

    def done(self, index: int, result: ShardResult) -> None:
        """Report what of a shard has not been."""
        counted = _sum(index, self.in_flight.pop(index, []))
        self._report(
            ShardProgress(
                index,
                result.clips - counted.clips,
                result.failed - counted.failed,
                result.seconds - counted.seconds,
                result.skipped,
            )
        )

    def lose(self, lost: Lost) -> None:
        """Drop what a worker had in flight."""
        # Of its own temporary files a killed process removes none.
        temporaries.sweep(*corpus_folders(self.plan.output))
        where = "" if lost.task is None else self.plan.shard_name(lost.task)
        what = "shard given up" if lost.is_given_up else "worker lost"
        fields = {"shard": where, "worker": lost.rank, "reason": lost.reason, "losses": lost.losses}
        log_event(_logger, logging.WARNING, what, **fields)
        if lost.task is not None:
            counted = _sum(lost.task, self.in_flight.pop(lost.task, []))
            self._report(
                ShardProgress(lost.task, -counted.clips, -counted.failed, -counted.seconds)
            )
        if lost.is_given_up:
            self.given_up.append(lost)

    def _report(self, progress: ShardProgress) -> None:
        if self.on_progress is not None and progress.clips:
            self.on_progress(progress)

    def what_was_given_up(self) -> str:
        shards = [
            f"{self.plan.shard_name(lost.task)} ({lost.losses} workers lost at it; the last one "
            f"was {lost.reason})"
            for lost in self.given_up
            if lost.task is not None
        ]
        return (
            f"{len(shards):,} of {self.plan.num_shards:,} shards could not be made: "
            f"{'; '.join(shards)}; all others are published, and the same command tries these again"
        )


def _sum(index: int, progress: list[ShardProgress]) -> ShardProgress:
    return ShardProgress(
        index,
        sum(one.clips for one in progress),
        sum(one.failed for one in progress),
        sum(one.seconds for one in progress),
    )
