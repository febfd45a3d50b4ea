"""Batches of packed rows through the model: the one room that runs torch modules."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from dac_tokenize.codec.decoder import RowDecoder, TiledDecoder
from dac_tokenize.codec.device import DeviceEncoder, has_kernels
from dac_tokenize.codec.encoder import TiledEncoder, encode_rows
from dac_tokenize.codec.geometry import Chain, decoder_chain, encoder_chain
from dac_tokenize.codec.masks import frame_mask, level_gaps, level_masks
from dac_tokenize.codec.precision import float32_rule, precision_dtype
from dac_tokenize.codec.quantizer import ResidualQuantizer
from dac_tokenize.codec.rows import Batch, RowShape
from dac_tokenize.codec.stream import fill_rows
from dac_tokenize.codec.windows import WindowShape
from dac_tokenize.errors import UsageError

AudioCodes = npt.NDArray[np.uint16]
Samples = npt.NDArray[np.float32]

# Rows long enough that context and gaps cost little, short enough that a CPU's last cache holds
# their activations: on two cores rows of 4 s are the fastest at 16 kHz, for a codec of width 64 and
# for the shipped one of width 12 (103 times real time; 80 in rows of 16 s).
_ROW_ACTIVATION_BYTES = 16 << 20
_ROW_SECONDS_RANGE = (2.0, 4.0)
_MIN_ROW_CONTEXTS = 6
_ROWS_PER_BATCH = {"cpu": 1, "cuda": 16}
# No cache to stay in where kernels read activations once: context and gaps cost 3 % of such a row.
_KERNEL_ROW_SECONDS = 10.0
_LOOKAHEAD_ROWS = 16


class CodecEngine:
    """A codec on a device, working on batches of one shape.

    Args:
        model: a `DacModel`; its modules are moved to the device.
        num_codebooks: codebooks used.
        device: where it runs.
        precision: number format of the convolutions.
        row_seconds: length of a row; None for a choice that suits the codec.
        rows_per_batch: rows computed at once; None for a choice that suits the device.

    Raises:
        UsageError: an option is out of range.
    """

    def __init__(
        self,
        model: Any,
        num_codebooks: int,
        device: torch.device,
        precision: str,
        row_seconds: float | None,
        rows_per_batch: int | None,
    ) -> None:
        self._device = device
        self._dtype = precision_dtype(precision, device)
        self._precision = precision
        ratios = list(model.config.downsampling_ratios)
        self._encoder_chain = encoder_chain(ratios)
        self._decoder_chain = decoder_chain(ratios[::-1])
        self._hop_length = self._encoder_chain.levels[0].positions_per_frame
        frame_rate = model.config.sampling_rate / self._hop_length
        kernels = has_kernels(device, self._encoder_chain)
        encoder_seconds = decoder_seconds = row_seconds
        if encoder_seconds is None or decoder_seconds is None:
            encoder_seconds = decoder_seconds = _suitable_row_seconds(
                model.config, self._encoder_chain
            )
            if kernels:
                encoder_seconds = max(encoder_seconds, _KERNEL_ROW_SECONDS)
        self.encoder_rows = _row_shape(
            self._encoder_chain, frame_rate, device, encoder_seconds, rows_per_batch
        )
        self.decoder_rows = _row_shape(
            self._decoder_chain, frame_rate, device, decoder_seconds, rows_per_batch
        )
        self._quantizer = ResidualQuantizer(model.quantizer, num_codebooks, device)
        self._device_encoder: DeviceEncoder | None = None
        if kernels:
            # Before the weights are rounded: packing them rounds once.
            self._device_encoder = DeviceEncoder(
                model.encoder,
                self._quantizer,
                precision,
                self.encoder_rows.frames,
                frame_rate,
                device,
                rows_per_batch,
            )
            self.encoder_rows = _with_rows(self.encoder_rows, self._device_encoder.rows)
        self._tiles: tuple[TiledEncoder, TiledDecoder] | None = None
        if device.type == "cpu":
            encoder, decoder = model.encoder.to(device), model.decoder.to(device)
            self._tiles = TiledEncoder(encoder, self._dtype), TiledDecoder(decoder, self._dtype)
        else:
            self._encoder = model.encoder.to(device, self._dtype)
            self._decoder = RowDecoder(model.decoder, device, self._dtype)

    @property
    def encoder_windows(self) -> WindowShape:
        """How clips are cut for encoding."""
        return _window_shape(self._encoder_chain, self.encoder_rows, self._hop_length)

    @property
    def decoder_windows(self) -> WindowShape:
        """How codes are cut for decoding."""
        return _window_shape(self._decoder_chain, self.decoder_rows, 1)

    @property
    def batches_under_way(self) -> int:
        """How many batches are best started before the codes of the first are asked for."""
        return 1 if self._device_encoder is None else 2

    def start_batch(self, batch: Batch) -> Callable[[], list[AudioCodes]]:
        """Start to encode a batch.

        On a device with kernels this returns while the device works; elsewhere all is done then.

        Args:
            batch: windows of samples, float32 of shape (num_samples,).

        Returns:
            What waits for the codes: for each window those of its kept frames, uint16
            (num_codebooks, kept frames).
        """
        shape = self.encoder_rows
        samples = fill_rows(
            batch, shape, np.zeros((1, shape.frames * self._hop_length), np.float32)
        )
        if self._device_encoder is not None:
            pending = self._device_encoder.submit(samples[:, 0], frame_mask(batch, shape))
            return lambda: _kept(pending.result(), batch)
        codes = _kept(self._encode(batch, torch.from_numpy(samples)), batch)
        return lambda: codes

    @torch.inference_mode()
    def _encode(self, batch: Batch, samples: torch.Tensor) -> AudioCodes:
        """Return the codes of whole rows, (rows, num_codebooks, frames)."""
        with float32_rule(self._precision):
            latents = self._latents(batch, samples)
        with float32_rule("float32"):
            codes = self._quantizer.encode(latents)
        return codes.to("cpu").numpy().astype(np.uint16)

    def _latents(self, batch: Batch, samples: torch.Tensor) -> torch.Tensor:
        """Run the encoder in the way that suits the device."""
        shape, chain = self.encoder_rows, self._encoder_chain
        if self._tiles is not None:
            return self._tiles[0](samples, level_gaps(batch, chain, shape))
        masks = level_masks(batch, chain, shape, self._device, self._dtype)
        return encode_rows(self._encoder, samples.to(self._device, self._dtype), masks)

    @torch.inference_mode()
    def decode_batch(self, batch: Batch) -> list[Samples]:
        """Decode a batch.

        Args:
            batch: windows of codes, int64 of shape (num_codebooks, num_frames).

        Returns:
            For each window the samples of its kept frames, float32 (num_samples,).
        """
        shape, chain = self.decoder_rows, self._decoder_chain
        quantizer = self._quantizer
        empty = np.full((quantizer.num_codebooks, shape.frames), quantizer.codebook_size, np.int64)
        codes = torch.from_numpy(fill_rows(batch, shape, empty)).to(self._device)
        with float32_rule("float32"):
            quantized = quantizer.decode(codes)
        with float32_rule(self._precision):
            if self._tiles is not None:
                samples = self._tiles[1](quantized, level_gaps(batch, chain, shape))
            else:
                masks = level_masks(batch, chain, shape, self._device, self._dtype)
                samples = self._decoder(quantized.to(self._dtype), masks)
        rows = samples.float().to("cpu").numpy()
        level = chain.levels[-1]
        kept = []
        for placed in batch:
            window, first = placed.window, placed.start * level.positions_per_frame
            start = window.keep_start * level.positions_per_frame
            stop = window.keep_stop * level.positions_per_frame
            stop = min(stop, level.length(window.num_frames))
            kept.append(rows[placed.row, first + start : first + stop].copy())
        return kept


def _kept(rows: AudioCodes, batch: Batch) -> list[AudioCodes]:
    """Return what is kept of each window of `batch`, from the codes of whole rows."""
    return [
        rows[placed.row, :, placed.start + w.keep_start : placed.start + w.keep_stop]
        for placed in batch
        for w in (placed.window,)
    ]


def _suitable_row_seconds(config: Any, chain: Chain) -> float:
    """Return how long rows are best, for a `DacConfig` and its encoder."""
    bytes_per_second: int = 4 * config.encoder_hidden_size * config.sampling_rate
    shortest, longest = _ROW_SECONDS_RANGE
    seconds = min(max(_ROW_ACTIVATION_BYTES / bytes_per_second, shortest), longest)
    hop_length = chain.levels[0].positions_per_frame
    least = _MIN_ROW_CONTEXTS * sum(chain.context_frames) * hop_length / config.sampling_rate
    return float(max(seconds, least))


def _row_shape(
    chain: Chain,
    frame_rate: float,
    device: torch.device,
    row_seconds: float,
    rows_per_batch: int | None,
) -> RowShape:
    context = sum(chain.context_frames)
    frames = round(row_seconds * frame_rate)
    if frames <= context:
        raise UsageError(
            f"row_seconds is {row_seconds}, which is {frames} frames; this codec needs more "
            f"than {context} frames, {(context + 1) / frame_rate:.3f} s"
        )
    rows = rows_per_batch or _ROWS_PER_BATCH.get(device.type, 1)
    if rows < 1:
        raise UsageError(f"rows_per_batch is {rows_per_batch}; expected at least 1")
    return _with_rows(RowShape(frames, chain.gap_frames, rows, 0), rows)


def _with_rows(shape: RowShape, rows: int) -> RowShape:
    """Return `shape` with so many rows in a batch, and as many windows waiting as suits them."""
    return replace(shape, rows_per_batch=rows, lookahead_rows=max(_LOOKAHEAD_ROWS, 2 * rows))


def _window_shape(chain: Chain, rows: RowShape, positions_per_frame: int) -> WindowShape:
    left, right = chain.context_frames
    return WindowShape(rows.frames, left, right, positions_per_frame)
