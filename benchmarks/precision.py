"""What half precision does to codes and sound: agreement with float32, quality, speed.

    OMP_NUM_THREADS=2 python -m benchmarks.precision [--codecs shipped 16khz 24khz 44khz]

Sounds are held-out recordings (Debian's `asterisk-core-sounds-en-wav`, `asterisk-moh-opsound-wav`;
those in the package where they are missing). The shipped codec is trained, so its sound is scored
too; the published shapes have random weights here, so that only their agreement tells something.
"""

import argparse
import copy
import functools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.common import print_table, timed, write_json
from dac_tokenize import DacTokenizer
from dac_tokenize.audit import metrics
from dac_tokenize.references import Reference
from dac_tokenize.waveform import read_waveform
from tests.codec.models import PUBLISHED_SHAPES, random_model

PRECISIONS = ("float32", "tf32", "bfloat16", "float16")
HELD_OUT = {
    "speech": Path("/usr/share/asterisk/sounds/en_US_f_Allison"),
    "music": Path("/usr/share/asterisk/moh"),
}
SHIPPED = Path(__file__).parent.parent / "dac_tokenize" / "sounds"
PIECE_SECONDS = 10
SCORED_SECONDS = 1.0  # shorter clips have no steady SI-SDR
Codes = list[np.ndarray]
Sounds = dict[str, list[np.ndarray]]


def read_sounds(sampling_rate: int, seconds: float) -> Sounds:
    """Return clips of speech and of music, up to 10 s each and `seconds` of either kind in all."""
    found: Sounds = {}
    for kind, folder in HELD_OUT.items():
        folder = folder if folder.exists() else SHIPPED / kind
        paths = sorted(p for p in folder.rglob("*") if p.suffix in (".wav", ".flac", ".ogg"))
        found[kind] = list(_taken(paths, sampling_rate, round(seconds * sampling_rate)))
    return found


def _taken(paths: list[Path], sampling_rate: int, left: int) -> Iterator[np.ndarray]:
    """Yield pieces of files from all over a folder, `left` samples in all."""
    generator = np.random.default_rng(0)
    size = PIECE_SECONDS * sampling_rate
    per_file = math.ceil(left / size / len(paths))
    for index in generator.permutation(len(paths)):
        path = paths[index]
        samples = read_waveform(Reference(path.name, str(path)), sampling_rate)[0]
        starts = generator.permutation(np.arange(0, len(samples), size))[:per_file]
        for piece in (samples[start : start + size] for start in starts):
            if left <= 0:
                return
            if len(piece) >= sampling_rate // 10 and piece.any():
                yield piece[:left]
                left -= len(piece)


def agreement(codes: Codes, reference: Codes) -> dict[str, Any]:
    """Return which tokens equal the reference's, and what the first that differs leads to.

    Returns:
        `per_codebook`: share of equal tokens; `all`: over all codebooks; `frames`: share of frames
        equal in all; `first_at`: share of frames whose first different token is in that codebook;
        `later_different`: of these frames' later tokens, the share that differs too (null: none).
    """
    equal = np.concatenate([a == b for a, b in zip(codes, reference, strict=True)], axis=1)
    num_codebooks = len(equal)
    first = np.where(equal.all(0), num_codebooks, equal.argmin(0))
    later: list[float | None] = []
    for k in range(num_codebooks):
        after = equal[k + 1 :, first == k]
        later.append(float(1 - after.mean()) if after.size else None)
    return {
        "tokens": int(equal.size),
        "per_codebook": [float(share) for share in equal.mean(1)],
        "all": float(equal.mean()),
        "frames": float(equal.all(0).mean()),
        "first_at": [float((first == k).mean()) for k in range(num_codebooks)],
        "later_different": later,
    }


def quality(sounds: Sounds, decoded: Sounds, sampling_rate: int) -> dict[str, dict[str, float]]:
    """Return the mean SI-SDR and log-mel distance of either kind, over clips of 1 s and more."""
    scores = {}
    for kind, clips in sounds.items():
        qualities = [
            metrics.measure(clip, sound, sampling_rate)
            for clip, sound in zip(clips, decoded[kind], strict=True)
            if len(clip) >= SCORED_SECONDS * sampling_rate
        ]
        scores[kind] = {
            "clips": float(len(qualities)),
            "si_sdr_db": float(np.mean([quality.si_sdr_db for quality in qualities])),
            "log_mel_db": float(np.mean([quality.log_mel_db for quality in qualities])),
        }
    return scores


def decoded_quality(tok: DacTokenizer, codes: Codes, sounds: Sounds) -> dict[str, Any]:
    """Return the quality of codes, decoded."""
    lengths = [len(clip) for clips in sounds.values() for clip in clips]
    back = iter(tok.decode(codes, lengths))
    decoded = {kind: [next(back) for _ in clips] for kind, clips in sounds.items()}
    return quality(sounds, decoded, tok.sampling_rate)


def tokenizers(codec: str, width: int, device: str) -> dict[str, DacTokenizer]:
    """Return a tokenizer for each precision that the device has; each has weights of its own."""
    model: Any = None
    if codec != "shipped":
        model = random_model(width=width, **PUBLISHED_SHAPES[codec])
    names = [name for name in PRECISIONS if name != "tf32" or device != "cpu"]
    return {
        name: DacTokenizer.from_pretrained(copy.deepcopy(model), device=device, precision=name)
        for name in names
    }


def measure(codec: str, options: argparse.Namespace) -> dict[str, Any]:
    """Return the figures of one codec, for each precision."""
    toks = tokenizers(codec, options.width, options.device)
    rate = toks["float32"].sampling_rate
    is_trained = codec == "shipped"
    sounds = read_sounds(rate, options.shipped_seconds if is_trained else options.random_seconds)
    clips = [clip for kind in sounds.values() for clip in kind]
    total = sum(map(len, clips)) / rate
    best: dict[str, float] = dict.fromkeys(toks, math.inf)
    codes: dict[str, Codes] = {}
    for _ in range(options.repeats):
        for name, tok in toks.items():
            elapsed, codes[name] = timed(functools.partial(tok.encode, clips))
            best[name] = min(best[name], elapsed)
    figures: dict[str, Any] = {}
    for name, tok in toks.items():
        figures[name] = {
            "times_real_time": total / best[name],
            "speed_to_float32": best["float32"] / best[name],
            "agreement": agreement(codes[name], codes["float32"]),
        }
        if is_trained:
            figures[name]["quality"] = decoded_quality(tok, codes[name], sounds)
            exact = decoded_quality(toks["float32"], codes[name], sounds)
            figures[name]["quality_decoded_in_float32"] = exact
    if "tf32" not in toks:
        figures["tf32"] = None
    return {"audio_seconds": total, "clips": len(clips), "precisions": figures}


def show(codec: str, measured: dict[str, Any]) -> None:
    """Print the tables of one codec."""
    figures = measured["precisions"]
    count = len(figures["float32"]["agreement"]["per_codebook"])
    shown = sorted({k for k in (1, 2, 4, 8, count) if k <= count})
    print(f"\n{codec}: {measured['clips']} clips, {measured['audio_seconds']:.0f} s\n")
    columns = ["precision", "times real time", "to float32", "tokens equal", "frames equal"]
    columns += [f"codebook {k}" for k in shown]
    rows = []
    for name in PRECISIONS:
        if figures[name] is None:
            rows.append([name, "not measured: needs a GPU", *[""] * (len(columns) - 2)])
            continue
        equal = figures[name]["agreement"]
        shares = [equal["all"], equal["frames"], *(equal["per_codebook"][k - 1] for k in shown)]
        speed = [figures[name]["times_real_time"], figures[name]["speed_to_float32"]]
        rows.append([name, *speed, *(f"{share:.3%}" for share in shares)])
    print_table(columns, rows)
    if "quality" in figures["float32"]:
        _show_quality(figures)
    for name in PRECISIONS:
        if figures[name] is not None and figures[name]["agreement"]["all"] < 1:
            _show_divergence(name, figures[name]["agreement"])


def _show_quality(figures: dict[str, Any]) -> None:
    print("\nDecoded, against the source\n")
    rows = []
    for name in PRECISIONS:
        if figures[name] is None:
            rows.append([name, "not measured", *[""] * 4])
            continue
        rows.append([name, name, *_scores(figures[name]["quality"])])
        if name != "float32":
            exact = _scores(figures[name]["quality_decoded_in_float32"])
            rows.append([name, "float32", *exact])
    heads = [f"{kind} {score}" for kind in HELD_OUT for score in ("SI-SDR dB", "log-mel dB")]
    print_table(["encoded in", "decoded in", *heads], rows)


def _scores(quality: dict[str, dict[str, float]]) -> list[str]:
    names = [(kind, score) for kind in HELD_OUT for score in ("si_sdr_db", "log_mel_db")]
    return [f"{quality[kind][score]:.3f}" for kind, score in names]


def _show_divergence(name: str, equal: dict[str, Any]) -> None:
    print(f"\n{name}: a frame whose first different token is in codebook k\n")
    rows = [
        [k + 1, f"{share:.3%}", "" if later is None else f"{later:.0%}"]
        for k, (share, later) in enumerate(
            zip(equal["first_at"], equal["later_different"], strict=True)
        )
    ]
    print_table(["k", "of all frames", "of its later tokens differ"], rows)


def main(given: list[str] | None = None) -> None:
    """Measure, print, write: one file for each codec."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    codecs = ["shipped", *PUBLISHED_SHAPES]
    parser.add_argument("--codecs", nargs="+", choices=codecs, default=codecs)
    parser.add_argument("--width", type=int, default=64, help="of the random codecs")
    parser.add_argument("--shipped-seconds", type=float, default=200.0, help="speech, and music")
    parser.add_argument("--random-seconds", type=float, default=15.0, help="speech, and music")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--repeats", type=int, default=2)
    options = parser.parse_args(given)
    for codec in options.codecs:
        measured = measure(codec, options)
        show(codec, measured)
        write_json(f"precision-{options.device}-{codec}", {"options": vars(options)} | measured)


if __name__ == "__main__":
    main()
