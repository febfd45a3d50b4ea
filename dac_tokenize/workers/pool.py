"""Worker processes with one task each: replaced when they die or stall, never waited for in vain.

Each worker has a pipe of its own, and nothing else that it shares with anyone: no queue, no lock.
So a process that is killed at any instant takes nothing with it but its task. Pools that are there
to be had cannot do this: `concurrent.futures` is broken by the first worker that dies and cannot
stop a task that runs; pebble's workers share one pipe under one lock, are not numbered, and its
time limit is that of a whole task, not of the silence since the task's last sign of life.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Literal

from dac_tokenize.errors import WorkersLostError

MOST_LOSSES = 3
"""A task that has cost so many workers is given up; a pool in which so many die before they have
begun with a task ends."""

MOST_LOSSES_IN_A_ROW = 20
"""A pool that loses so many workers while no task is finished ends."""

SECONDS_TO_LOAD = 600.0
"""A worker may take so long, or until it counts as stalled, to get ready for work: importing and
loading are no stall."""

_SECONDS_TO_END = 5.0

# What a worker says; every word counts as a sign of life.
ALIVE, LOADED, SAID, DONE, FAILED, CRASHED = "alive", "loaded", "said", "done", "failed", "crashed"


@dataclass(frozen=True, slots=True)
class Said:
    """A worker said something about its task."""

    task: int
    message: Any


@dataclass(frozen=True, slots=True)
class Done:
    """A task is finished."""

    task: int
    result: Any


@dataclass(frozen=True, slots=True)
class Lost:
    """A worker died or was killed.

    Attributes:
        rank: its number.
        task: what it was doing; None where it had not begun.
        reason: what happened to it.
        losses: how many workers the task has cost.
        is_given_up: whether the task is not tried again.
    """

    rank: int
    task: int | None
    reason: str
    losses: int
    is_given_up: bool


@dataclass(eq=False, slots=True)
class _Worker:
    rank: int
    process: BaseProcess
    pipe: Connection
    task: int | None = None
    is_loaded: bool = False
    last_word: float = field(default_factory=time.monotonic)
    crash: str | None = None


class Pool:
    """Runs tasks in worker processes.

    Args:
        serve: what each process runs, with its pipe, its rank and `arguments`; found by its name.
        arguments: for `serve`; must pickle.
        num_workers: how many processes at once.
        stall_timeout_seconds: a worker with a task that says nothing for so long is killed.
        start_method: "forkserver": workers are forked from one clean process that has imported
            what they need, so that a new one is there at once; "spawn": each imports it all, but
            no library can have woken a device before.

    A worker takes a task from its pipe and answers with pairs of a word (`ALIVE`, `LOADED` once it
    is ready for work, `SAID`, then `DONE`, `FAILED` or `CRASHED`) and a value; it must end when its
    pipe does.
    """

    def __init__(
        self,
        serve: Callable[..., None],
        arguments: tuple[Any, ...],
        num_workers: int,
        stall_timeout_seconds: float,
        start_method: Literal["forkserver", "spawn"] = "forkserver",
    ) -> None:
        self._serve = serve
        self._arguments = arguments
        self._num_workers = num_workers
        self._stall_timeout_seconds = stall_timeout_seconds
        self._context: Any = multiprocessing.get_context(start_method)
        self._context.set_forkserver_preload([serve.__module__])
        self._workers: list[_Worker] = []
        self._waiting: deque[int] = deque()
        self._losses: Counter[int] = Counter()
        self._losses_before_work = 0
        self._losses_in_a_row = 0

    def run(self, tasks: Iterable[int]) -> Iterator[Said | Done | Lost]:
        """Run all tasks, in any order.

        A task whose worker is lost is done by another one, after all that wait; after
        `MOST_LOSSES` it is given up, and all others are done.

        Yields:
            What happens, as it does.

        Raises:
            WorkersLostError: workers die and no task is done.
            Exception: what a worker reported as `FAILED`.
        """
        more = iter(tasks)
        try:
            while True:
                self._hand_out(more)
                if not any(worker.task is not None for worker in self._workers):
                    return
                yield from self._listen()
                yield from self._kill_stalled()
        finally:
            self._end()

    def _hand_out(self, more: Iterator[int]) -> None:
        """Give each idle worker a task, and start workers while there are tasks."""
        idle = [worker for worker in self._workers if worker.task is None]
        while idle or len(self._workers) < self._num_workers:
            task = next(more, None)
            if task is None:
                if not self._waiting:
                    return
                task = self._waiting.popleft()
            worker = idle.pop() if idle else self._start()
            worker.task, worker.last_word = task, time.monotonic()
            with contextlib.suppress(OSError):  # it has died; its pipe will say so
                worker.pipe.send(task)

    def _start(self) -> _Worker:
        taken = {worker.rank for worker in self._workers}
        rank = next(rank for rank in range(self._num_workers) if rank not in taken)
        ours, theirs = self._context.Pipe()
        process = self._context.Process(
            target=self._serve,
            args=(theirs, rank, *self._arguments),
            name=f"dac-tokenize-worker-{rank}",
            daemon=True,
        )
        process.start()
        theirs.close()
        worker = _Worker(rank, process, ours)
        self._workers.append(worker)
        return worker

    def _listen(self) -> Iterator[Said | Done | Lost]:
        """Take what workers say, or wait until the next one may have stalled."""
        by_pipe: dict[Any, _Worker] = {worker.pipe: worker for worker in self._workers}
        for pipe in wait(list(by_pipe), timeout=self._seconds_until_stall()):
            worker = by_pipe[pipe]
            try:
                word, value = worker.pipe.recv()
            # Cut off in the middle of a word, it may be anything that pickle raises.
            except Exception:
                yield self._lose(worker, worker.crash or _death(worker.process))
                continue
            worker.last_word = time.monotonic()
            if (event := self._take(worker, word, value)) is not None:
                yield event

    def _take(self, worker: _Worker, word: str, value: Any) -> Said | Done | None:
        task = worker.task
        if word == LOADED:
            worker.is_loaded, self._losses_before_work = True, 0
        elif word == FAILED:
            raise value
        elif word == CRASHED:
            worker.crash = value
        elif word == SAID and task is not None:
            return Said(task, value)
        elif word == DONE and task is not None:
            worker.task = None
            self._losses_in_a_row = 0
            return Done(task, value)
        return None

    def _seconds_until_stall(self) -> float | None:
        busy = (worker for worker in self._workers if worker.task is not None)
        stalls = [worker.last_word + self._patience(worker) for worker in busy]
        return max(0.0, min(stalls) - time.monotonic()) if stalls else None

    def _patience(self, worker: _Worker) -> float:
        limit = self._stall_timeout_seconds
        return limit if worker.is_loaded else max(limit, SECONDS_TO_LOAD)

    def _kill_stalled(self) -> Iterator[Lost]:
        for worker in list(self._workers):
            silence = time.monotonic() - worker.last_word
            is_silent = silence > self._patience(worker) and not worker.pipe.poll()
            if worker.task is not None and is_silent:
                yield self._lose(worker, f"stalled: it finished nothing for {silence:.0f} s")

    def _lose(self, worker: _Worker, reason: str) -> Lost:
        """Make sure that a worker is gone, and put its task back."""
        self._workers.remove(worker)
        worker.process.kill()
        worker.process.join(_SECONDS_TO_END)
        worker.pipe.close()
        task = worker.task
        self._losses_in_a_row += 1
        if not worker.is_loaded:
            self._losses_before_work += 1
        elif task is not None:
            self._losses[task] += 1
        losses = self._losses[task] if task is not None else 0
        is_given_up = losses >= MOST_LOSSES
        if task is not None and not is_given_up:
            self._waiting.append(task)
        before_work = self._losses_before_work >= MOST_LOSSES
        if before_work or self._losses_in_a_row >= MOST_LOSSES_IN_A_ROW:
            count = self._losses_before_work if before_work else self._losses_in_a_row
            when = "before they had begun" if before_work else "in a row, and no shard made"
            raise WorkersLostError(
                f"{count} workers were lost {when}; the last one was {reason}; what was published "
                "before stays readable, and the same command goes on from there"
            )
        return Lost(worker.rank, task, reason, losses, is_given_up)

    def _end(self) -> None:
        """End all workers: at once those that work, by the end of their pipe the others."""
        for worker in self._workers:
            if worker.task is not None:
                worker.process.kill()
            worker.pipe.close()
        deadline = time.monotonic() + _SECONDS_TO_END
        for worker in self._workers:
            worker.process.join(max(0.0, deadline - time.monotonic()))
            worker.process.kill()
            worker.process.join(_SECONDS_TO_END)
        self._workers.clear()


def _death(process: BaseProcess) -> str:
    """Say how a process ended whose pipe has."""
    process.join(_SECONDS_TO_END)
    code = process.exitcode
    if code is None:
        return "killed: it closed its pipe"
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return f"ended by itself with status {code}"
