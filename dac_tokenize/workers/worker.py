"""What a worker process does: one shard after another, until its pipe ends."""

# All that workers need is imported here: they are forked from a process that has imported this.
from __future__ import annotations

import logging
import os
import queue
import signal
import threading
import time
import traceback
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from logging.handlers import QueueHandler
from multiprocessing.connection import Connection
from typing import Any

import torch
from transformers import DacModel  # noqa: F401

from dac_tokenize import events, temporaries
from dac_tokenize.corpus import Plan, ShardProgress, ShardResult, published_shard, tokenize_shard
from dac_tokenize.corpus.tokenizing import corpus_folders
from dac_tokenize.errors import DacTokenizeError
from dac_tokenize.process import CodecOptions, tokenizer_for
from dac_tokenize.tokenizer import DacTokenizer
from dac_tokenize.workers.pool import ALIVE, CRASHED, DONE, FAILED, LOADED, SAID

SECONDS_BETWEEN_WORDS = 0.2
"""Progress is reported so often, not after every clip."""


@dataclass(frozen=True)
class Job:
    """What all workers of a run are given.

    Attributes:
        plan: the corpus's plan.
        codec: which codec to load.
        num_workers: how many workers share the machine.
        num_threads: threads that fetch and decode ahead, in each worker.
        log_level: of this package's loggers.
        environment: the parent's variables; those of the process that forks may be older.
    """

    plan: Plan
    codec: CodecOptions
    num_workers: int
    num_threads: int
    log_level: int
    environment: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Log:
    """A log record on its way to the parent, which alone writes."""

    record: logging.LogRecord


def serve(pipe: Connection, rank: int, job: Job) -> None:
    """Be a worker: make the shards whose numbers come through a pipe.

    Args:
        pipe: to the parent; when it ends, so does this process.
        rank: the worker's number; on CUDA, of its device.
        job: what is to be done.
    """
    # Ctrl-C is for the parent, which ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.update(job.environment)
    voice = _Voice(pipe)
    _log_through(voice, job.log_level)
    shards: queue.SimpleQueue[int] = queue.SimpleQueue()
    listener = threading.Thread(target=_listen, args=(pipe, shards, job), daemon=True)
    listener.start()
    worker = _Worker(rank, job, voice)
    with events.context(worker=rank):
        while True:
            worker.make(shards.get())


def _listen(pipe: Connection, shards: queue.SimpleQueue[int], job: Job) -> None:
    """Take numbers of shards; end the process when the parent has gone, whatever it is doing."""
    try:
        while True:
            shards.put(pipe.recv())
    except (EOFError, OSError):
        temporaries.sweep_own(*corpus_folders(job.plan.output))
        os._exit(0)


class _Voice:
    """The worker's end of its pipe, for all of its threads."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._lock = threading.Lock()

    def say(self, word: str, value: Any = None) -> None:
        with self._lock:
            self._pipe.send((word, value))


class _Worker:
    """Makes shards."""

    def __init__(self, rank: int, job: Job, voice: _Voice) -> None:
        self._rank, self._job, self._voice = rank, job, voice
        self._tokenizer: DacTokenizer | None = None

    def make(self, index: int) -> None:
        """Make one shard and say what became of it."""
        try:
            self._voice.say(DONE, self._result(index))
        except DacTokenizeError as error:
            self._voice.say(FAILED, error)
        except BrokenPipeError:
            return  # the listener ends this process
        # The device may be of no more use: another process tries again.
        except BaseException as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{os.path.basename(last.filename)}:{last.lineno}"
            self._voice.say(CRASHED, f"ended by {type(error).__name__}: {error} ({where})")
            os._exit(1)

    def _result(self, index: int) -> ShardResult:
        # Asked before the codec is loaded, which a run with nothing left to do then never is.
        result = published_shard(self._job.plan, index)
        if result is not None:
            self._voice.say(LOADED)
            return result
        report = _Report(self._voice)
        return tokenize_shard(
            self._job.plan,
            index,
            self._loaded(),
            num_threads=self._job.num_threads,
            on_progress=report.add,
            on_block=report.beat,
        )

    def _loaded(self) -> DacTokenizer:
        if self._tokenizer is None:
            # Asked before the codec is loaded, which holds torch to one thread in forked processes:
            # but this one's parent has never used more.
            num_threads = max(1, torch.get_num_threads() // self._job.num_workers)
            self._tokenizer = tokenizer_for(self._job.codec, self._rank)
            torch.set_num_threads(num_threads)
            self._voice.say(LOADED)
        return self._tokenizer


class _Report:
    """Progress on one shard, put together so that many short clips cost few words."""

    def __init__(self, voice: _Voice) -> None:
        self._voice = voice
        self._last = time.monotonic()
        self._waiting: list[ShardProgress] = []

    def add(self, progress: ShardProgress) -> None:
        self._waiting.append(progress)
        self.beat()

    def beat(self) -> None:
        now = time.monotonic()
        if now - self._last < SECONDS_BETWEEN_WORDS:
            return
        self._last = now
        if self._waiting:
            self._voice.say(SAID, self._waiting)
            self._waiting = []
        else:
            self._voice.say(ALIVE)


def _log_through(voice: _Voice, level: int) -> None:
    """Send what this package logs to the parent; libraries say nothing."""
    warnings.simplefilter("ignore")
    logging.getLogger().addHandler(logging.NullHandler())
    ours = logging.getLogger("dac_tokenize")
    ours.setLevel(level)
    ours.propagate = False
    ours.addHandler(_PipeHandler(voice))


class _PipeHandler(QueueHandler):
    """Makes records fit to travel, as for a queue."""

    def __init__(self, voice: _Voice) -> None:
        super().__init__(voice)  # type: ignore[arg-type]
        self._voice = voice

    def enqueue(self, record: logging.LogRecord) -> None:
        self._voice.say(SAID, Log(record))
