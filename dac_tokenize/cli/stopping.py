"""What SIGINT and SIGTERM do: the run ends at once, clean, and can go on later.

Nothing that is published is ever half written, so a run may be stopped anywhere. Beam's threads
cannot be interrupted; a process that runs a pipeline is therefore left without waiting for them.
"""

import contextlib
import logging
import multiprocessing.util
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import NoReturn

from dac_tokenize import temporaries
from dac_tokenize.cli.quiet import say

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_SECONDS_TO_DIE = 5.0


class Stopped(BaseException):
    """SIGINT or SIGTERM came."""

    def __init__(self, signal_number: int, done: str = "") -> None:
        super().__init__(f"stopped by {signal.Signals(signal_number).name}{done}")
        self.signal_number = signal_number
        self.exit_status = 128 + signal_number


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Raise `Stopped` in the main thread when the first signal comes; a second one kills."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, _raise) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _raise(number: int, frame: FrameType | None) -> NoReturn:
    for each in _SIGNALS:
        signal.signal(each, signal.SIG_DFL)
    raise Stopped(number)


def leave_process(stopped: Stopped, output: str) -> NoReturn:
    """End this process and its workers, and remove their temporary files.

    Args:
        stopped: what it says goes to stderr.
        output: path or URL of the output folder.
    """
    from dac_tokenize.corpus.tokenizing import corpus_folders

    threading.excepthook = _ignore  # Beam's threads will miss their workers
    _kill(_descendants(os.getpid()))
    folders = corpus_folders(output)
    temporaries.sweep(*folders)
    temporaries.sweep_own(*folders)
    if "multiprocessing.forkserver" in sys.modules:  # whose socket lies in a folder
        shutil.rmtree(multiprocessing.util.get_temp_dir(), ignore_errors=True)
    say(stopped, logging.WARNING)
    sys.stdout.flush()
    os._exit(stopped.exit_status)


def _ignore(_: threading.ExceptHookArgs) -> None:
    pass


def _descendants(process: int) -> list[int]:
    """Return the processes that one started, and those that these did; none without /proc."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            # The program's name stands in brackets and may hold anything.
            parent = int(stat.read_text(errors="replace").rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(stat.parent.name))
    found = list(children.get(process, []))
    for child in found:  # grows while it is gone through
        found += children.get(child, [])
    return found


def _kill(processes: list[int]) -> None:
    # Held first, so that none gets to complain that another has gone.
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for process in processes:
            with contextlib.suppress(OSError):
                os.kill(process, number)
    deadline = time.monotonic() + _SECONDS_TO_DIE
    while any(map(_is_alive, processes)) and time.monotonic() < deadline:
        time.sleep(0.02)


def _is_alive(process: int) -> bool:
    with contextlib.suppress(OSError):
        os.waitpid(process, os.WNOHANG)
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
