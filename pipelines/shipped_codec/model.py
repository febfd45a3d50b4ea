"""The codec's model: its shape, initial weights, and the two forward passes of training."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from transformers import DacConfig, DacModel

from .settings import ModelSettings

#: Gain of the last convolution of a residual unit at the start: the deep stack is near identity.
RESIDUAL_GAIN = 0.3


def build_config(settings: ModelSettings) -> DacConfig:
    """Makes the `DacConfig`; the odd names out are set from the ones that we choose."""
    return DacConfig(**dataclasses.asdict(settings))


def build_model(settings: ModelSettings) -> DacModel:
    """Makes a model whose initial weights are scaled to the width.

    The library draws every convolution with deviation 0.02, whatever its width: in a narrow model
    the signal then vanishes on its way, which is how all codebooks collapsed in a first attempt.
    """
    model = DacModel(build_config(settings))
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv1d):
            fan_in = module.in_channels * module.kernel_size[0]
            gain = RESIDUAL_GAIN if "res_unit" in name and name.endswith("conv2") else 1.0
            nn.init.normal_(module.weight, std=gain / fan_in**0.5)
        elif isinstance(module, nn.ConvTranspose1d):
            # Kernel 2s at stride s: two taps of every input channel reach one output sample.
            nn.init.normal_(module.weight, std=1.0 / (2 * module.in_channels) ** 0.5)
    return model


def remove_weight_norm(model: nn.Module) -> None:
    """Folds weight norm into plain weights.

    `DacModel.remove_weight_norm` expects the hooks of older torch versions, whereas its
    `apply_weight_norm` uses parametrisations where torch has them.
    """
    for module in model.modules():
        if parametrize.is_parametrized(module, "weight"):
            parametrize.remove_parametrizations(module, "weight")


@dataclass(frozen=True, slots=True)
class Quantized:
    """What the quantizers made of latents.

    Attributes:
        latents: Sum of the codebooks' contributions, (batch, hidden_size, frames).
        codes: int64, (batch, num_codebooks, frames).
        projected: What each codebook was given, (num_codebooks, batch, codebook_dim, frames).
        commitment_loss: Scalar.
        codebook_loss: Scalar.
    """

    latents: Tensor
    codes: Tensor
    projected: Tensor
    commitment_loss: Tensor
    codebook_loss: Tensor


def draw_codebook_counts(
    batch_size: int, num_codebooks: int, dropout: float, generator: torch.Generator
) -> Tensor:
    """Draws how many codebooks each clip of a batch uses (quantizer dropout).

    A share `dropout` of the clips gets 1 to `num_codebooks`, evenly drawn; the others get all.
    """
    counts = torch.full((batch_size,), num_codebooks)
    num_dropped = int(batch_size * dropout)
    dropped = torch.randint(1, num_codebooks + 1, (num_dropped,), generator=generator)
    counts[:num_dropped] = dropped
    return counts


def quantize(model: DacModel, latents: Tensor, counts: Tensor) -> Quantized:
    """Runs the residual quantizers as `DacResidualVectorQuantizer` does in training.

    Unlike the library's, it keeps each codebook's inputs, which the revival of entries needs, and
    leaves clips out of the losses of codebooks that they do not use.

    Args:
        model: The codec.
        latents: (batch, hidden_size, frames).
        counts: Codebooks to use of each clip, (batch,).
    """
    residual, total = latents, torch.zeros_like(latents)
    commitment = codebook = latents.new_zeros(())
    all_codes, all_projected = [], []
    for index, quantizer in enumerate(model.quantizer.quantizers):
        projected = quantizer.in_proj(residual)
        chosen, codes = quantizer.decode_latents(projected)
        used = (counts > index).to(latents.dtype)[:, None, None]
        commitment = commitment + ((projected - chosen.detach()).square() * used).mean()
        codebook = codebook + ((chosen - projected.detach()).square() * used).mean()
        # Straight through: the encoder gets the gradient of the chosen entry as its own.
        contribution = quantizer.out_proj(projected + (chosen - projected).detach())
        total = total + contribution * used
        residual = residual - contribution
        all_codes.append(codes)
        all_projected.append(projected.detach())
    return Quantized(
        total, torch.stack(all_codes, 1), torch.stack(all_projected), commitment, codebook
    )


def noisy(latents: Tensor, amount: float, generator: torch.Generator) -> Tensor:
    """Adds white noise of `amount` times the latents' deviation.

    It makes the plain autoencoder spread what it knows as a quantizer of few bits will need it:
    without noise, it hides detail in small differences that no codebook can carry.
    """
    if amount == 0:
        return latents
    return latents + amount * latents.std() * torch.randn(latents.shape, generator=generator)


Apply = Callable[[Tensor], Tensor]


def fit_length(audio: Tensor, num_samples: int) -> Tensor:
    """Trims or zero-pads the last axis: odd strides make the decoder return a little less."""
    audio = audio[..., :num_samples]
    return nn.functional.pad(audio, (0, num_samples - audio.shape[-1]))
