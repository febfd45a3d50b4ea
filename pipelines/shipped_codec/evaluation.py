"""Figures on held-out sound, as numbers for JSON and as a table for people."""

from __future__ import annotations

import logging
import os
import platform
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
import transformers
from torch import Tensor
from transformers import DacModel

from dac_tokenize import DacTokenizer

from .data import load_audio
from .losses import MelDistance, si_sdr
from .model import fit_length
from .settings import Settings
from .synthesis import Waveform

logger = logging.getLogger(__name__)

#: Samples by which decoded sound may be shifted; an odd stride of 5 shifts it by 8 at most.
MAX_LAG = 16
#: Shape and number of the rows on which the speed of encoding is taken.
SPEED_ROW_SECONDS, SPEED_ROWS = 2.0, 20


@dataclass(slots=True)
class Scores:
    """Scores of one kind of sound, by number of codebooks, one entry per clip."""

    si_sdr: dict[int, list[float]] = field(default_factory=dict)
    mel_distance: dict[int, list[float]] = field(default_factory=dict)

    def means(self) -> dict[str, dict[str, float]]:
        """Means over clips, with string keys as JSON has them."""
        return {
            "si_sdr_db": {str(n): float(np.mean(v)) for n, v in self.si_sdr.items()},
            "mel_distance": {str(n): float(np.mean(v)) for n, v in self.mel_distance.items()},
        }


class Codec:
    """A `DacModel` with the few calls that the evaluation needs, clip by clip."""

    def __init__(self, folder: Path) -> None:
        """Loads the codec from its folder."""
        self.model = DacModel.from_pretrained(folder, local_files_only=True).eval()
        self.hop_length = int(np.prod(self.model.config.downsampling_ratios))
        self.num_codebooks = self.model.config.n_codebooks
        self.sampling_rate = self.model.config.sampling_rate

    @torch.inference_mode()
    def encode(self, clip: Waveform) -> Tensor:
        """Encodes one clip, zero-padded to a whole frame.

        Args:
            clip: (num_samples,).

        Returns:
            int64, (num_codebooks, num_frames).
        """
        padded = fit_length(
            torch.from_numpy(clip), -(-len(clip) // self.hop_length) * self.hop_length
        )
        codes: Tensor = self.model.encode(padded[None, None]).audio_codes[0]
        return codes

    @torch.inference_mode()
    def decode(self, codes: Tensor, num_samples: int, num_codebooks: int | None = None) -> Tensor:
        """Decodes one clip from its first codebooks; gives (num_samples,)."""
        audio = self.model.decode(audio_codes=codes[None, :num_codebooks]).audio_values[0]
        return fit_length(audio, num_samples)


def find_lag(decoded: Tensor, original: Tensor) -> int:
    """Finds by how many samples decoded sound comes late (negative: early), from the correlation.

    Args:
        decoded: (num_samples,).
        original: (num_samples,).
    """
    middle = original[MAX_LAG:-MAX_LAG]
    windows = decoded.unfold(0, len(middle), 1)
    return int((windows @ middle).argmax()) - MAX_LAG


def align(decoded: Tensor, original: Tensor, lag: int) -> tuple[Tensor, Tensor]:
    """Cuts both to the span that they share once the lag is taken out.

    Args:
        decoded: (..., num_samples).
        original: (num_samples,).
        lag: Samples by which `decoded` comes late.
    """
    if lag >= 0:
        return decoded[..., lag:], original[: len(original) - lag]
    return decoded[..., :lag], original[-lag:]


def load_clips(folder: Path, sampling_rate: int, excerpt_seconds: float | None) -> list[Waveform]:
    """Loads all WAV files below a folder, whole or cut into excerpts."""
    clips: list[Waveform] = []
    for path in sorted(folder.rglob("*.wav")):
        audio = load_audio(path, sampling_rate)
        if excerpt_seconds is None:
            clips.append(audio)
        else:
            step = int(excerpt_seconds * sampling_rate)
            clips += [audio[start : start + step] for start in range(0, len(audio), step)]
    return [clip for clip in clips if len(clip)]


class Scorer:
    """Scores clips at several numbers of codebooks and counts the codes that they use."""

    def __init__(self, codec: Codec, settings: Settings, lag: int) -> None:
        """Prepares the mel distance.

        Args:
            codec: The codec.
            settings: The recipe.
            lag: Samples by which decoded sound comes late, from `find_lag`.
        """
        losses, self.evaluation = settings.losses, settings.evaluation
        self.mel = MelDistance(codec.sampling_rate, losses.mel_windows, losses.mel_bands)
        self.codec, self.lag = codec, lag
        self.usage = torch.zeros(
            codec.num_codebooks, settings.model.codebook_size, dtype=torch.int64
        )

    def score(self, clips: list[Waveform]) -> Scores:
        """Encodes all clips, counts their codes and scores those that are long enough.

        Clips are independent, so each thread takes clips of its own: threads within an operation
        would wait for each other on a busy machine.
        """
        counts = self.evaluation.codebook_counts
        scores = Scores({n: [] for n in counts}, {n: [] for n in counts})
        with ThreadPoolExecutor(self.evaluation.threads) as pool:
            for codes, ratios, distances in pool.map(self._score_one, clips):
                for row, indices in zip(self.usage, codes, strict=True):
                    row += torch.bincount(indices, minlength=len(row))
                for n, ratio, distance in zip(counts, ratios, distances, strict=False):
                    scores.si_sdr[n].append(ratio)
                    scores.mel_distance[n].append(distance)
        return scores

    @torch.inference_mode()
    def _score_one(self, clip: Waveform) -> tuple[Tensor, list[float], list[float]]:
        """Gives codes, SI-SDR and mel distance by number of codebooks; no scores if too short."""
        torch.set_num_threads(1)
        codes = self.codec.encode(clip)
        # Digital silence has no signal-to-distortion ratio.
        if len(clip) < self.evaluation.minimum_seconds * self.codec.sampling_rate or not clip.any():
            return codes, [], []
        decoded = [self.codec.decode(codes, len(clip), n) for n in self.evaluation.codebook_counts]
        estimate, original = align(torch.stack(decoded), torch.from_numpy(clip), self.lag)
        ratios = si_sdr(estimate, original[None]).tolist()
        return codes, ratios, self.mel(estimate, original[None]).tolist()


def measure_speed(codec: Codec, folder: Path, threads: int) -> dict[str, dict[str, float]]:
    """Times the encoding of rows of 2 s by plain `DacModel`, one by one, and by `DacTokenizer`.

    Returns:
        By name: seconds of sound per second of the clock with all threads, and per second of one
        core's work with one thread, which other programs on the machine hardly change.
    """
    num_samples = int(SPEED_ROW_SECONDS * codec.sampling_rate)
    rows = np.random.default_rng(0).standard_normal((SPEED_ROWS, num_samples)) * 0.1
    clips = [row.astype(np.float32) for row in rows]
    tokenizer = DacTokenizer.from_pretrained(str(folder), device="cpu")

    def encode_plainly() -> None:
        for clip in clips:
            codec.encode(clip)

    def encode_packed() -> None:
        tokenizer.encode(clips, sampling_rate=codec.sampling_rate)

    speeds = {}
    for name, encode in (("DacModel", encode_plainly), ("DacTokenizer", encode_packed)):
        torch.set_num_threads(1)
        work = _best_seconds(encode, time.process_time)
        torch.set_num_threads(threads)
        clock = _best_seconds(encode, time.perf_counter)
        seconds = SPEED_ROW_SECONDS * SPEED_ROWS
        speeds[name] = {"clock": seconds / clock, "core": seconds / work}
    return speeds


def _best_seconds(action: Callable[[], None], timer: Callable[[], float]) -> float:
    """Gives the best of three after a warm-up: other programs only ever make it slower."""
    action()
    seconds = []
    for _ in range(3):
        started = timer()
        action()
        seconds.append(timer() - started)
    return min(seconds)


def evaluate(folder: Path, settings: Settings) -> dict[str, Any]:
    """Scores the codec in a folder on all held-out sound.

    Returns:
        The report: scores by kind of sound, usage per codebook, speed, hardware and versions.
    """
    codec = Codec(folder)
    evaluation = settings.evaluation
    sets = {
        "speech": (evaluation.speech_folder, None),
        "music": (evaluation.music_folder, evaluation.music_excerpt_seconds),
    }
    sounds = {
        name: load_clips(Path(place), codec.sampling_rate, excerpt_seconds)
        for name, (place, excerpt_seconds) in sets.items()
    }
    longest = max(sounds["speech"], key=len)
    lag = find_lag(codec.decode(codec.encode(longest), len(longest)), torch.from_numpy(longest))
    scorer = Scorer(codec, settings, lag)
    report: dict[str, Any] = {"held_out": {}, "lag_samples": lag}
    for name, clips in sounds.items():
        scores = scorer.score(clips)
        report["held_out"][name] = {
            "folder": Path(sets[name][0]).name,
            "minutes": sum(map(len, clips)) / codec.sampling_rate / 60,
            "clips_scored": len(scores.si_sdr[evaluation.codebook_counts[0]]),
            **scores.means(),
        }
        logger.info("scored %s", name)
    usage = scorer.usage
    report["entries_used"] = [int((row > 0).sum()) for row in usage]
    report["perplexity"] = [round(_perplexity(row), 1) for row in usage]
    report["codebook_size"] = settings.model.codebook_size
    report["encode_times_real_time"] = measure_speed(codec, folder, evaluation.threads)
    report["codec"] = describe_codec(codec)
    report["environment"] = describe_environment()
    return report


def _perplexity(counts: Tensor) -> float:
    shares = counts.double() / counts.sum()
    return float(torch.exp(-(shares * (shares + 1e-12).log()).sum()))


def describe_codec(codec: Codec) -> dict[str, Any]:
    """Says what was scored."""
    return {
        "num_parameters": sum(parameter.numel() for parameter in codec.model.parameters()),
        "sampling_rate": codec.sampling_rate,
        "hop_length": codec.hop_length,
        "num_codebooks": codec.num_codebooks,
    }


def describe_environment() -> dict[str, Any]:
    """Says on what it was scored."""
    return {
        "cpu": _cpu_name(),
        "cpu_cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "soundfile": soundfile.__version__,
    }


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor()


def format_table(report: dict[str, Any]) -> str:
    """Writes the report's figures as Markdown tables."""
    lines = [
        "| codebooks | kbit/s | speech SI-SDR (dB) | speech mel | music SI-SDR (dB) | music mel |"
    ]
    lines.append("| ---: | ---: | ---: | ---: | ---: | ---: |")
    speech, music = report["held_out"]["speech"], report["held_out"]["music"]
    frame_rate = report["codec"]["sampling_rate"] / report["codec"]["hop_length"]
    bits = int(np.log2(report["codebook_size"]))
    for n in speech["si_sdr_db"]:
        cells = [
            f"{sounds[kind][n]:.2f}" if kind == "si_sdr_db" else f"{sounds[kind][n]:.3f}"
            for sounds in (speech, music)
            for kind in ("si_sdr_db", "mel_distance")
        ]
        lines.append(
            f"| {n} | {int(n) * bits * frame_rate / 1000:.1f} | " + " | ".join(cells) + " |"
        )
    used = [f"{100 * count / report['codebook_size']:.0f}" for count in report["entries_used"]]
    lines += ["", f"Entries used per codebook (% of {report['codebook_size']}): {', '.join(used)}."]
    threads = report["environment"]["threads"]
    for name, speed in report["encode_times_real_time"].items():
        lines.append(
            f"Encoding by {name}: {speed['clock']:.0f} times real time on {threads} threads, "
            f"{speed['core']:.0f} per core's second."
        )
    words = ", ".join(f"{name} {figure}" for name, figure in report.get("words", {}).items())
    lines.append(f"Words recognised: {words or 'not scored, no pocketsphinx'}.")
    return "\n".join(lines)
