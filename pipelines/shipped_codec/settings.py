"""The recipe's settings: one YAML file, read strictly into frozen dataclasses."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelSettings:
    """Shape of the `DacModel`; the names are those of transformers' `DacConfig`."""

    encoder_hidden_size: int
    decoder_hidden_size: int
    downsampling_ratios: list[int]
    hidden_size: int
    n_codebooks: int = 12
    codebook_size: int = 1024
    codebook_dim: int = 8
    sampling_rate: int = 16000


@dataclass(frozen=True, kw_only=True, slots=True)
class DataSettings:
    """What the training sound consists of.

    Attributes:
        recorded_speech: Folders under `/usr/share/asterisk/sounds`, each a recorded voice.
        speed_factors: Playback speeds at which every recorded voice is added once.
        espeak_minutes: Minutes of espeak-ng speech.
        flite_minutes: Minutes of flite speech.
        sampled_music_minutes: Minutes of random pieces on a soundfont's recorded instruments.
        music_minutes: Minutes of synthesised music.
        noise_minutes: Minutes of synthesised noise.
        shares: Probability of each group of sounds in a training batch, by group name.
    """

    recorded_speech: list[str]
    speed_factors: list[float]
    espeak_minutes: float
    flite_minutes: float
    sampled_music_minutes: float
    music_minutes: float
    noise_minutes: float
    shares: dict[str, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingSettings:
    """Optimisation: steps, rates, batch.

    Attributes:
        crop_frames: Frames per training crop (320 samples each).
        autoencoder_steps: Steps without any quantizer, before the codebooks are started.
        joint_steps: Steps with quantizers, after it.
        warmup_steps: Steps of linear warm-up at the start.
        learning_rate: Peak rate of encoder and decoder (AdamW).
        codebook_rate_factor: The codebooks' rate over that of the rest.
        weight_norm: Train in the weight-norm parametrisation of the DAC paper.
        latent_noise: Noise on the latents of the plain autoencoder, relative to their deviation.
        quantizer_dropout: Share of each batch that uses a random number of codebooks.
        revival_interval: Steps between two revivals of dead entries.
        revival_until: Fraction of the joint steps after which nothing is revived any more.
        ema_decay: Decay of the moving average of the weights, which is what ships.
        precision: `bfloat16` (autocast of the convolutions) or `float32`.
        compile: Compile encoder and decoder with `torch.compile`.
        threads: Workers; each computes its part of the batch on one CPU thread.
        checkpoint_interval: Steps between checkpoints.
    """

    crop_frames: int
    batch_size: int
    autoencoder_steps: int
    joint_steps: int
    warmup_steps: int
    learning_rate: float
    codebook_rate_factor: float
    weight_norm: bool
    latent_noise: float
    quantizer_dropout: float
    revival_interval: int
    revival_until: float
    ema_decay: float
    gradient_clip: float
    precision: str
    compile: bool
    threads: int
    log_interval: int
    checkpoint_interval: int


@dataclass(frozen=True, kw_only=True, slots=True)
class LossSettings:
    """Weights of the losses and the scales of the mel loss."""

    snr: float
    mel: float
    commitment: float
    codebook: float
    mel_windows: list[int]
    mel_bands: list[int]


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationSettings:
    """What is scored, and how much of it.

    Attributes:
        speech_folder: The held-out voice prompts.
        music_folder: The held-out music.
        codebook_counts: Numbers of codebooks at which the sound is scored.
        minimum_seconds: Shorter files are encoded, but not scored.
        music_excerpt_seconds: Length of the pieces into which music is cut.
        recognition_counts: Numbers of codebooks at which words are given to a recogniser.
        threads: CPU threads of the evaluation.
    """

    speech_folder: str
    music_folder: str
    codebook_counts: list[int]
    minimum_seconds: float
    music_excerpt_seconds: float
    recognition_counts: list[int]
    threads: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """The whole recipe."""

    seed: int
    model: ModelSettings
    data: DataSettings
    training: TrainingSettings
    losses: LossSettings
    evaluation: EvaluationSettings


_SECTIONS: dict[str, Any] = {
    "model": ModelSettings,
    "data": DataSettings,
    "training": TrainingSettings,
    "losses": LossSettings,
    "evaluation": EvaluationSettings,
}


def load_settings(path: Path) -> Settings:
    """Reads the YAML file; an unknown or missing key is an error, not a default.

    Raises:
        ValueError: A section or key is missing, or is not known.
    """
    raw = yaml.safe_load(path.read_text())
    expected = {"seed", *_SECTIONS}
    if set(raw) != expected:
        raise ValueError(f"{path}: expected the keys {sorted(expected)}, got {sorted(raw)}.")
    try:
        sections = {name: kind(**raw[name]) for name, kind in _SECTIONS.items()}
    except TypeError as error:
        raise ValueError(f"{path}: {error}") from error
    return Settings(seed=raw["seed"], **sections)


def as_plain(settings: Settings) -> dict[str, Any]:
    """Gives the settings as nested dictionaries, for checkpoints and reports."""
    return dataclasses.asdict(settings)
