"""A codec made of plain arithmetic, and inputs for it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile

from dac_tokenize.codec.checkpoint import CodecIdentity
from dac_tokenize.corpus.request import PlanRequest
from dac_tokenize.errors import ClipError
from dac_tokenize.references import Reference
from dac_tokenize.waveform import WaveformOptions

RATE = 8000
HOP = 80

IDENTITY = CodecIdentity(
    model_id="fake",
    revision=None,
    weights_checksum="5" * 64,
    sampling_rate=RATE,
    hop_length=HOP,
    num_codebooks=3,
    codebook_size=1024,
    precision="float32",
)


@dataclass
class FakeEncoded:
    index: int
    channel: int
    audio_codes: npt.NDArray[np.uint16] | None
    num_samples: int
    error: ClipError | None = None


def fake_codes(samples: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
    """Codes of a mono clip: each frame's loudness, seen through three moduli."""
    frames = -(-samples.size // HOP)
    padded = np.zeros(frames * HOP, np.float32)
    padded[: samples.size] = samples
    level = np.round(np.abs(padded.reshape(frames, HOP)).sum(axis=1) * 1000).astype(np.int64)
    return np.stack([level % 1024, level % 1021, level // 7 % 1024]).astype(np.uint16)


class FakeTokenizer:
    def __init__(self, identity: CodecIdentity = IDENTITY) -> None:
        self.identity = identity
        self.encoded = 0

    @property
    def sampling_rate(self) -> int:
        return self.identity.sampling_rate

    def encode_stream(self, clips: Iterable[Any]) -> Iterator[FakeEncoded]:
        for index, blocks in enumerate(clips):
            try:
                clip = np.concatenate([np.atleast_2d(block) for block in blocks], axis=1)
            except ClipError as error:
                yield FakeEncoded(index, 0, None, 0, error)
                continue
            self.encoded += 1
            for channel, samples in enumerate(clip):
                yield FakeEncoded(index, channel, fake_codes(samples), samples.size)


def request(**changes: Any) -> PlanRequest:
    values: dict[str, Any] = {
        "inputs": ("sounds",),
        "codec": IDENTITY,
        "waveform": WaveformOptions(),
        "shard_seconds": 3.0,
    }
    return PlanRequest(**values | changes)


def write_sounds(folder: Path, count: int, channels: int = 1) -> list[Reference]:
    """Write clips of 0.1 to 1.5 s of noise, and return their references."""
    folder.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(7)
    references = []
    for index in range(count):
        size = int(noise.integers(RATE // 10, RATE * 3 // 2))
        samples = noise.uniform(-0.5, 0.5, (size, channels)).astype(np.float32)
        path = folder / f"clip{index:03d}.wav"
        soundfile.write(path, samples, RATE, subtype="FLOAT")
        metadata = {"text": f"words {index}", "speaker": index % 3}
        references.append(
            Reference(
                key=f"clip{index:03d}",
                uri=str(path),
                size_bytes=path.stat().st_size,
                metadata=metadata,
            )
        )
    return references
