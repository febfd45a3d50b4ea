"""Initial weights from the data: a linear codec, fitted stage by stage without any gradient.

Steps on a CPU are few, and most of them would go into finding filters that keep the phase. Closed
forms find such filters in seconds: every strided convolution of the encoder starts as the principal
components of its tapered windows; every convolution on the decoder's main path starts as the least
squares way back to the signal at the same place of the encoder. Snakes are nearly straight at
first and residual units nearly silent, so what is fitted holds; training bends it from there.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import DacModel

#: Snakes on the main path start nearly straight; those within residual units keep theirs of 1.
MAIN_ALPHA = 0.02
#: Gain of the last convolution of residual units, relative to unit variance.
RESIDUAL_GAIN = 0.02
#: Deviation of the signals between the stages.
STAGE_DEVIATION = 0.5
#: Ridge of the least squares, relative to the mean power of the features.
RIDGE = 1e-4
#: Rows on which one fit is made.
MAX_ROWS = 20_000


@torch.no_grad()
def start_linear(model: DacModel, audio: Tensor) -> None:
    """Sets encoder and decoder from training sound.

    Args:
        model: The codec, without weight norm; changed in place.
        audio: (num_clips, 1, num_samples), a few minutes in all.
    """
    for name, module in model.named_modules():
        if name.endswith("snake1") and "res_unit" not in name:
            module.alpha.fill_(MAIN_ALPHA)
        if "res_unit" in name and name.endswith("conv2"):
            module.weight.mul_(RESIDUAL_GAIN / module.weight.std() / module.in_channels**0.5)
    signals, latents = _start_encoder(model.encoder, audio)
    _start_decoder(model.decoder, latents, signals, audio)


def _start_encoder(encoder: nn.Module, audio: Tensor) -> tuple[list[Tensor], Tensor]:
    """Fits the encoder; gives the signal after every strided stage, first to last, and latents."""
    _fit_analysis(encoder.conv1, audio, torch.ones(encoder.conv1.kernel_size[0]))
    signal = encoder.conv1(audio)
    signals = [signal]
    for block in encoder.block:
        signal = block.res_unit3(block.res_unit2(block.res_unit1(signal)))
        signal = block.snake1(signal)
        length = block.conv1.kernel_size[0]
        taper = torch.sin(torch.pi * (torch.arange(length) + 0.5) / length)
        _fit_analysis(block.conv1, signal, taper)
        signal = block.conv1(signal)
        signals.append(signal)
    signal = encoder.snake1(signal)
    _fit_analysis(encoder.conv2, signal, torch.tensor([0.0, 1.0, 0.0]))
    return signals, encoder.conv2(signal)


def _fit_analysis(conv: nn.Conv1d, signal: Tensor, taper: Tensor) -> None:
    """Makes the filters the principal components of tapered windows of the signal.

    Plain windows overlap by half, and their components would tell everything twice.
    """
    windows = _sample(_windows(signal, conv)) * taper.repeat(conv.in_channels)
    mean = windows.mean(0)
    covariance = torch.cov(windows.T).double()
    _, directions = torch.linalg.eigh(covariance)
    directions = directions.flip(1).T[: conv.out_channels].float()
    filters = torch.zeros(conv.out_channels, windows.shape[1])
    filters[: len(directions)] = directions
    if len(directions) < conv.out_channels:
        # More filters than dimensions, as in the first convolution: mixtures fill the rest.
        spare = torch.randn(conv.out_channels - len(directions), len(directions))
        filters[len(directions) :] = spare @ directions / len(directions) ** 0.5
    scale = STAGE_DEVIATION / ((windows - mean) @ filters.T).std().clamp_min(1e-8)
    conv.weight.copy_((scale * filters * taper.repeat(conv.in_channels)).view_as(conv.weight))
    conv.bias.copy_(-scale * (filters @ mean))


def _start_decoder(
    decoder: nn.Module, latents: Tensor, signals: list[Tensor], audio: Tensor
) -> None:
    """Fits the decoder's main path to give the encoder's signals, in reverse order."""
    *earlier, last = signals
    _fit_synthesis(decoder.conv1, latents, last)
    signal = decoder.conv1(latents)
    for block, target in zip(decoder.block, reversed(earlier), strict=True):
        signal = block.snake1(signal)
        _fit_upsampling(block.conv_t1, signal, target)
        signal = block.conv_t1(signal)
        signal = block.res_unit3(block.res_unit2(block.res_unit1(signal)))
    _fit_synthesis(decoder.conv2, decoder.snake1(signal), audio)


def _fit_synthesis(conv: nn.Conv1d, signal: Tensor, target: Tensor) -> None:
    """Least squares for a convolution of stride 1; spare output channels keep small weights."""
    length = min(signal.shape[-1], target.shape[-1])
    features = _windows(signal[..., :length], conv)
    solution, bias = _least_squares(features, _rows(target[..., :length]))
    num_fitted = target.shape[1]
    conv.weight.mul_(0.1)
    conv.bias.zero_()
    conv.weight[:num_fitted] = solution.T.view(num_fitted, *conv.weight.shape[1:])
    conv.bias[:num_fitted] = bias


def _fit_upsampling(conv: nn.ConvTranspose1d, signal: Tensor, target: Tensor) -> None:
    """Least squares for a transposed convolution: one fit per phase, of two taps each."""
    stride, padding = conv.stride[0], conv.padding[0]
    num_fitted = target.shape[1]
    conv.weight.mul_(0.1)
    conv.bias.zero_()
    biases = []
    for phase in range(stride):
        # Output n = stride * t + phase - padding sees frame t by tap `phase`, and frame t - 1 by
        # tap `phase + stride`.
        now, before = signal[..., 1:], signal[..., :-1]
        index = stride * torch.arange(1, signal.shape[-1]) + phase - padding
        inside = (index >= 0) & (index < target.shape[-1])
        features = _rows(torch.cat([now, before], 1)[..., inside])
        solution, bias = _least_squares(features, _rows(target[..., index[inside]]))
        conv.weight[:, :num_fitted, phase] = solution[: conv.in_channels]
        conv.weight[:, :num_fitted, phase + stride] = solution[conv.in_channels :]
        biases.append(bias)
    conv.bias[:num_fitted] = torch.stack(biases).mean(0)


def _least_squares(features: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Solves for weights, (features, targets), and bias, (targets,), with a small ridge."""
    if len(features) > MAX_ROWS:
        rows = torch.randperm(len(features))[:MAX_ROWS]
        features, targets = features[rows], targets[rows]
    mean, wanted = features.mean(0), targets.mean(0)
    centred = (features - mean).double()
    gram = centred.T @ centred
    gram.diagonal().add_(RIDGE * gram.diagonal().mean())
    solution = torch.linalg.solve(gram, centred.T @ (targets - wanted).double()).float()
    return solution, wanted - mean @ solution


def _windows(signal: Tensor, conv: nn.Conv1d) -> Tensor:
    """Gives what each output of a convolution sees: (outputs of all clips, channels x taps)."""
    padded = functional.pad(signal, (conv.padding[0], conv.padding[0]))
    windows = padded.unfold(2, conv.kernel_size[0], conv.stride[0])
    return windows.transpose(1, 2).flatten(2).flatten(0, 1)


def _rows(signal: Tensor) -> Tensor:
    """Turns (clips, channels, time) into (clips x time, channels)."""
    return signal.transpose(1, 2).flatten(0, 1)


def _sample(rows: Tensor) -> Tensor:
    if len(rows) <= MAX_ROWS:
        return rows
    return rows[torch.randperm(len(rows))[:MAX_ROWS]]
