"""Small random DAC models whose codes vary, and plain `DacModel` as the reference."""

import copy
import functools
import math

import numpy as np
import torch
from transformers import DacConfig, DacModel

# The shapes of the three published models (16, 24 and 44.1 kHz) at a small width.
PUBLISHED_SHAPES = {
    "16khz": {"downsampling_ratios": (2, 4, 5, 8), "n_codebooks": 12, "sampling_rate": 16_000},
    "24khz": {"downsampling_ratios": (2, 4, 5, 8), "n_codebooks": 32, "sampling_rate": 24_000},
    "44khz": {"downsampling_ratios": (2, 4, 8, 8), "n_codebooks": 9, "sampling_rate": 44_100},
}
TINY_SHAPE = {
    "downsampling_ratios": (2, 4),
    "n_codebooks": 3,
    "codebook_size": 16,
    "codebook_dim": 4,
    "sampling_rate": 800,
}


def random_model(width: int = 8, seed: int = 0, **config) -> DacModel:
    """A `DacModel` whose weights are scaled so that signals survive and codes vary.

    With the library's initial weights (standard deviation 0.02) every latent is nearly the same and
    all codes are equal, so that no comparison could fail. The decoder's are smaller, so that its
    sound does not sit at the ends of the final tanh.
    """
    generator = torch.Generator().manual_seed(seed)
    model = DacModel(
        DacConfig(**{"encoder_hidden_size": width, "decoder_hidden_size": 16 * width} | config)
    ).eval()
    with torch.no_grad():
        for name, module in model.named_modules():
            gain = 0.6 if name.startswith("decoder") else 1.0
            if isinstance(module, torch.nn.Conv1d | torch.nn.ConvTranspose1d):
                fan_in = module.weight[0].numel()
                if isinstance(module, torch.nn.ConvTranspose1d):
                    fan_in = module.weight.shape[0] * 2
                scale = gain / math.sqrt(fan_in)
                module.weight.copy_(torch.randn(module.weight.shape, generator=generator) * scale)
                module.bias.copy_(torch.randn(module.bias.shape, generator=generator) * 0.1)
            elif isinstance(module, torch.nn.Embedding):
                module.weight.copy_(torch.randn(module.weight.shape, generator=generator))
            elif type(module).__name__ == "Snake1d":
                noise = torch.rand(module.alpha.shape, generator=generator)
                module.alpha.copy_(0.5 + noise)
    return model


@functools.cache
def published_model(name: str) -> DacModel:
    """One of the published shapes at width 8, random weights, the same object every time."""
    return random_model(**PUBLISHED_SHAPES[name])


@functools.cache
def tiny_model() -> DacModel:
    """A model small enough for hundreds of Hypothesis examples."""
    return random_model(**TINY_SHAPE)


@torch.inference_mode()
def reference_encode(model: DacModel, samples: np.ndarray) -> np.ndarray:
    """Codes of one clip alone and whole, by plain `DacModel`, zero-padded to a whole frame."""
    hop_length = math.prod(model.config.downsampling_ratios)
    padded = np.pad(samples, (0, -len(samples) % hop_length)).astype(np.float32)
    return model.encode(torch.from_numpy(padded)[None, None]).audio_codes[0].numpy()


@torch.inference_mode()
def tie_margin(model: DacModel, samples: np.ndarray, frame: int, one, other) -> float:
    """How far apart, in float64, the two entries score at the first codebook where codes differ.

    Scores are cosines, so that float32 cannot tell entries apart whose scores lie within some 1e-6
    of each other: which of them is chosen is then a matter of rounding, in `DacModel` too.

    Args:
        model: the codec.
        samples: the clip, shape (num_samples,).
        frame: the frame that differs.
        one: its codes, shape (num_codebooks,).
        other: its codes as somebody else found them.
    """
    precise = copy.deepcopy(model).double()
    hop_length = math.prod(model.config.downsampling_ratios)
    padded = np.pad(samples, (0, -len(samples) % hop_length)).astype(np.float64)
    residual = precise.encoder(torch.from_numpy(padded)[None, None])[:, :, frame : frame + 1]
    first = int(np.flatnonzero(np.asarray(one) != np.asarray(other))[0])
    for quantizer, code in zip(precise.quantizer.quantizers[:first], one, strict=False):
        entry = quantizer.codebook.weight[int(code)][None, :, None]
        residual = residual - quantizer.out_proj(entry)
    quantizer = precise.quantizer.quantizers[first]
    latent = torch.nn.functional.normalize(quantizer.in_proj(residual)[0, :, 0], dim=0)
    entries = torch.nn.functional.normalize(quantizer.codebook.weight, dim=1)
    scores = entries @ latent
    return float((scores[int(one[first])] - scores[int(other[first])]).abs())


@torch.inference_mode()
def reference_decode(model: DacModel, audio_codes: np.ndarray) -> np.ndarray:
    """Sound of one clip's codes by plain `DacModel`."""
    codes = torch.from_numpy(audio_codes.astype(np.int64))[None]
    return model.decode(audio_codes=codes).audio_values[0].numpy()


def random_clip(num_samples: int, seed: int) -> np.ndarray:
    """Noise whose loudness and colour wander, so that neighbouring frames differ."""
    generator = np.random.default_rng(seed)
    white = generator.standard_normal(num_samples)
    envelope = 0.02 + 0.3 * np.abs(np.sin(np.arange(num_samples) / (37.0 + seed % 97)))
    return (np.convolve(white, [0.5, 0.3, 0.2])[:num_samples] * envelope).astype(np.float32)
