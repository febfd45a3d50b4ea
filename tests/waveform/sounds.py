"""Sounds for tests, and real encoders for every format that soundfile writes."""

import io

import numpy as np
import soundfile

# format, subtype: every pair is written by libsndfile and must come back
FORMATS = [
    *(("WAV", s) for s in ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE")),
    *(("WAV", s) for s in ("ULAW", "ALAW", "IMA_ADPCM", "MS_ADPCM", "GSM610")),
    *(("WAVEX", s) for s in ("PCM_16", "PCM_24", "FLOAT")),
    *(("RF64", s) for s in ("PCM_16", "PCM_24", "DOUBLE")),
    *(("W64", s) for s in ("PCM_16", "PCM_U8", "FLOAT")),
    *(("AIFF", s) for s in ("PCM_S8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW")),
    *(("AU", s) for s in ("PCM_16", "PCM_24", "FLOAT", "ALAW")),
    *(("CAF", s) for s in ("PCM_16", "PCM_24", "FLOAT", "ALAC_16", "ALAC_24")),
    *(("FLAC", s) for s in ("PCM_S8", "PCM_16", "PCM_24")),
    *(("NIST", s) for s in ("PCM_16", "PCM_24", "ULAW")),
    *(("SVX", s) for s in ("PCM_S8", "PCM_16")),
    ("VOC", "PCM_16"),
    ("OGG", "VORBIS"),
    ("OGG", "OPUS"),
    ("MP3", "MPEG_LAYER_III"),
]
ONLY_MONO = {"GSM610"}
# those whose header tells how much sound there must be, or which cannot end early unnoticed
NOTICES_CUTS = [(f, s) for f, s in FORMATS if f != "VOC"]


def tones(num_frames: int, num_channels: int = 1, rate: int = 16_000, seed: int = 0) -> np.ndarray:
    """Tones and a little noise: float32 (num_frames, num_channels), within -0.6 to 0.6."""
    rng = np.random.default_rng(seed)
    time = np.arange(num_frames)[:, None] / rate
    pitches = rng.uniform(100, 1500, (3, 1, num_channels))
    tone = sum(0.15 * np.sin(2 * np.pi * pitch * time) for pitch in pitches)
    return (tone + 0.01 * rng.standard_normal((num_frames, num_channels))).astype(np.float32)


def encode(
    samples: np.ndarray, rate: int, format: str = "WAV", subtype: str | None = None
) -> bytes:
    """Encodes in small blocks: libsndfile crashes when much Vorbis is written at once."""
    file = io.BytesIO()
    with soundfile.SoundFile(file, "w", rate, samples.shape[1], subtype, format=format) as sound:
        for start in range(0, len(samples), 4096):
            sound.write(samples[start : start + 4096])
    return file.getvalue()


def decode(data: bytes) -> tuple[np.ndarray, int]:
    """What libsndfile makes of it in one call: float32 (num_frames, num_channels), and the rate."""
    with soundfile.SoundFile(io.BytesIO(data)) as sound:
        sound.seekable = lambda: False  # or soundfile seeks before it reads, which changes MP3
        return sound.read(sound.frames, dtype="float32", always_2d=True), sound.samplerate
