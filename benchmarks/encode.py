"""Encoding beside what a user could write instead, in one process and one run.

    python -m benchmarks.encode --shape 16khz --clips prompts --audio-seconds 120

A: transformers' `DacModel.encode`, one clip at a time. B: the same on zero-padded batches of 16 in
file order. C: B with the clips sorted by length first. D: `DacTokenizer`. The weights are random at
the published shape, scaled so that codes vary. The ways take turns, `--repeats` times, and the
best time of each counts, so that a machine shared with others is fair to all.
"""

import argparse
import math
from typing import Any

import numpy as np
import torch

from benchmarks.common import (
    matmul_rate,
    print_table,
    prompt_seconds,
    song_seconds,
    write_json,
)
from benchmarks.ways import COMPARED_COLUMNS, compared_cells, take_turns
from dac_tokenize import DacTokenizer
from dac_tokenize.codec.geometry import (
    RESIDUAL_DILATIONS,
    RESIDUAL_KERNEL_SIZE,
    encoder_chain,
)
from dac_tokenize.codec.precision import float32_rule, precision_dtype
from tests.codec.models import PUBLISHED_SHAPES, random_clip, random_model, tie_margin

Codes = list[np.ndarray]


def encoder_operations(model: Any) -> float:
    """Return the floating-point operations of the encoder for one second of audio."""
    config = model.config
    rate, width, total = float(config.sampling_rate), config.encoder_hidden_size, 0.0
    total += rate * 2 * 7 * width
    for stride in config.downsampling_ratios:
        unit = RESIDUAL_KERNEL_SIZE * width**2 + width**2
        total += rate * 2 * unit * len(RESIDUAL_DILATIONS)
        rate /= stride
        total += rate * 2 * (2 * stride) * width * 2 * width
        width *= 2
    return total + rate * 2 * 3 * width * config.hidden_size


class Plain:
    """transformers' model, used as a user would."""

    def __init__(self, model: Any, device: torch.device, precision: str) -> None:
        self.dtype = precision_dtype(precision, device)
        self.model = model.to(device, self.dtype)
        self.precision = precision
        self.hop_length = math.prod(model.config.downsampling_ratios)

    @torch.inference_mode()
    def encode(self, clips: list[np.ndarray]) -> Codes:
        """Encode clips as one zero-padded batch; cut each result to its clip's frames."""
        frames = [-(-len(clip) // self.hop_length) for clip in clips]
        batch = np.zeros((len(clips), 1, max(frames) * self.hop_length), np.float32)
        for row, clip in zip(batch, clips, strict=True):
            row[0, : len(clip)] = clip
        with float32_rule(self.precision):
            values = torch.from_numpy(batch).to(self.model.device, self.dtype)
            codes = self.model.encode(values).audio_codes.cpu().numpy()
        return [c[:, :n] for c, n in zip(codes, frames, strict=True)]


def different(codes: Codes, reference: Codes) -> list[int]:
    """Return how many tokens differ, for each codebook."""
    pairs = list(zip(codes, reference, strict=True))
    return [int(sum((a[k] != b[k]).sum() for a, b in pairs)) for k in range(len(reference[0]))]


def margins(model: Any, clips: list[np.ndarray], codes: Codes, reference: Codes) -> list[float]:
    """Return for each frame that differs how far apart, in float64, the two choices score."""
    hop = math.prod(model.config.downsampling_ratios)
    around = 2 * sum(encoder_chain(model.config.downsampling_ratios).context_frames)
    found = []
    for clip, ours, theirs in zip(clips, codes, reference, strict=True):
        for frame in np.flatnonzero((ours != theirs).any(axis=0)):
            first = max(0, int(frame) - around)
            excerpt = clip[first * hop : (int(frame) + around + 1) * hop]
            chosen = theirs[:, frame], ours[:, frame]
            found.append(tie_margin(model, excerpt, int(frame) - first, *chosen))
    return found


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Run all ways and return their figures."""
    device = torch.device(options.device)
    model = random_model(width=options.width, **PUBLISHED_SHAPES[options.shape])
    rate = model.config.sampling_rate
    draw = {"prompts": prompt_seconds, "songs": song_seconds}[options.clips]
    seconds = draw(options.audio_seconds)
    clips = [random_clip(round(s * rate), seed) for seed, s in enumerate(seconds)]
    total = sum(len(clip) for clip in clips) / rate
    ours = DacTokenizer.from_pretrained(model, device=device, precision=options.precision)
    plain = Plain(model, device, options.precision)
    best, codes, peak = take_turns(plain.encode, ours.encode, clips, device, options.repeats)
    apart: list[float] = []
    if options.precision == "float32":
        ours_and_theirs = codes["D dac_tokenize"], codes["A one by one"]
        apart = margins(model, clips, *ours_and_theirs)
    operations = encoder_operations(model)
    with float32_rule(options.precision):
        product = matmul_rate(options.device, plain.dtype)
    figures = {}
    for name in best:
        figures[name] = {
            "hours_per_hour": total / best[name],
            "share_of_matmul_rate": operations * total / best[name] / product,
            "peak_bytes": peak[name],
            "tokens_different_from_A": different(codes[name], codes["A one by one"]),
        }
    return {
        "options": vars(options),
        "audio_seconds": total,
        "clips": len(clips),
        "tokens": int(sum(c.size for c in codes["A one by one"])),
        "D_frames_different_from_A": len(apart),
        "largest_float64_score_margin": max(apart, default=0.0),
        "matmul_flops": product,
        "encoder_flop_per_audio_second": operations,
        "ways": figures,
    }


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", choices=list(PUBLISHED_SHAPES), default="16khz")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--clips", choices=["prompts", "songs"], default="prompts")
    parser.add_argument("--audio-seconds", type=float, default=120.0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--repeats", type=int, default=2)
    options = parser.parse_args()
    measured = measure(options)
    ways = measured["ways"]
    print(
        f"{measured['clips']} clips, {measured['audio_seconds']:.0f} s, {measured['tokens']:,} "
        f"tokens; {options.shape} at width {options.width}, {options.precision} on "
        f"{options.device}; matrix product {measured['matmul_flops'] / 1e9:.0f} GFLOP/s\n"
    )
    print_table(
        [*COMPARED_COLUMNS, "tokens differ"],
        [
            [*compared_cells(name, ways), sum(way["tokens_different_from_A"])]
            for name, way in ways.items()
        ],
    )
    if options.precision == "float32":
        print(
            f"\nD differs from A in {measured['D_frames_different_from_A']} frames; the two "
            f"choices score at most {measured['largest_float64_score_margin']:.1e} apart in float64"
        )
    name = f"encode-{options.device}-{options.shape}-{options.clips}-{options.precision}"
    write_json(name, measured)


if __name__ == "__main__":
    main()
