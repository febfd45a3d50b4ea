"""How far a run is: counted in this process where it works here, else from published shards.

A bar on a terminal (hours of audio, times real time, clips, failures, time left), plain lines
elsewhere.
"""

from __future__ import annotations

import contextlib
import math
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TextIO

from tqdm import tqdm

from dac_tokenize import files
from dac_tokenize.corpus.footer import read_footer

if TYPE_CHECKING:
    from dac_tokenize.corpus import Plan, ShardProgress, ShardResult

BAR_SECONDS = 0.5
"""A bar is drawn so often."""

LINE_SECONDS = 10.0
"""A line is printed so often."""

POLL_SECONDS = 5.0
"""Published shards are looked for so often."""

# A run is done when its manifest is written, not when its last clip is encoded.
_MOST_BEFORE_THE_END = 0.99


@dataclass(slots=True)
class Tally:
    """What has been done so far.

    Attributes:
        clips: clips done, failed ones included.
        failed: clips that gave no codes.
        seconds: seconds of audio encoded.
        skipped_seconds: of these, found done when the run began.
    """

    clips: int = 0
    failed: int = 0
    seconds: float = 0.0
    skipped_seconds: float = 0.0

    def add(self, clips: int, failed: int, seconds: float, *, skipped: bool) -> None:
        """Count clips."""
        self.clips += clips
        self.failed += failed
        self.seconds += seconds
        if skipped:
            self.skipped_seconds += seconds


# Runners that work in this process report here. A module's global survives pickling of the
# transforms by reference, which a global of a main program does not.
_tally = Tally()
_lock = threading.Lock()


def report_clips(done: ShardProgress) -> None:
    """Count clips done in this process."""
    with _lock:
        _tally.add(done.clips, done.failed, done.seconds, skipped=done.skipped)


def report_skipped(result: ShardResult) -> None:
    """Count a shard that was there already."""
    with _lock:
        _tally.add(result.clips, result.failed, result.seconds, skipped=True)


class ProgressDisplay:
    """Shows the progress of a run while the `with` block runs.

    Args:
        plan: what is to be done.
        in_process: whether the shards are made in this process; if not, published shards are
            looked for in the output folder.
        stream: where to write, stderr unless given; a bar if it is a terminal, lines if not.
        say: called with each line and its figures instead.
    """

    def __init__(
        self,
        plan: Plan,
        in_process: bool = True,
        stream: TextIO | None = None,
        say: Callable[[str, Tally], None] | None = None,
    ) -> None:
        self._plan = plan
        self._stream = sys.stderr if stream is None else stream
        self._say = say or self._print
        self._source = _CountedHere() if in_process else _PublishedShards(plan)
        self._stop = threading.Event()
        self._bar: tqdm[Any] | None = None

    def __enter__(self) -> Self:
        self._start = time.monotonic()
        if self._say == self._print and self._stream.isatty():
            self._bar = tqdm(
                total=1.0,
                file=self._stream,
                bar_format="{percentage:3.0f}%|{bar}| {desc}",
                dynamic_ncols=True,
            )
        self._thread = threading.Thread(target=self._watch, name="progress", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join(timeout=POLL_SECONDS)
        if self._bar is not None:
            self._show(self._source.tally(), ended=error is None)
            self._bar.close()

    def _watch(self) -> None:
        pause = LINE_SECONDS if self._bar is None else BAR_SECONDS
        while True:
            # A store that hiccups, or a terminal that is gone, must not end the run.
            with contextlib.suppress(Exception):
                tally = self._source.tally()
                if self._bar is not None or tally.clips:
                    self._show(tally)
            if self._stop.wait(pause):
                return

    def _show(self, tally: Tally, ended: bool = False) -> None:
        text = describe(tally, self._plan, time.monotonic() - self._start)
        if self._bar is None:
            self._say(text, tally)
            return
        self._bar.n = 1.0 if ended else done_share(tally, self._plan)
        self._bar.set_description_str(text)

    def _print(self, text: str, _: Tally) -> None:
        print(f"dac-tokenize: {text}", file=self._stream, flush=True)


class _CountedHere:
    """Counts of this process, from now on."""

    def __init__(self) -> None:
        global _tally
        with _lock:
            _tally = Tally()

    def tally(self) -> Tally:
        """Return what has been done."""
        with _lock:
            return replace(_tally)


class _PublishedShards:
    """Counts from the footers of the shards in the output folder."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._folder = files.join(plan.output, "data")
        self._fingerprints = {generation.fingerprint for generation in plan.generations}
        self._seen: set[str] = set()
        self._tally = Tally()
        self._next_poll = 0.0

    def tally(self) -> Tally:
        """Return what has been published; what there was at the first call counts as skipped."""
        if time.monotonic() >= self._next_poll:
            first = not self._next_poll
            for name in files.list_names(self._folder):
                if name not in self._seen and name.endswith(".parquet"):
                    self._note(name, skipped=first)
            self._next_poll = time.monotonic() + POLL_SECONDS
        return replace(self._tally)

    def _note(self, name: str, *, skipped: bool) -> None:
        footer = read_footer(files.join(self._folder, name))
        if footer is not None and footer.plan_fingerprint in self._fingerprints:
            self._seen.add(name)
            stats = footer.stats
            self._tally.add(stats.clips, stats.failed, stats.seconds, skipped=skipped)


def done_share(tally: Tally, plan: Plan) -> float:
    """Return how much of a plan's audio is done, by estimate, from 0 to 0.99.

    Clips that failed count as clips of average length.
    """
    if not plan.estimated_seconds:
        return min(tally.clips / plan.num_clips, _MOST_BEFORE_THE_END)
    failed_seconds = tally.failed * plan.estimated_seconds / plan.num_clips
    share = (tally.seconds + failed_seconds) / plan.estimated_seconds
    return min(share, _MOST_BEFORE_THE_END)


def describe(tally: Tally, plan: Plan, elapsed_seconds: float) -> str:
    """Return one line about a run.

    The speed is that of what this run did itself, not of what it found done.

    >>> from types import SimpleNamespace
    >>> plan = SimpleNamespace(estimated_seconds=7200.0, num_clips=900)
    >>> describe(Tally(450, 3, 3600.0, 1800.0), plan, 60.0)
    '1.00 of ~2.00 h, 30x real time, 450 of 900 clips, 3 failed, 1 min 59 s left'
    """
    fresh = tally.seconds - tally.skipped_seconds
    speed = fresh / elapsed_seconds if elapsed_seconds > 0 else 0.0
    parts = [
        f"{tally.seconds / 3600:.2f} of ~{plan.estimated_seconds / 3600:.2f} h",
        f"{speed:.3g}x real time",
        f"{tally.clips:,} of {plan.num_clips:,} clips",
        f"{tally.failed:,} failed",
    ]
    if speed and tally.clips < plan.num_clips:
        left = plan.estimated_seconds * (1 - done_share(tally, plan)) / speed
        if math.isfinite(left):
            parts.append(f"{duration_text(left)} left")
    return ", ".join(parts)


def duration_text(seconds: float) -> str:
    """Return a duration as a person says it.

    >>> duration_text(9), duration_text(75), duration_text(3700)
    ('9 s', '1 min 15 s', '1 h 1 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
