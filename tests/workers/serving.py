"""What the processes of a pool do in its tests: tasks are numbers, and say what happens."""

import os
import signal
import time
from pathlib import Path

from dac_tokenize.errors import CorpusError
from dac_tokenize.workers.pool import ALIVE, CRASHED, DONE, FAILED, LOADED, SAID

HANGING_CLIP = "clip07.wav"
ALWAYS, ONCE = 2, 1

KILLED, KILLED_ONCE, STALLS, STALLS_ONCE, CRASHES, FAILS, EXITS, SLOW = range(1000, 1008)


def serve(pipe, rank, folder):
    """Do tasks until the pipe ends; note each in a file of `folder`."""
    pipe.send((LOADED, None))
    while True:
        try:
            task = pipe.recv()
        except EOFError:
            return
        mark = Path(folder) / f"{task}"
        is_first = not mark.exists()
        with mark.open("a") as file:
            file.write(f"{rank} {os.getpid()}\n")
        if task == KILLED or (task == KILLED_ONCE and is_first):
            os.kill(os.getpid(), signal.SIGKILL)
        if task == STALLS or (task == STALLS_ONCE and is_first):
            time.sleep(1000)
        if task == SLOW:  # slower than the limit, but alive
            for _ in range(8):
                time.sleep(0.1)
                pipe.send((ALIVE, None))
        if task == CRASHES:
            pipe.send((CRASHED, "ended by ValueError: no"))
            os._exit(1)
        if task == EXITS:
            os._exit(7)
        if task == FAILS:
            pipe.send((FAILED, CorpusError("the disk is full")))
            continue
        pipe.send((SAID, f"half of {task}"))
        pipe.send((DONE, (task, rank)))


def loads_slowly(pipe, rank, folder):
    """Take longer to get ready than a task may take."""
    time.sleep(1.2)
    serve(pipe, rank, folder)


def with_hanging_reader(pipe, rank, job):
    """Be a real worker whose reader never returns from one clip: always, or the first time."""
    from dac_tokenize.waveform import WaveformOpener
    from dac_tokenize.workers import worker

    read = WaveformOpener.__call__

    def hang(self, reference):
        mark = Path(job.plan.output).parent / "hung"
        if reference.key == HANGING_CLIP and (job.num_threads == ALWAYS or not mark.exists()):
            mark.touch()
            time.sleep(1000)
        return read(self, reference)

    WaveformOpener.__call__ = hang
    worker.serve(pipe, rank, job)


def never_begins(pipe, rank, folder):
    """Die before any word."""
    os._exit(3)
