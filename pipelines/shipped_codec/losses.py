"""Losses on waveforms: signal-to-noise ratio and the multi-scale mel distance of the DAC paper."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

#: Power per sample below which errors do not count: -70 dB of full scale.
SILENCE_POWER = 1e-7
#: Floor under mel magnitudes, as in the DAC paper's code.
MEL_FLOOR = 1e-5


def negative_snr(estimate: Tensor, target: Tensor) -> Tensor:
    """Error over signal in decibels, mean over the batch: the lower, the better.

    It keeps the phase right, which the mel distance does not see.

    Args:
        estimate: (batch, samples).
        target: (batch, samples).
    """
    floor = SILENCE_POWER * target.shape[-1]
    error = (estimate - target).square().sum(-1) + floor
    signal = target.square().sum(-1) + floor
    return (10 * torch.log10(error / signal)).mean()


def si_sdr(estimate: Tensor, target: Tensor) -> Tensor:
    """Scale-invariant signal-to-distortion ratio in decibels, one per row.

    Args:
        estimate: (batch, samples), aligned with the target.
        target: (batch, samples).
    """
    estimate = estimate - estimate.mean(-1, keepdim=True)
    target = target - target.mean(-1, keepdim=True)
    energy = target.square().sum(-1, keepdim=True).clamp_min(1e-10)
    projection = (estimate * target).sum(-1, keepdim=True) / energy * target
    error = (estimate - projection).square().sum(-1).clamp_min(1e-10)
    return 10 * torch.log10(projection.square().sum(-1).clamp_min(1e-10) / error)


def mel_filters(sampling_rate: int, window: int, num_bands: int) -> Tensor:
    """Triangular filters of unit area, evenly spaced on Slaney's mel scale.

    Args:
        sampling_rate: Hz.
        window: Samples of the Fourier transform.
        num_bands: Filters, from 0 Hz to half the sampling rate.

    Returns:
        float32, (num_bands, window // 2 + 1).
    """
    edges = _mel_to_hertz(
        torch.linspace(0.0, _hertz_to_mel(sampling_rate / 2), num_bands + 2, dtype=torch.float64)
    )
    bins = torch.linspace(0.0, sampling_rate / 2, window // 2 + 1, dtype=torch.float64)
    rising = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    triangles = torch.minimum(rising, falling).clamp_min(0.0)
    return (triangles * (2.0 / (edges[2:] - edges[:-2]))[:, None]).float()


def _hertz_to_mel(hertz: float) -> float:
    if hertz < 1000:
        return 3 * hertz / 200
    return 15 + 27 * math.log(hertz / 1000) / math.log(6.4)


def _mel_to_hertz(mel: Tensor) -> Tensor:
    return torch.where(mel < 15, 200 * mel / 3, 1000 * torch.exp((mel - 15) * math.log(6.4) / 27))


class MelDistance(nn.Module):
    """Mean absolute difference of log10 mel power, averaged over several window lengths."""

    def __init__(self, sampling_rate: int, windows: list[int], bands: list[int]) -> None:
        """Prepares filters and windows.

        Args:
            sampling_rate: Hz.
            windows: Samples per window, one entry per scale; hops are a quarter of it.
            bands: Mel bands, one entry per scale.
        """
        super().__init__()
        if len(windows) != len(bands):
            raise ValueError(f"One number of bands per window, got {windows = }, {bands = }.")
        self.windows = windows
        for window, num_bands in zip(windows, bands, strict=True):
            filters = mel_filters(sampling_rate, window, num_bands)
            self.register_buffer(f"filters_{window}", filters, persistent=False)
            self.register_buffer(f"window_{window}", torch.hann_window(window), persistent=False)

    def log_mel(self, audio: Tensor, window: int) -> Tensor:
        """Gives log10 of the mel power.

        Args:
            audio: (batch, samples).
            window: One of `self.windows`.

        Returns:
            (batch, bands, frames).
        """
        spectrum = torch.stft(
            audio,
            window,
            hop_length=window // 4,
            window=self.get_buffer(f"window_{window}"),
            return_complex=True,
        )
        # The square root's slope is infinite at zero; the small term keeps silence trainable.
        magnitude = (spectrum.real.square() + spectrum.imag.square() + 1e-12).sqrt()
        mel = self.get_buffer(f"filters_{window}") @ magnitude
        return 2 * torch.log10(mel.clamp_min(MEL_FLOOR))

    def forward(self, estimate: Tensor, target: Tensor) -> Tensor:
        """Gives one distance per row.

        Args:
            estimate: (batch, samples).
            target: (batch, samples).

        Returns:
            (batch,).
        """
        total = torch.zeros(estimate.shape[0])
        for window in self.windows:
            with torch.no_grad():
                wanted = self.log_mel(target, window)
            total = total + (self.log_mel(estimate, window) - wanted).abs().mean((1, 2))
        return total / len(self.windows)
