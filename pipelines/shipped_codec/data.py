"""Training sound: where it comes from, how it is built once, and how batches are drawn from it."""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile
import soxr
import torch
from numpy.typing import NDArray

from .midi import make_piece
from .settings import DataSettings
from .synthesis import SENTENCES, Waveform, make_music, make_noise, make_text

logger = logging.getLogger(__name__)

PROMPTS = Path("/usr/share/asterisk/sounds")
#: Debian package of each folder of sound, for the message when it is missing.
PACKAGES = {
    "it_IT_m_Carlo": "asterisk-core-sounds-it-wav",
    "ru_RU_f_IvrvoiceRU": "asterisk-core-sounds-ru-wav",
    "en_US_f_Allison": "asterisk-core-sounds-en-wav",
    "moh": "asterisk-moh-opsound-wav",
}
#: espeak-ng's variants of a voice: pitch and formants of other speakers.
ESPEAK_VARIANTS = ["", "+m1", "+m3", "+m7", "+f1", "+f2", "+f3", "+f4", "+f5", "+croak"]
#: The MIT-licensed General MIDI soundfont of Debian's `fluid-soundfont-gm`.
SOUNDFONT = Path("/usr/share/sounds/sf2/FluidR3_GM.sf2")
#: Programs that make sound; the Debian packages have the same names.
TOOLS = ("espeak-ng", "flite", "fluidsynth")
FLITE_VOICES = ["kal16", "slt", "awb", "rms"]


class MissingSourceError(RuntimeError):
    """A Debian package that the recipe draws sound from is not installed."""


def check_sources(settings: DataSettings | None, held_out: list[Path]) -> None:
    """Checks that all sources are installed.

    Args:
        settings: The training sound; None where only held-out sound is needed.
        held_out: Folders of held-out sound.

    Raises:
        MissingSourceError: Some are not; the message says what to install.
    """
    folders = list(held_out)
    missing = []
    if settings is not None:
        folders += [PROMPTS / voice for voice in settings.recorded_speech]
        missing += [tool for tool in TOOLS if shutil.which(tool) is None]
        if not SOUNDFONT.exists():
            missing.append("fluid-soundfont-gm")
    missing += [PACKAGES.get(path.name, path.name) for path in folders if not path.is_dir()]
    if missing:
        packages = " ".join(sorted(set(missing)))
        raise MissingSourceError(
            "The recipe needs Debian packages that are not installed; run\n"
            f"  apt-get install --no-install-recommends {packages}"
        )


def load_audio(path: Path, sampling_rate: int, speed: float = 1.0) -> Waveform:
    """Reads a file as mono at the wanted rate; `speed` above 1 also raises the pitch."""
    audio, rate = soundfile.read(path, dtype="float32", always_2d=True)
    if len(audio) == 0:
        return np.zeros(0, np.float32)
    return np.asarray(soxr.resample(audio.mean(1), rate * speed, sampling_rate), np.float32)


def band_limit(audio: Waveform, sampling_rate: int) -> Waveform:
    """Takes away what a telephone cannot carry: down to 8 kHz and back up."""
    narrow = soxr.resample(audio, sampling_rate, 8000)
    return np.asarray(soxr.resample(narrow, 8000, sampling_rate), np.float32)


def build_groups(settings: DataSettings, folder: Path, sampling_rate: int, seed: int) -> None:
    """Builds one int16 file per group of sounds under `folder`, unless it is there already.

    The folder's `data.json` names the settings that it was built with: other settings build anew.
    """
    recipe = json.dumps({"data": {**_plain(settings), "shares": None}, "seed": seed}, indent=1)
    marker = folder / "data.json"
    if marker.exists() and marker.read_text() == recipe:
        return
    folder.mkdir(parents=True, exist_ok=True)
    builders = {
        "recorded_speech": _recorded_speech,
        "sampled_music": _sampled_music,
        "synthetic_speech": _synthetic_speech,
        "synthetic_music": _synthetic_music,
        "noise": _noise,
    }
    for index, (name, builder) in enumerate(builders.items()):
        rng = np.random.default_rng([seed, index])
        pieces = list(builder(settings, rng, sampling_rate))
        audio = np.concatenate(pieces) if pieces else np.zeros(0, np.float32)
        np.save(folder / f"{name}.npy", np.clip(audio * 32767, -32767, 32767).astype(np.int16))
        logger.info("data %s: %.1f minutes", name, len(audio) / sampling_rate / 60)
    marker.write_text(recipe)


def _plain(settings: DataSettings) -> dict[str, object]:
    return {name: getattr(settings, name) for name in settings.__dataclass_fields__}


def _recorded_speech(
    settings: DataSettings, rng: np.random.Generator, sampling_rate: int
) -> Iterator[Waveform]:
    for voice in settings.recorded_speech:
        for path in sorted((PROMPTS / voice).rglob("*.wav")):
            for speed in settings.speed_factors:
                yield load_audio(path, sampling_rate, speed)


def _sampled_music(
    settings: DataSettings, rng: np.random.Generator, sampling_rate: int
) -> Iterator[Waveform]:
    """Random pieces, played on the soundfont's recorded instruments."""
    for _ in range(int(settings.sampled_music_minutes)):
        with tempfile.TemporaryDirectory() as folder:
            score, path = Path(folder) / "piece.mid", Path(folder) / "piece.wav"
            score.write_bytes(make_piece(rng, 60.0))
            command = ["fluidsynth", "-ni", "-g", "0.5", "-r", str(sampling_rate)]
            command += ["-F", str(path), str(SOUNDFONT), str(score)]
            subprocess.run(command, check=True, capture_output=True)
            audio = load_audio(path, sampling_rate)
        audio *= rng.uniform(0.2, 0.9) / max(1e-6, float(np.abs(audio).max()))
        yield from _with_narrow(audio, rng, sampling_rate)


def _with_narrow(
    audio: Waveform, rng: np.random.Generator, sampling_rate: int
) -> Iterator[Waveform]:
    """Gives the sound in pieces of 4 s, half of them band-limited."""
    for start in range(0, len(audio), 4 * sampling_rate):
        piece = audio[start : start + 4 * sampling_rate]
        yield band_limit(piece, sampling_rate) if rng.random() < 0.5 else piece


def _synthetic_speech(
    settings: DataSettings, rng: np.random.Generator, sampling_rate: int
) -> Iterator[Waveform]:
    for tool, minutes in (("espeak", settings.espeak_minutes), ("flite", settings.flite_minutes)):
        seconds = 0.0
        while seconds < minutes * 60:
            audio = _speak(tool, rng, sampling_rate)
            seconds += len(audio) / sampling_rate
            yield from _with_narrow(audio, rng, sampling_rate)


def _speak(tool: str, rng: np.random.Generator, sampling_rate: int) -> Waveform:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "speech.wav"
        if tool == "espeak":
            language = str(rng.choice(list(SENTENCES)))
            voice = language + str(rng.choice(ESPEAK_VARIANTS))
            text = make_text(rng, SENTENCES[language])
            speed, pitch = rng.integers(120, 220), rng.integers(20, 80)
            command = ["espeak-ng", "-v", voice, "-s", str(speed), "-p", str(pitch)]
            command += ["-w", str(path), text]
        else:
            text = make_text(rng, SENTENCES["en-us"] + SENTENCES["en-gb"])
            command = ["flite", "-voice", str(rng.choice(FLITE_VOICES)), "-t", text, str(path)]
        subprocess.run(command, check=True, capture_output=True)
        factor = rng.uniform(0.9, 1.3) if tool == "flite" else 1.0
        return load_audio(path, sampling_rate, factor)


def _synthetic_music(
    settings: DataSettings, rng: np.random.Generator, sampling_rate: int
) -> Iterator[Waveform]:
    for _ in range(int(settings.music_minutes * 3)):
        yield from _with_narrow(make_music(rng, 20.0, sampling_rate), rng, sampling_rate)


def _noise(
    settings: DataSettings, rng: np.random.Generator, sampling_rate: int
) -> Iterator[Waveform]:
    for _ in range(int(settings.noise_minutes * 12)):
        yield make_noise(rng, 5.0, sampling_rate)


class BatchSource:
    """Draws batches of random crops; batch `n` depends on the seed and `n` alone.

    So a run that resumes from a checkpoint sees the batches that it would have seen.
    """

    def __init__(
        self, folder: Path, shares: dict[str, float], batch_size: int, crop_samples: int, seed: int
    ) -> None:
        self.groups: list[NDArray[np.int16]] = [np.load(folder / f"{n}.npy") for n in shares]
        lengths = np.array([len(group) for group in self.groups])
        weights = np.where(lengths > crop_samples, list(shares.values()), 0.0)
        self.shares = weights / weights.sum()
        self.batch_size, self.crop_samples, self.seed = batch_size, crop_samples, seed

    def batch(self, step: int) -> torch.Tensor:
        """Gives a batch: float32, (batch_size, 1, crop_samples), within -1 to 1."""
        # Negative numbers give batches that training does not see.
        rng = np.random.default_rng([self.seed, abs(step), int(step < 0)])
        clips = [self._clip(rng) for _ in range(self.batch_size)]
        return torch.from_numpy(np.stack(clips))[:, None]

    def _clip(self, rng: np.random.Generator) -> Waveform:
        clip = self._crop(rng)
        if rng.random() < 0.1:
            clip = clip + rng.uniform(0.1, 1.0) * self._crop(rng)
        peak = float(np.abs(clip).max())
        # Most crops come louder or softer than they were; none clips.
        gain = min(10 ** (rng.uniform(-14, 8) / 20), 0.98 / max(peak, 1e-6))
        return (clip * gain * rng.choice([-1.0, 1.0])).astype(np.float32)

    def _crop(self, rng: np.random.Generator) -> Waveform:
        """Draws a crop, once more (three times at most) where it is nearly silent."""
        for _ in range(3):
            group = self.groups[rng.choice(len(self.groups), p=self.shares)]
            start = int(rng.integers(0, len(group) - self.crop_samples))
            crop = group[start : start + self.crop_samples].astype(np.float32) / 32768
            if float(np.abs(crop).max()) > 0.01:
                break
        return crop
