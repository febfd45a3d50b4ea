"""`DacTokenizer`: clips to codes and codes to clips, exact whatever their company."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from dac_tokenize.codec.checkpoint import Checkpoint, CodecIdentity, load_checkpoint
from dac_tokenize.codec.engine import AudioCodes, CodecEngine, Samples
from dac_tokenize.codec.inputs import ClipLike, checked_codes, checked_lanes, mono_at_rate
from dac_tokenize.codec.stream import at_once, run_in_order, run_packed
from dac_tokenize.codec.windows import WindowCutter
from dac_tokenize.errors import ClipError, UsageError


@dataclass(frozen=True, slots=True)
class EncodedClip:
    """The codes of one channel of one clip of a stream.

    Attributes:
        index: position of the clip in the stream.
        channel: channel of the clip, 0 for a mono clip.
        audio_codes: uint16, shape (num_codebooks, num_frames); None after an error.
        num_samples: samples encoded, at the codec's rate, before padding to a whole frame.
        error: why there are no codes; None if all went well.
    """

    index: int
    channel: int
    audio_codes: AudioCodes | None
    num_samples: int
    error: ClipError | None = None


class DacTokenizer:
    """A DAC codec that gives a clip the same codes whatever it is encoded with.

    The codes of a clip equal those of `DacModel.encode` on that clip alone and whole, zero-padded
    to a whole frame: clips are cut into windows with exact context, windows are packed into rows of
    one fixed shape, and the activations between them are masked after every step.

    Args:
        checkpoint: the codec, from `load_checkpoint`.
        num_codebooks: keep the first so many codebooks; None for all.
        device: "auto" (a CUDA GPU if there is one), or any torch device.
        precision: "float32" (TF32 off), "tf32", "float16" or "bfloat16", for the convolutions; the
            quantizer always compares in float32.
        row_seconds: length of a row; None for a choice that suits the codec. Not a matter of
            what comes out, only of speed and memory.
        rows_per_batch: rows computed at once; None for a choice that suits the device.

    Raises:
        CodecError: the codec has no such number of codebooks.
        UsageError: an option is out of range, or the device is not there.

    >>> import numpy as np
    >>> tok = DacTokenizer.from_pretrained()
    >>> codes = tok.encode([np.zeros(16_000), np.zeros(100)], sampling_rate=16_000)
    >>> [c.shape for c in codes]
    [(12, 50), (12, 1)]
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        num_codebooks: int | None = None,
        device: str | torch.device = "auto",
        precision: str = "float32",
        row_seconds: float | None = None,
        rows_per_batch: int | None = None,
    ) -> None:
        self.device = resolve_device(device)
        self.identity: CodecIdentity = checkpoint.identity(num_codebooks, precision)
        self._engine = CodecEngine(
            checkpoint.model,
            self.num_codebooks,
            self.device,
            precision,
            row_seconds,
            rows_per_batch,
        )

    @classmethod
    def from_pretrained(
        cls,
        model: Any = None,
        *,
        revision: str | None = None,
        num_codebooks: int | None = None,
        device: str | torch.device = "auto",
        precision: str = "float32",
        row_seconds: float | None = None,
        rows_per_batch: int | None = None,
    ) -> "DacTokenizer":
        """Load a codec and make a tokenizer of it.

        Args:
            model: a name on the Hub ("descript/dac_16khz"), a local folder, a transformers
                `DacModel`, or None for the codec that ships in this package.
            revision: branch, tag or commit on the Hub.
            num_codebooks: as for the class, like all that follow.
            device: see above.
            precision: see above.
            row_seconds: see above.
            rows_per_batch: see above.

        Raises:
            CodecError: the codec cannot be found or read, is not a DAC, or lacks weights.
            UsageError: an option is out of range, or the device is not there.
        """
        return cls(
            load_checkpoint(model, revision),
            num_codebooks=num_codebooks,
            device=device,
            precision=precision,
            row_seconds=row_seconds,
            rows_per_batch=rows_per_batch,
        )

    @property
    def model_id(self) -> str:
        """Name on the Hub, folder, or "shipped"."""
        return self.identity.model_id

    @property
    def revision(self) -> str | None:
        """Commit on the Hub; None where there is none."""
        return self.identity.revision

    @property
    def weights_checksum(self) -> str:
        """SHA-256 over all weights, in hexadecimal."""
        return self.identity.weights_checksum

    @property
    def sampling_rate(self) -> int:
        """Samples per second of what is encoded and decoded."""
        return self.identity.sampling_rate

    @property
    def hop_length(self) -> int:
        """Samples per frame."""
        return self.identity.hop_length

    @property
    def frame_rate(self) -> float:
        """Frames per second."""
        return self.identity.frame_rate

    @property
    def num_codebooks(self) -> int:
        """Codebooks kept: rows of `audio_codes`."""
        return self.identity.num_codebooks

    @property
    def codebook_size(self) -> int:
        """Entries per codebook."""
        return self.identity.codebook_size

    @property
    def precision(self) -> str:
        """Number format of the convolutions."""
        return self.identity.precision

    def encode(
        self, waveforms: Sequence[npt.ArrayLike], sampling_rate: int | None = None
    ) -> list[AudioCodes]:
        """Encode mono clips.

        Args:
            waveforms: float arrays of shape (num_samples,), in [-1, 1], at least one sample each.
            sampling_rate: Hz of all of them; resampled with soxr where it is not the codec's.
                None: they are at the codec's rate.

        Returns:
            For each clip uint16 codes of shape (num_codebooks, num_frames).

        Raises:
            WaveformError: a clip is empty or not finite; the message says which.
            UsageError: an array is not float, or not one-dimensional.
        """
        if isinstance(waveforms, np.ndarray | torch.Tensor) and waveforms.ndim == 1:
            raise UsageError("encode takes a list of clips; put the one clip into a list")
        rate = self.sampling_rate if sampling_rate is None else sampling_rate
        clips = (
            mono_at_rate(index, clip, rate, self.sampling_rate)
            for index, clip in enumerate(waveforms)
        )
        codes = []
        for item in self.encode_stream(clips):
            if item.audio_codes is None:
                assert item.error is not None
                raise item.error
            codes.append(item.audio_codes)
        return codes

    def encode_stream(self, clips: Iterable[ClipLike]) -> Iterator[EncodedClip]:
        """Encode any number of clips of any length in bounded memory.

        Args:
            clips: each a float array of shape (num_samples,) or (num_channels, num_samples) at the
                codec's rate, or an iterable of such arrays, one block after the other.

        Yields:
            One item for each channel of each clip, in order. A clip that cannot be encoded, or
            whose blocks raise a `ClipError`, gives one item with `error` set.
        """
        lanes = (checked_lanes(index, clip, self.sampling_rate) for index, clip in enumerate(clips))
        engine = self._engine
        for done in run_packed(
            lanes,
            engine.encoder_windows,
            engine.encoder_rows,
            engine.start_batch,
            engine.batches_under_way,
        ):
            yield EncodedClip(done.index, done.channel, done.result, done.num_positions, done.error)

    def decode(
        self,
        audio_codes: Sequence[npt.ArrayLike],
        num_samples: Sequence[int | None] | None = None,
    ) -> list[Samples]:
        """Decode clips.

        Args:
            audio_codes: integer arrays of shape (k, num_frames) with entries in
                [0, codebook_size), k from 1 to `num_codebooks`.
            num_samples: true length of each clip, to which its sound is cut, or padded with zeros
                (a codec with an odd stride returns a little less than frames times hop). None: as
                the decoder gives it.

        Returns:
            For each clip float32 samples in [-1, 1], shape (num_samples,).

        Raises:
            UsageError: codes have a wrong shape, type or range, or the lists differ in length.
        """
        wanted = [None] * len(audio_codes) if num_samples is None else list(num_samples)
        if len(wanted) != len(audio_codes):
            raise UsageError(f"num_samples has {len(wanted)} entries for {len(audio_codes)} clips")
        blocks = (
            [self._checked_codes(codes, index)[None]] for index, codes in enumerate(audio_codes)
        )
        engine = self._engine
        done = run_packed(
            blocks, engine.decoder_windows, engine.decoder_rows, at_once(engine.decode_batch)
        )
        return [
            _fitted(item.result, length)
            for item, length in zip(done, wanted, strict=True)
            if item.result is not None
        ]

    def decode_blocks(
        self, audio_codes: npt.ArrayLike, num_samples: int | None = None
    ) -> Iterator[Samples]:
        """Decode one clip of any length block by block; joined, to rounding, what `decode` gives.

        Args:
            audio_codes: as for `decode`, one clip.
            num_samples: as for `decode`.

        Yields:
            float32 samples, shape (n,), a row's worth at a time.
        """
        engine = self._engine
        cutter = WindowCutter((0, 0), engine.decoder_windows)
        codes = self._checked_codes(audio_codes, 0)

        def windows() -> Iterator[Any]:
            yield from cutter.push(codes)
            yield from cutter.finish()

        given = 0
        for block in run_in_order(windows(), engine.decoder_rows, engine.decode_batch):
            left = block.shape[-1] if num_samples is None else num_samples - given
            if left > 0:
                yield block[:left]
            given += min(left, block.shape[-1])
        if num_samples is not None and given < num_samples:
            yield np.zeros(num_samples - given, np.float32)

    def _checked_codes(self, codes: npt.ArrayLike, index: int) -> npt.NDArray[np.int64]:
        return checked_codes(index, codes, self.num_codebooks, self.codebook_size)


def resolve_device(device: str | torch.device) -> torch.device:
    """Return the torch device that `device` names; "auto" is a CUDA GPU if there is one.

    Raises:
        UsageError: there is no such device.
    """
    if isinstance(device, str) and device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
    except RuntimeError as error:
        raise UsageError(f"device is {device!r}; expected auto, cpu, cuda or cuda:N") from error
    if resolved.type == "cuda":
        found = torch.cuda.device_count()
        if (resolved.index or 0) >= found:
            raise UsageError(f"device is {str(device)!r}, but {found} CUDA devices were found")
    return resolved


def _fitted(samples: Samples, num_samples: int | None) -> Samples:
    """Cut `samples` to `num_samples`, or pad them with zeros."""
    if num_samples is None:
        return samples
    missing = num_samples - samples.shape[-1]
    return np.pad(samples, (0, missing)) if missing > 0 else samples[:num_samples]
