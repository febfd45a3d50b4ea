"""Ends a process that hangs: for workers of an engine, which starts others in their place.

What hangs in a library's native code can be ended in no other way. Beam has a time limit for an
element, but heeds it only where the runner asks for workers' status, as Dataflow does; and it is
one for a whole shard, not for the time since it last got on.
"""

import logging
import os
import threading
import time
from types import TracebackType
from typing import Self

from dac_tokenize.events import log_event

EXIT_STALLED = 70
"""Status of a process that a watchdog has ended."""

_logger = logging.getLogger(__name__)


class Watchdog:
    """Ends this process when `beat` has not been called for too long within the `with` block.

    Args:
        stall_timeout_seconds: how long that is; None: it never ends the process.
        **fields: what is logged about the work at hand.

    >>> with Watchdog(600.0, shard="data/train-00000-of-00001.parquet") as watchdog:
    ...     watchdog.beat()
    """

    def __init__(self, stall_timeout_seconds: float | None, **fields: object) -> None:
        self._seconds = stall_timeout_seconds
        self._fields = fields
        self._last = time.monotonic()
        self._is_over = threading.Event()

    def beat(self) -> None:
        """Tell that the work gets on."""
        self._last = time.monotonic()

    def __enter__(self) -> Self:
        self.beat()
        if self._seconds is not None:
            threading.Thread(
                target=self._watch, args=(self._seconds,), name="watchdog", daemon=True
            ).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._is_over.set()

    def _watch(self, seconds: float) -> None:
        while not self._is_over.wait(max(0.0, self._last + seconds - time.monotonic())):
            silence = time.monotonic() - self._last
            if silence >= seconds:
                reason = f"stalled: it finished nothing for {silence:.0f} s, so this process ends"
                log_event(_logger, logging.ERROR, "worker lost", **self._fields, reason=reason)
                _flush_logs()
                os._exit(EXIT_STALLED)


def _flush_logs() -> None:
    """Give handlers that send what is logged a moment, and no more, to do so."""
    done = threading.Thread(target=logging.shutdown, daemon=True)
    done.start()
    done.join(2.0)
