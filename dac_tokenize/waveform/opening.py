"""References to waveforms: the room's two doors, streamed and in one piece."""

import threading
from collections.abc import Iterator

import numpy as np

from dac_tokenize.errors import WaveformError
from dac_tokenize.references import Reference
from dac_tokenize.waveform.channels import apply_policy, num_output_channels
from dac_tokenize.waveform.decode import open_sound
from dac_tokenize.waveform.fetch import SourceOpener
from dac_tokenize.waveform.loudness import amplified, check_installed, gains, measure
from dac_tokenize.waveform.options import Samples, Waveform, WaveformOptions
from dac_tokenize.waveform.reader import SoundReader, check_finite, read_segment
from dac_tokenize.waveform.resample import resample_array, resample_blocks

DEFAULT_OPTIONS = WaveformOptions()
KEPT_SAMPLES = 2**22  # of a clip whose loudness is measured; a longer one is decoded twice


class WaveformOpener:
    """Opens many references; threads may share it.

    File systems are kept, and for each thread the recording it read last: segments of one
    recording, opened one after another, cost one fetch and one pass.

    >>> opener = WaveformOpener(16_000)  # then opener(reference).blocks
    """

    def __init__(self, sampling_rate: int, options: WaveformOptions = DEFAULT_OPTIONS) -> None:
        self.sampling_rate = sampling_rate
        self.options = options
        if options.loudness is not None:
            check_installed()
        self._open_source = SourceOpener()
        self._lock = threading.Lock()
        self._idle: dict[int, tuple[object, SoundReader]] = {}

    def __call__(self, reference: Reference) -> Waveform:
        """Opens a reference: see `open_waveform`."""
        reader = self._take(reference)
        num_channels = num_output_channels(reader.num_channels, self.options.channels)
        waveform = Waveform(num_channels, reader.sampling_rate, iter(()))
        try:
            stream = self._stream(reference, reader)
            if self.options.loudness is not None:
                stream = self._amplified(reference, reader, stream, waveform)
        except BaseException:
            reader.close()
            raise
        waveform.blocks = self._giving_back(reference, reader, stream)
        return waveform

    def read(self, reference: Reference) -> Samples:
        """Reads a reference in one piece: see `read_waveform`."""
        reader = self._take(reference)
        try:
            samples = read_whole(reader, reference, self.sampling_rate, self.options)
        except BaseException:
            reader.close()
            raise
        self._give_back(reference, reader)
        return samples

    def close(self) -> None:
        """Closes the recordings that are kept open."""
        with self._lock:
            idle, self._idle = self._idle, {}
        for _, reader in idle.values():
            reader.close()

    def _stream(self, reference: Reference, reader: SoundReader) -> Iterator[Samples]:
        return stream_segment(reader, reference, self.sampling_rate, self.options)

    def _amplified(
        self,
        reference: Reference,
        reader: SoundReader,
        stream: Iterator[Samples],
        waveform: Waveform,
    ) -> Iterator[Samples]:
        """Measures the clip; keeps it for the second pass while it is short."""
        kept: list[Samples] | None = []
        num_kept = 0

        def keeping() -> Iterator[Samples]:
            nonlocal kept, num_kept
            for block in stream:
                num_kept += block.size
                if kept is not None:
                    kept = None if num_kept > KEPT_SAMPLES else [*kept, block]
                yield block

        loudness = measure(keeping(), waveform.num_channels, self.sampling_rate)
        waveform.source_loudness = tuple(loudness)
        again = self._stream(reference, reader) if kept is None else iter(kept)
        return amplified(again, gains(loudness, self.options.loudness or 0.0))

    def _giving_back(
        self, reference: Reference, reader: SoundReader, stream: Iterator[Samples]
    ) -> Iterator[Samples]:
        try:
            yield from stream
        except BaseException:  # the reader may be of no more use, or the clip was left half read
            reader.close()
            raise
        self._give_back(reference, reader)

    def _take(self, reference: Reference) -> SoundReader:
        """Gives the recording that this thread left open, if it is the one wanted, or opens it."""
        with self._lock:
            source, reader = self._idle.pop(threading.get_ident(), (None, None))
        if reader is not None:
            if source == _recording(reference):
                return reader
            reader.close()
        return open_sound(self._open_source(reference))

    def _give_back(self, reference: Reference, reader: SoundReader) -> None:
        if reference.duration_seconds is None:
            reader.close()
            return
        with self._lock:
            _, old = self._idle.pop(threading.get_ident(), (None, None))
            self._idle[threading.get_ident()] = _recording(reference), reader
        if old is not None:
            old.close()


def _recording(reference: Reference) -> object:
    return reference.uri, reference.size_bytes, reference.locator


def open_waveform(
    reference: Reference, sampling_rate: int, options: WaveformOptions = DEFAULT_OPTIONS
) -> Waveform:
    """Opens a reference to be read in blocks: fetched, decoded, mixed and resampled on the way.

    To open many references use one `WaveformOpener` for all.

    Args:
        reference: what to open.
        sampling_rate: sampling rate of the blocks (Hz).
        options: channels, limits, loudness.

    Returns:
        The waveform. Its blocks hold bit for bit the samples of `read_waveform`, however long
        the clip is, in bounded memory.

    Raises:
        SourceError: the bytes cannot be read.
        AudioError: they are not the sound they claim to be.
        WaveformError: there is no sample at all. (All three also while blocks are read.)

    >>> waveform = open_waveform(Reference("a.wav", "a.wav"), 16_000)  # doctest: +SKIP
    >>> sum(block.shape[1] for block in waveform.blocks)  # doctest: +SKIP
    48000
    """
    return WaveformOpener(sampling_rate, options)(reference)


def read_waveform(
    reference: Reference, sampling_rate: int, options: WaveformOptions = DEFAULT_OPTIONS
) -> Samples:
    """Reads a reference in one piece; the plain twin of `open_waveform`.

    Args:
        reference: what to read.
        sampling_rate: sampling rate of the result (Hz).
        options: channels, limits, loudness.

    Returns:
        float32 array (num_channels, num_samples).

    Raises:
        ClipError: as `open_waveform`.
    """
    opener = WaveformOpener(sampling_rate, options)
    try:
        return opener.read(reference)
    finally:
        opener.close()


def stream_segment(
    reader: SoundReader, reference: Reference, sampling_rate: int, options: WaveformOptions
) -> Iterator[Samples]:
    """Decodes, mixes and resamples a segment: float32 blocks (num_channels, num_samples)."""
    source_rate = reader.sampling_rate
    num_channels = num_output_channels(reader.num_channels, options.channels)
    decoded = read_segment(
        reader, reference.offset_seconds, reference.duration_seconds, options.max_clip_seconds
    )
    mixed = (apply_policy(frames, options.channels) for frames in decoded)
    num_samples = 0
    for block in resample_blocks(mixed, source_rate, sampling_rate, num_channels):
        check_finite(block, num_samples, sampling_rate)
        num_samples += len(block)
        yield np.ascontiguousarray(block.T)
    check_not_empty(num_samples, source_rate, sampling_rate)


def read_whole(
    reader: SoundReader, reference: Reference, sampling_rate: int, options: WaveformOptions
) -> Samples:
    """Does the same as `stream_segment`, each step in one call: (num_channels, num_samples)."""
    frames = np.concatenate(
        list(
            read_segment(
                reader,
                reference.offset_seconds,
                reference.duration_seconds,
                options.max_clip_seconds,
            )
        )
    )
    mixed = apply_policy(frames, options.channels)
    samples = resample_array(mixed, reader.sampling_rate, sampling_rate)
    check_finite(samples, 0, sampling_rate)
    check_not_empty(len(samples), reader.sampling_rate, sampling_rate)
    return at_loudness(np.ascontiguousarray(samples.T), sampling_rate, options)


def at_loudness(samples: Samples, sampling_rate: int, options: WaveformOptions) -> Samples:
    """Brings a clip (num_channels, num_samples) to the loudness wanted, if one is."""
    if options.loudness is None:
        return samples
    loudness = measure([samples], len(samples), sampling_rate)
    return samples * gains(loudness, options.loudness)


def check_not_empty(num_samples: int, source_rate: int, sampling_rate: int) -> None:
    """Refuses a clip so short that nothing of it is left at the rate wanted."""
    if num_samples == 0:
        raise WaveformError(
            f"resampled from {source_rate} to {sampling_rate} Hz no sample is left; "
            "expected at least one"
        )
