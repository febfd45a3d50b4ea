"""How far a run is: counted in this process where it works here, else from published shards.

A bar on a terminal (hours of audio, times real time, clips, failures, time left), plain lines
elsewhere.
"""

from __future__ import annotations

import sys
import threading
import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TextIO

from tqdm import tqdm

from dac_tokenize import files
from dac_tokenize.corpus.footer import read_footer

if TYPE_CHECKING:
    from dac_tokenize.corpus import ShardProgress
    from dac_tokenize.corpus.manifest import ShardResult
    from dac_tokenize.corpus.plan import Plan

_BAR_SECONDS = 0.5
_LINE_SECONDS = 10.0
_POLL_SECONDS = 5.0


@dataclass(slots=True)
class Tally:
    """What has been done so far.

    Attributes:
        clips: clips done, failed ones included.
        failed: clips that gave no codes.
        seconds: seconds of audio done.
        skipped_seconds: of these, found done when the run began.
    """

    clips: int = 0
    failed: int = 0
    seconds: float = 0.0
    skipped_seconds: float = 0.0


# Runners that work in this process report here. A module's global survives pickling of the
# transforms by reference, which a global of a main program does not.
_tally = Tally()
_lock = threading.Lock()


def report_clip(clip: ShardProgress) -> None:
    """Count clips done in this process."""
    with _lock:
        _tally.clips += clip.clips
        _tally.failed += clip.failed
        _tally.seconds += clip.seconds
        if clip.skipped:
            _tally.skipped_seconds += clip.seconds


def report_skipped(result: ShardResult) -> None:
    """Count a shard that was there already."""
    with _lock:
        _tally.clips += result.clips
        _tally.failed += result.failed
        _tally.seconds += result.seconds
        _tally.skipped_seconds += result.seconds


@dataclass
class ProgressDisplay:
    """Shows the progress of a run while the `with` block runs.

    Args:
        plan: what is to be done.
        in_process: whether the shards are made in this process; if not, published shards are
            looked for in the output folder.
        stream: where to write; a bar if it is a terminal, lines if not.
    """

    plan: Plan
    in_process: bool = True
    stream: TextIO = field(default_factory=lambda: sys.stderr)

    def __enter__(self) -> Self:
        with _lock:
            _tally.clips = _tally.failed = 0
            _tally.seconds = _tally.skipped_seconds = 0.0
        self._start = time.monotonic()
        self._seen: dict[str, Tally] = {}
        self._next_poll = 0.0
        self._stop = threading.Event()
        self._bar = self._make_bar() if self.stream.isatty() else None
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
        self._thread.join()
        if self._bar is not None:
            self._show(self._tally())
            self._bar.close()

    def _watch(self) -> None:
        pause = _LINE_SECONDS if self._bar is None else _BAR_SECONDS
        while not self._stop.wait(pause):
            self._show(self._tally())

    def _tally(self) -> Tally:
        if self.in_process:
            with _lock:
                return Tally(_tally.clips, _tally.failed, _tally.seconds, _tally.skipped_seconds)
        if time.monotonic() >= self._next_poll:
            first = not self._next_poll
            self._poll(first)
            self._next_poll = time.monotonic() + _POLL_SECONDS
        done = Tally()
        for tally in self._seen.values():
            done.clips += tally.clips
            done.failed += tally.failed
            done.seconds += tally.seconds
            done.skipped_seconds += tally.skipped_seconds
        return done

    def _poll(self, first: bool) -> None:
        """Read the footers of shards that have appeared."""
        folder = files.join(self.plan.output, "data")
        for name in files.list_names(folder):
            if name in self._seen or not name.endswith(".parquet"):
                continue
            footer = read_footer(files.join(folder, name))
            if footer is not None:
                stats = footer.stats
                skipped = stats.seconds if first else 0.0
                self._seen[name] = Tally(stats.clips, stats.failed, stats.seconds, skipped)

    def _make_bar(self) -> tqdm[Any]:
        return tqdm(
            total=round(self.plan.estimated_seconds / 3600, 4),
            unit="h",
            file=self.stream,
            bar_format="{desc}{percentage:3.0f}%|{bar}| {postfix}",
            dynamic_ncols=True,
        )

    def _show(self, tally: Tally) -> None:
        text = describe(tally, self.plan, time.monotonic() - self._start)
        if self._bar is None:
            print(f"dac-tokenize: {text}", file=self.stream, flush=True)
            return
        # The total is an estimate, by the sizes of files: a bar must not run past its end.
        share = done_share(tally, self.plan)
        self._bar.n = share * float(self._bar.total or 0)
        self._bar.set_postfix_str(text)


def done_share(tally: Tally, plan: Plan) -> float:
    """Return how much of a plan is done, in [0, 1]: by audio, or by clips once all are done."""
    if tally.clips >= plan.num_clips:
        return 1.0
    by_audio = tally.seconds / plan.estimated_seconds if plan.estimated_seconds else 0.0
    return min(by_audio, 0.99)


def describe(tally: Tally, plan: Plan, elapsed_seconds: float) -> str:
    """Return one line about a run.

    >>> # "0.52 of about 1.20 h, 61x real time, 812 of 2000 clips, 3 failed, 40 s left"
    """
    fresh = tally.seconds - tally.skipped_seconds
    speed = fresh / elapsed_seconds if elapsed_seconds > 0 else 0.0
    parts = [
        f"{tally.seconds / 3600:.2f} of about {plan.estimated_seconds / 3600:.2f} h",
        f"{speed:.3g}x real time",
        f"{tally.clips} of {plan.num_clips} clips",
        f"{tally.failed} failed",
    ]
    share = done_share(tally, plan)
    if speed and share < 1:
        total = tally.seconds / share if share else plan.estimated_seconds
        parts.append(f"{_duration((total - tally.seconds) / speed)} left")
    return ", ".join(parts)


def _duration(seconds: float) -> str:
    """Return a duration as a person says it.

    >>> _duration(75), _duration(3700)
    ('1 min 15 s', '1 h 1 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
