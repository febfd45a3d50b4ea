"""Training in two stages: a plain autoencoder, then everything with its codebooks."""

from __future__ import annotations

import logging
import math
import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DacModel

from .data import BatchSource
from .linear_start import start_linear
from .losses import MelDistance, negative_snr
from .model import (
    Apply,
    build_model,
    draw_codebook_counts,
    fit_length,
    noisy,
    quantize,
    remove_weight_norm,
)
from .quantizer import Revival, start_quantizers
from .settings import Settings

logger = logging.getLogger(__name__)

#: Batches from which the linear start is fitted.
LINEAR_BATCHES = 10
#: Batches whose latents start the codebooks.
START_BATCHES = 60


@dataclass(frozen=True, slots=True)
class StepResult:
    """Losses of one step, and what the revival of entries needs (None before the codebooks)."""

    snr: Tensor
    mel: Tensor
    codes: Tensor | None = None
    projected: Tensor | None = None


class Trainer:
    """Holds the model, its moving average and the optimiser, and runs the steps."""

    def __init__(self, settings: Settings, work_folder: Path, resume: bool = True) -> None:
        """Builds everything from the seed, or takes up the checkpoint.

        Args:
            settings: The recipe.
            work_folder: Holds `data/`; receives `checkpoint.pt`.
            resume: Take up the checkpoint, if there is one.
        """
        torch.manual_seed(settings.seed)
        training = settings.training
        self.settings, self.training = settings, training
        self.checkpoint_path = work_folder / "checkpoint.pt"
        self.model = build_model(settings.model).train()
        self.batches = self._open_batches(work_folder / "data")
        resuming = resume and self.checkpoint_path.exists()
        if not resuming:
            clips = [self.batches.batch(-1 - index) for index in range(LINEAR_BATCHES)]
            start_linear(self.model, torch.cat(clips))
        if training.weight_norm:
            add_weight_norm(self.model)
        self.parameters = list(self.model.parameters())
        self.mel = MelDistance(
            settings.model.sampling_rate, settings.losses.mel_windows, settings.losses.mel_bands
        )
        self.optimizer = self._make_optimizer()
        self.ema = {name: p.detach().clone() for name, p in self.model.named_parameters()}
        self.revival = Revival(settings.model.n_codebooks, settings.model.codebook_size)
        self.encode: Apply = self.model.encoder
        self.decode: Apply = self.model.decoder
        if training.compile:
            self.encode = torch.compile(self.model.encoder, dynamic=False)
            self.decode = torch.compile(self.model.decoder, dynamic=False)
        self.step = 0
        self._cold = True
        # Workers take half a batch each on one thread: threads that wait for each other within
        # every operation would stand still whenever another program has one of the cores.
        torch.set_num_threads(1)
        self.pool = ThreadPoolExecutor(training.threads)
        if resuming:
            self._resume()

    def _open_batches(self, folder: Path) -> BatchSource:
        training = self.training
        samples = training.crop_frames * math.prod(self.settings.model.downsampling_ratios)
        return BatchSource(
            folder, self.settings.data.shares, training.batch_size, samples, self.settings.seed
        )

    @property
    def num_steps(self) -> int:
        """Steps of both stages."""
        return self.training.autoencoder_steps + self.training.joint_steps

    def _make_optimizer(self) -> torch.optim.AdamW:
        codebooks = [q.codebook.weight for q in self.model.quantizer.quantizers]
        known = {id(weight) for weight in codebooks}
        rest = [p for p in self.model.parameters() if id(p) not in known]
        return torch.optim.AdamW(
            [
                {"params": rest, "factor": 1.0},
                {"params": codebooks, "factor": self.training.codebook_rate_factor},
            ],
            betas=(0.8, 0.99),
            weight_decay=0.0,
        )

    def run(self, deadline: float | None = None) -> DacModel:
        """Trains to the end (or to the deadline) and returns the averaged model.

        Args:
            deadline: `time.time()` at which to stop and take the model as it is.
        """
        started, start_step = time.time(), self.step
        while self.step < self.num_steps:
            if self.step == self.training.autoencoder_steps:
                self._start_codebooks()
            result = self._train_step()
            self.step += 1
            if self.step % self.training.log_interval == 0:
                rate = (self.step - start_step) / (time.time() - started)
                self._log(result, rate)
            if self.step % self.training.checkpoint_interval == 0:
                self.save()
            if deadline is not None and time.time() > deadline:
                logger.warning("deadline reached at step %d of %d", self.step, self.num_steps)
                break
        self.save()
        return self.averaged_model()

    def _learning_rate(self) -> float:
        """Linear warm-up, then half a cosine down to 2 % of the peak."""
        warmup = min(1.0, (self.step + 1) / self.training.warmup_steps)
        cosine = 0.5 * (1 + math.cos(math.pi * self.step / self.num_steps))
        return self.training.learning_rate * warmup * (0.02 + 0.98 * cosine)

    def _train_step(self) -> StepResult:
        rate = self._learning_rate()
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["factor"]
        joint = self.step >= self.training.autoencoder_steps
        parts = self.batches.batch(self.step).chunk(self.training.threads)
        # The first part goes alone on a cold start: compilers do not like company.
        cold = self._cold
        self._cold = False
        first = [self._work(parts[0], 0, joint)] if cold else []
        jobs = [
            self.pool.submit(self._work, part, index, joint)
            for index, part in enumerate(parts)
            if index >= len(first)
        ]
        worked = first + [job.result() for job in jobs]
        results = [result for result, _ in worked]
        for parameter, *gradients in zip(
            self.parameters, *(gradients for _, gradients in worked), strict=True
        ):
            known = [gradient for gradient in gradients if gradient is not None]
            parameter.grad = torch.stack(known).sum(0) / len(parts) if known else None
        nn.utils.clip_grad_norm_(self.parameters, self.training.gradient_clip)
        self.optimizer.step()
        self._update_average()
        result = join_results(results)
        if result.codes is not None and result.projected is not None:
            self._revive(result.codes, result.projected)
        return result

    def _work(
        self, audio: Tensor, index: int, joint: bool
    ) -> tuple[StepResult, tuple[Tensor | None, ...]]:
        """Gives losses and gradients of one part of a batch; runs in a thread of its own."""
        torch.set_num_threads(1)
        generator = torch.Generator().manual_seed(hash((self.settings.seed, self.step, index)))
        with torch.enable_grad():
            total, result = self._losses(audio, joint, generator)
            gradients = torch.autograd.grad(total, self.parameters, allow_unused=True)
        return result, gradients

    def _losses(
        self, audio: Tensor, joint: bool, generator: torch.Generator
    ) -> tuple[Tensor, StepResult]:
        """Gives the total loss and its parts for clips, (batch, 1, samples)."""
        weights = self.settings.losses
        with self._autocast():
            latents = self.encode(audio)
        # The codebooks work in float32: cosines rounded to bfloat16 pick neighbours at random.
        latents = latents.float()
        quantized = None
        if joint:
            counts = draw_codebook_counts(
                len(audio),
                self.settings.model.n_codebooks,
                self.training.quantizer_dropout,
                generator,
            )
            quantized = quantize(self.model, latents, counts)
            latents = quantized.latents
        else:
            latents = noisy(latents, self.training.latent_noise, generator)
        with self._autocast():
            decoded = self.decode(latents)
        target = audio[:, 0]
        estimate = fit_length(decoded[:, 0].float(), target.shape[-1])
        snr = negative_snr(estimate, target)
        mel = self.mel(estimate, target).mean()
        total = weights.snr * snr + weights.mel * mel
        if quantized is None:
            return total, StepResult(snr.detach(), mel.detach())
        total = total + weights.commitment * quantized.commitment_loss
        total = total + weights.codebook * quantized.codebook_loss
        return total, StepResult(snr.detach(), mel.detach(), quantized.codes, quantized.projected)

    def _autocast(self) -> torch.autocast:
        enabled = self.training.precision == "bfloat16"
        return torch.autocast("cpu", torch.bfloat16, enabled=enabled)

    @torch.no_grad()
    def _update_average(self) -> None:
        # A young average follows closely, or it would remember the initial weights.
        decay = min(self.training.ema_decay, (1 + self.step) / (10 + self.step))
        averages = list(self.ema.values())
        torch._foreach_lerp_(averages, [p.data for p in self.model.parameters()], 1 - decay)

    def _revive(self, codes: Tensor, projected: Tensor) -> None:
        self.revival.count(codes)
        training = self.training
        joint_step = self.step - training.autoencoder_steps
        if joint_step == 0 or joint_step % training.revival_interval:
            return
        if joint_step > training.revival_until * training.joint_steps:
            return
        moved = self.revival.revive(self.model, projected, self.optimizer)
        for quantizer, name in zip(
            self.model.quantizer.quantizers, self._codebook_names(), strict=True
        ):
            if moved[int(name.split(".")[2])]:
                # Averages of an entry's old and new place would be no entry at all.
                self.ema[name].copy_(quantizer.codebook.weight.detach())
        if joint_step % (10 * training.revival_interval) == 0:
            logger.info("step %d: entries revived %s", self.step, moved)

    def _codebook_names(self) -> list[str]:
        count = self.settings.model.n_codebooks
        return [f"quantizer.quantizers.{index}.codebook.weight" for index in range(count)]

    @torch.no_grad()
    def _start_codebooks(self) -> None:
        """Starts every quantizer from what the encoder says about `START_BATCHES` batches."""
        latents = []
        for index in range(START_BATCHES):
            batch = self.batches.batch(-1 - index)
            with torch.autocast(
                "cpu", torch.bfloat16, enabled=self.training.precision != "float32"
            ):
                encoded = self.encode(batch).float()
            latents.append(encoded.transpose(1, 2).reshape(-1, encoded.shape[1]))
        points = torch.cat(latents)
        scale = float(points.std())
        self._scale_latents(1 / scale)
        left = start_quantizers(self.model, points / scale)
        logger.info("codebooks started; variance left %s", [round(share, 3) for share in left])
        for name, parameter in self.model.named_parameters():
            if name.startswith(("quantizer.", "encoder.conv2.", "decoder.conv1.")):
                self.ema[name].copy_(parameter)

    def _scale_latents(self, gain: float) -> None:
        """Multiplies the latents by a gain and lets the decoder undo it: entries of size 1."""
        last, first = self.model.encoder.conv2, self.model.decoder.conv1
        last.bias.mul_(gain)
        if self.training.weight_norm:
            last.parametrizations.weight.original0.mul_(gain)
            first.parametrizations.weight.original0.div_(gain)
        else:
            last.weight.mul_(gain)
            first.weight.div_(gain)

    def _log(self, result: StepResult, rate: float) -> None:
        logger.info(
            "step %d/%d: snr %.2f dB, mel %.3f, %.2f steps/s",
            self.step,
            self.num_steps,
            -result.snr.item(),
            result.mel.item(),
            rate,
        )

    def averaged_model(self) -> DacModel:
        """Gives a plain float32 model (no weight norm) with the averaged weights."""
        model = build_model(self.settings.model)
        if self.training.weight_norm:
            add_weight_norm(model)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_(self.ema[name])
        remove_weight_norm(model)
        return model.eval()

    def save(self) -> None:
        """Writes the checkpoint; a kill in the middle leaves the one before it."""
        state: dict[str, Any] = {
            "step": self.step,
            "model": self.model.state_dict(),
            "ema": self.ema,
            "optimizer": self.optimizer.state_dict(),
            "counts": self.revival.counts,
            "random": torch.get_rng_state(),
        }
        partial = self.checkpoint_path.with_suffix(".partial")
        torch.save(state, partial)
        os.replace(partial, self.checkpoint_path)

    def _resume(self) -> None:
        state = torch.load(self.checkpoint_path, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.ema = state["ema"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.revival.counts = state["counts"]
        self.step = state["step"]
        torch.set_rng_state(state["random"])
        logger.info("resumed at step %d", self.step)


def join_results(results: list[StepResult]) -> StepResult:
    """Puts the parts of a batch together again."""
    snr = torch.stack([result.snr for result in results]).mean()
    mel = torch.stack([result.mel for result in results]).mean()
    codes = [result.codes for result in results if result.codes is not None]
    projected = [result.projected for result in results if result.projected is not None]
    if not codes:
        return StepResult(snr, mel)
    return StepResult(snr, mel, torch.cat(codes), torch.cat(projected, 1))


def add_weight_norm(model: DacModel) -> None:
    """Puts the convolutions of encoder and decoder under weight norm.

    The codebooks' projections stay plain: they are set from the data by least squares.
    """
    for part in (model.encoder, model.decoder):
        for module in part.modules():
            if isinstance(module, nn.Conv1d | nn.ConvTranspose1d):
                nn.utils.parametrizations.weight_norm(module)
