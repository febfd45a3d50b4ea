"""Waveforms ahead of their use: a bounded pool of threads fetches, decodes and resamples."""

import contextvars
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from dac_tokenize import events
from dac_tokenize.errors import ClipError
from dac_tokenize.references import Reference
from dac_tokenize.waveform.options import Samples, Waveform

CLIPS_AHEAD_PER_THREAD = 16
MAX_RUN = 4096  # segments of one recording that one thread reads one after another

Outcome = Waveform | ClipError


def prefetch_waveforms(
    references: Iterable[Reference],
    open: Callable[[Reference], Waveform],
    num_threads: int = 4,
    max_buffered_samples: int = 2**25,
) -> Iterator[tuple[Reference, Outcome]]:
    """Opens references and decodes them ahead, in a pool of threads.

    Consecutive segments of one recording are read by one thread, in one pass. A long clip
    never lies in memory as a whole: its blocks come through a bounded queue. Closing the
    generator, also early, ends its threads; none outlives it.

    Args:
        references: what to open; read ahead of the results, in the caller's thread.
        open: opens one reference, as a `WaveformOpener` does; called in the threads.
        num_threads: threads that decode; 0 opens each reference when its turn comes, in the
            caller's thread.
        max_buffered_samples: samples, over all channels, that may wait to be used (4 bytes
            each); the one block that is due next may pass the limit.

    Yields:
        Each reference, in the order given, with its waveform or with the error that opening it
        raised. A waveform's blocks can be read until the next reference is asked for; an error
        in the middle of them is raised there.

    >>> from dac_tokenize.waveform import WaveformOpener
    >>> list(prefetch_waveforms([], WaveformOpener(16_000)))
    []
    """
    if num_threads == 0:
        yield from _one_by_one(references, open)
        return
    pool = _Pool(open, max_buffered_samples)
    try:
        pool.start(num_threads)
        for clip in _submit_ahead(references, pool, CLIPS_AHEAD_PER_THREAD * num_threads):
            yield clip.reference, pool.outcome(clip)
            pool.leave(clip)
    finally:
        pool.stop()


def _one_by_one(
    references: Iterable[Reference], open: Callable[[Reference], Waveform]
) -> Iterator[tuple[Reference, Outcome]]:
    for reference in references:
        try:
            waveform = open(reference)
        except ClipError as error:
            yield reference, error
            continue
        try:
            yield reference, waveform
        finally:
            waveform.close()


def _submit_ahead(
    references: Iterable[Reference], pool: "_Pool", num_ahead: int
) -> Iterator["_Clip"]:
    """Yields clips in order, each after at least `num_ahead` more were given to the pool.

    An error of `references` itself is raised in its place, after the clips before it.
    """
    runs = _runs(references)
    pending: deque[_Clip] = deque()
    failure: Exception | None = None
    more = True
    while more or pending:
        while more and len(pending) <= num_ahead:
            try:
                clips = [_Clip(reference) for reference in next(runs, ())]
            except Exception as error:
                clips, failure = [], error
            more = bool(clips)
            pending.extend(clips)
            pool.submit(clips)
        if pending:
            yield pending.popleft()
    if failure is not None:
        raise failure


def _runs(references: Iterable[Reference]) -> Iterator[list[Reference]]:
    """Puts together consecutive segments of one recording; other clips stand alone."""
    run: list[Reference] = []
    for reference in references:
        together = run and _is_same_recording(reference, run[0])
        if run and (not together or len(run) >= MAX_RUN):
            yield run
            run = []
        run.append(reference)
        if reference.duration_seconds is None:
            yield run
            run = []
    if run:
        yield run


def _is_same_recording(reference: Reference, other: Reference) -> bool:
    return (
        reference.duration_seconds is not None
        and reference.uri == other.uri
        and reference.locator == other.locator
    )


@dataclass(slots=True, eq=False)
class _Clip:
    """One reference on its way: what its thread has made of it, and what the caller took."""

    reference: Reference
    outcome: Outcome | None = None
    blocks: deque[Samples] = field(default_factory=deque)
    error: BaseException | None = None
    ended: bool = False
    left: bool = False


class _Pool:
    """The threads, and one lock for all that they share with the caller.

    A block is stored when the samples waiting leave room for it, or when its clip is the one
    the caller reads and has no other: so the caller never waits for room, and gets blocks in
    order even when later clips have taken all the room.
    """

    def __init__(self, open: Callable[[Reference], Waveform], max_buffered_samples: int) -> None:
        self._open = open
        self._room = max_buffered_samples
        self._changed = threading.Condition()
        self._jobs: deque[list[_Clip]] = deque()
        self._reading: _Clip | None = None
        self._stopped = False
        self._threads: list[threading.Thread] = []

    def start(self, num_threads: int) -> None:
        for index in range(num_threads):
            here = contextvars.copy_context()  # so that what is logged names the shard
            name = f"dac-tokenize-prefetch-{index}"
            thread = threading.Thread(target=here.run, args=(self._work,), name=name, daemon=True)
            thread.start()
            self._threads.append(thread)

    def submit(self, clips: list[_Clip]) -> None:
        with self._changed:
            self._jobs.append(clips)
            self._changed.notify_all()

    def stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._jobs.clear()
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    # In the caller's thread

    def outcome(self, clip: _Clip) -> Outcome:
        """Waits until the clip is open; its waveform then reads from the queue."""
        with self._changed:
            self._reading = clip
            self._changed.notify_all()
            self._changed.wait_for(lambda: clip.outcome is not None or clip.ended)
        if clip.outcome is None:
            assert clip.error is not None
            raise clip.error
        if isinstance(clip.outcome, Waveform):
            source = clip.outcome
            return Waveform(
                source.num_channels,
                source.source_sampling_rate,
                self._queued_blocks(clip),
                source.source_loudness,
            )
        return clip.outcome

    def _queued_blocks(self, clip: _Clip) -> Iterator[Samples]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: clip.blocks or clip.ended or self._gone(clip))
                if self._gone(clip):
                    raise RuntimeError(
                        "a prefetched waveform was read after the next one was taken"
                    )
                if not clip.blocks:
                    break
                block = clip.blocks.popleft()
                self._room += block.size
                self._changed.notify_all()
            yield block
        if clip.error is not None:
            raise clip.error

    def _gone(self, clip: _Clip) -> bool:
        return clip.left or self._stopped

    def leave(self, clip: _Clip) -> None:
        """Drops what the caller did not read of a clip."""
        with self._changed:
            clip.left = True
            self._room += sum(block.size for block in clip.blocks)
            clip.blocks.clear()
            self._changed.notify_all()

    # In the pool's threads

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._jobs or self._stopped)
                if self._stopped:
                    return
                job = self._jobs.popleft()
            for clip in job:
                if self._stopped:
                    return
                with events.context(key=clip.reference.key):
                    self._decode(clip)

    def _decode(self, clip: _Clip) -> None:
        error: BaseException | None = None
        try:
            waveform = self._open(clip.reference)
            try:
                self._announce(clip, waveform)
                for block in waveform.blocks:
                    if not self._store(clip, block):
                        break
            finally:
                waveform.close()
        except ClipError as clip_error:
            error = clip_error
            if clip.outcome is None:
                self._announce(clip, clip_error)
        except BaseException as other:  # raised in the caller's thread
            error = other
        with self._changed:
            clip.error, clip.ended = error, True
            self._changed.notify_all()

    def _announce(self, clip: _Clip, outcome: Outcome) -> None:
        with self._changed:
            clip.outcome = outcome
            self._changed.notify_all()

    def _store(self, clip: _Clip, block: Samples) -> bool:
        """Waits for room and stores a block; False when nobody wants it any more."""
        with self._changed:
            self._changed.wait_for(
                lambda: (
                    block.size <= self._room
                    or (self._reading is clip and not clip.blocks)
                    or self._gone(clip)
                )
            )
            if self._gone(clip):
                return False
            clip.blocks.append(block)
            self._room -= block.size
            self._changed.notify_all()
            return True
