"""Decoding beside what a user could write instead, in one process and one run.

    OMP_NUM_THREADS=2 python -m benchmarks.decode --shape 16khz --clips prompts --audio-seconds 60

A: transformers' `DacModel.decode`, one clip at a time. B: the same on batches of 16 in file order,
codes padded with zeros. C: B with the clips sorted by length first. D: `DacTokenizer.decode`.
Weights are random at the published shape, codes are random. The ways take turns, `--repeats` times,
and the best time of each counts, so that a machine shared with others is fair to all.
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
from dac_tokenize.codec.geometry import RESIDUAL_DILATIONS, RESIDUAL_KERNEL_SIZE
from dac_tokenize.codec.precision import float32_rule, precision_dtype
from tests.codec.models import PUBLISHED_SHAPES, random_model

Sounds = list[np.ndarray]


def decoder_operations(model: Any) -> float:
    """Return the floating-point operations of the decoder for one second of audio."""
    config = model.config
    rate = config.sampling_rate / math.prod(config.downsampling_ratios)
    width = config.decoder_hidden_size
    total = rate * 2 * 7 * config.hidden_size * width
    for stride in config.upsampling_ratios:
        rate *= stride
        # A kernel of twice the stride: every position that comes out sees two that went in.
        total += rate * 2 * 2 * width * (width // 2)
        width //= 2
        unit = RESIDUAL_KERNEL_SIZE * width**2 + width**2
        total += rate * 2 * unit * len(RESIDUAL_DILATIONS)
    return float(total + rate * 2 * 7 * width)


class PlainDecoder:
    """transformers' model, used as a user would."""

    def __init__(self, model: Any, device: torch.device, precision: str) -> None:
        self.model = model.to(device, precision_dtype(precision, device))
        self.precision = precision
        self.hop_length = math.prod(model.config.downsampling_ratios)

    @torch.inference_mode()
    def decode(self, clips: list[np.ndarray]) -> Sounds:
        """Decode clips as one padded batch; cut each sound to its clip's length."""
        frames = [clip.shape[1] for clip in clips]
        batch = np.zeros((len(clips), len(clips[0]), max(frames)), np.int64)
        for row, clip in zip(batch, clips, strict=True):
            row[:, : clip.shape[1]] = clip
        with float32_rule(self.precision):
            codes = torch.from_numpy(batch).to(self.model.device)
            sound = self.model.decode(audio_codes=codes).audio_values.float().cpu().numpy()
        missing = max(frames) * self.hop_length - sound.shape[-1]
        return [
            row.reshape(-1)[: n * self.hop_length - missing]
            for row, n in zip(sound, frames, strict=True)
        ]


def largest_difference(sounds: Sounds, reference: Sounds) -> float:
    """Return the largest difference of two samples, in full scale."""
    pairs = zip(sounds, reference, strict=True)
    return float(max(np.abs(one - other).max() for one, other in pairs))


def random_codes(model: Any, clip_seconds: list[float]) -> list[np.ndarray]:
    """Return codes of clips: int64, shape (num_codebooks, num_frames)."""
    config, generator = model.config, np.random.default_rng(0)
    frame_rate = config.sampling_rate / math.prod(config.downsampling_ratios)
    return [
        generator.integers(
            config.codebook_size, size=(config.n_codebooks, math.ceil(s * frame_rate))
        )
        for s in clip_seconds
    ]


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Run all ways and return their figures."""
    device = torch.device(options.device)
    # The published decoders are 24 times as wide as their encoders' first stage.
    wide = {"decoder_hidden_size": 24 * options.width}
    model = random_model(width=options.width, **wide, **PUBLISHED_SHAPES[options.shape])
    draw = {"prompts": prompt_seconds, "songs": song_seconds}[options.clips]
    clips = random_codes(model, draw(options.audio_seconds))
    plain = PlainDecoder(model, device, options.precision)
    total = sum(c.shape[1] for c in clips) * plain.hop_length / model.config.sampling_rate
    ours = DacTokenizer.from_pretrained(model, device=device, precision=options.precision)
    best, sounds, peak = take_turns(plain.decode, ours.decode, clips, device, options.repeats)
    operations = decoder_operations(model)
    with float32_rule(options.precision):
        product = matmul_rate(options.device, precision_dtype(options.precision, device))
    return {
        "options": vars(options),
        "audio_seconds": total,
        "clips": len(clips),
        "matmul_flops": product,
        "decoder_flop_per_audio_second": operations,
        "ways": {
            name: {
                "hours_per_hour": total / best[name],
                "share_of_matmul_rate": operations * total / best[name] / product,
                "peak_bytes": peak[name],
                "largest_difference_from_A": largest_difference(
                    sounds[name], sounds["A one by one"]
                ),
            }
            for name in best
        },
    }


def show(measured: dict[str, Any]) -> None:
    """Print the table."""
    options, ways = measured["options"], measured["ways"]
    print(
        f"{measured['clips']} clips, {measured['audio_seconds']:.0f} s; {options['shape']} at "
        f"width {options['width']}, {options['precision']} on {options['device']}; matrix product "
        f"{measured['matmul_flops'] / 1e9:.0f} GFLOP/s\n"
    )
    print_table(
        [*COMPARED_COLUMNS, "largest difference"],
        [
            [*compared_cells(name, ways), way["largest_difference_from_A"]]
            for name, way in ways.items()
        ],
    )


def main(given: list[str] | None = None) -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=list(PUBLISHED_SHAPES), default="16khz")
    parser.add_argument("--width", type=int, default=64, help="of the encoder's first stage")
    parser.add_argument("--clips", choices=["prompts", "songs"], default="prompts")
    parser.add_argument("--audio-seconds", type=float, default=60.0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--repeats", type=int, default=2)
    options = parser.parse_args(given)
    measured = measure(options)
    show(measured)
    write_json(
        f"decode-{options.device}-{options.shape}-{options.clips}-{options.precision}", measured
    )


if __name__ == "__main__":
    main()
