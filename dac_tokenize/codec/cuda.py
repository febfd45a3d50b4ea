"""The encoder on a GPU: Triton's kernels over sheets of one shape, chosen once and then only run.

`CudaEncoder` is to `encode_rows` what a program is to its listing: the same steps, with every
buffer and every kernel settled beforehand, so that a CUDA graph can hold all of it. Two things are
done otherwise. A convolution never waits for a snake: the kernel before has stored what the snake
gives, beside the plain activations where a residual needs those. And masks are read by frame.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch

from dac_tokenize.codec.kernels.convolution import convolve, convolve_by_library
from dac_tokenize.codec.kernels.ending import Ending
from dac_tokenize.codec.kernels.first import convolve_samples
from dac_tokenize.codec.kernels.packed import PackedBlock, PackedEncoder, PackedUnit
from dac_tokenize.codec.kernels.quantize import KernelQuantizer
from dac_tokenize.codec.kernels.sheets import Sheet, Snake, Weights
from dac_tokenize.codec.kernels.tiles import by_library, convolution_tiles, unit_tiles
from dac_tokenize.codec.kernels.unit import run_unit
from dac_tokenize.codec.masks import Mask
from dac_tokenize.codec.precision import float32_rule
from dac_tokenize.codec.ways import Choose, Way, likeliest_way


@dataclass(frozen=True, slots=True)
class _Level:
    """The activations at hand: after the next snake, as they are, and room beside the former."""

    snaked: Sheet
    spare: Sheet
    plain: Sheet


class CudaEncoder:
    """Rows of one shape through the kernels, samples to codes.

    Args:
        packed: the encoder's weights.
        quantizer: turns latents into codes.
        rows: rows in a batch.
        frames: frames in a row.
        choose: takes what identifies a step and the ways to do it; returns which is taken.

    Attributes:
        samples: where the input goes, float32 (rows, row_samples), zero outside the windows.
        frame_mask: where windows lie, uint8 (rows, frames).
        codes: what `run` leaves, uint16 (rows, frames, num_codebooks).
    """

    @torch.inference_mode()
    def __init__(
        self,
        packed: PackedEncoder,
        quantizer: KernelQuantizer,
        rows: int,
        frames: int,
        choose: Choose = likeliest_way,
    ) -> None:
        self._packed, self._quantizer, self._choose = packed, quantizer, choose
        self._rows = rows
        # Noise, not zeros: the ways of a step are timed on what these give.
        samples = (rows, frames * packed.hop_length)
        self.samples = torch.randn(samples, device=packed.device)
        self.frame_mask = torch.ones((rows, frames), dtype=torch.uint8, device=packed.device)
        self._sums = self._room_for_sums()
        self._steps: list[Way] = []
        with float32_rule(packed.precision):
            level = self._add_first()
            for number in range(len(packed.blocks)):
                level = self._add_block(number, level)
            self._latents = self._sheet(frames, packed.last.out_channels, torch.float32)
            ending = Ending(plain=self._latents)
            self._take("last", self._convolutions(level.snaked, packed.last, frames, ending))
        self.codes = quantizer.make_codes(self._latents)
        projected = quantizer.make_projected(self._latents)
        self._quantize = partial(quantizer.encode, self._latents, projected, self.codes)

    @torch.inference_mode()
    def run(self) -> None:
        """Turn `samples` and `frame_mask` into `codes`, on the stream at hand."""
        self._encode()
        self._quantize()

    @property
    def steps(self) -> list[Way]:
        """All that `run` does."""
        return [*self._steps, self._quantize]

    @torch.inference_mode()
    def __call__(self, samples: torch.Tensor, masks: Sequence[Mask]) -> torch.Tensor:
        """Do what `encode_rows` does.

        Args:
            samples: float, shape (rows, 1, row_samples), zero outside the windows.
            masks: one for each level; only the last, of frames, is read.

        Returns:
            float32 latents, shape (rows, hidden_size, row_frames), until the next call.
        """
        self.samples.copy_(samples[:, 0])
        frame_mask = masks[-1]
        if frame_mask is None:
            self.frame_mask.fill_(1)
        else:
            self.frame_mask.copy_(frame_mask[:, 0])
        self._encode()
        return self._latents.data[:, :, : self._packed.hidden_size].transpose(1, 2)

    def _encode(self) -> None:
        with float32_rule(self._packed.precision):
            for step in self._steps:
                step()

    def _take(self, key: str, ways: Sequence[Way]) -> int:
        """Choose a way and make it the next step."""
        chosen = self._choose((self._packed.precision, key), ways)
        self._steps.append(ways[chosen])
        return chosen

    def _sheet(
        self, positions: int, channels: int, dtype: torch.dtype | None = None, halo: int = 0
    ) -> Sheet:
        dtype = dtype or self._packed.dtype
        return Sheet.make(self._rows, positions, channels, dtype, self._packed.device, halo)

    def _room_for_sums(self) -> torch.Tensor:
        """Return room for the sums of the largest sheet that a library computes."""
        positions = self.samples.numel()
        sums = []
        for block in self._packed.blocks:
            sums.append((positions, block.units[0].first))
            positions //= block.strided.step
            sums.append((positions, block.strided))
        sums.append((positions, self._packed.last))
        sizes = [n * weights.out_channels for n, weights in sums if self._by_library(weights)]
        return torch.empty(max(sizes, default=0), device=self._packed.device)

    def _by_library(self, weights: Weights) -> bool:
        return by_library(self._packed.precision, weights.out_channels)

    def _level(self, positions: int, channels: int, readers: Sequence[Weights]) -> _Level:
        """Make the sheets of a level that the convolutions `readers` read."""
        halo = max(weights.reach for weights in readers)
        snaked, spare = (self._sheet(positions, channels, halo=halo) for _ in range(2))
        return _Level(snaked, spare, self._sheet(positions, channels))

    def _add_first(self) -> _Level:
        weight, bias = self._packed.first
        block = self._packed.blocks[0]
        level = self._level(self.samples.shape[1], weight.shape[1], _readers(block))
        ending = Ending(level.plain, level.snaked, block.units[0].snake, frame_mask=self.frame_mask)
        self._take("first", [partial(convolve_samples, self.samples, weight, bias, ending)])
        return level

    def _add_block(self, number: int, level: _Level) -> _Level:
        block, following = self._packed.blocks[number], self._packed.following_snakes[number]
        snakes = [unit.snake for unit in block.units[1:]] + [block.snake]
        for unit, snake in zip(block.units, snakes, strict=True):
            # After the last unit nothing is added any more: only what the snake gives is read.
            level = self._add_unit(unit, snake, level, keep=snake is not block.snake)
        positions = level.snaked.positions // block.strided.step
        more = self._packed.blocks[number + 1 :]
        readers = _readers(more[0]) if more else [self._packed.last]
        below = self._level(positions, block.strided.out_channels, readers)
        ending = Ending(
            below.plain if more else None, below.snaked, following, frame_mask=self.frame_mask
        )
        ways = self._convolutions(level.snaked, block.strided, positions, ending)
        self._take(f"strided {number}", ways)
        return below

    def _add_unit(self, unit: PackedUnit, snake: Snake, level: _Level, keep: bool) -> _Level:
        """Add a residual unit: as one kernel, which swaps the two sheets, or as two."""
        channels, positions = level.plain.channels, level.plain.positions
        precision = self._packed.precision

        def ending(snaked: Sheet) -> Ending:
            plain = level.plain if keep else None
            return Ending(plain, snaked, snake, level.plain, self.frame_mask)

        ways: list[Way] = [
            partial(
                run_unit,
                level.snaked,
                unit.first,
                unit.inner,
                unit.second,
                ending(level.spare),
                precision,
                tile,
            )
            for tile in unit_tiles(precision, channels)
        ]
        swapping = len(ways)
        between = Ending(snaked=level.spare, snake=unit.inner)
        firsts = self._convolutions(level.snaked, unit.first, positions, between)
        seconds = self._convolutions(level.spare, unit.second, positions, ending(level.snaked))
        pairs = [
            partial(_both, first, second) for first, second in zip(firsts, seconds, strict=True)
        ]
        # Where one kernel can do it, two are likely slower: only the likeliest are tried.
        ways += pairs[:1] if ways else pairs
        if self._take(f"unit {channels}", ways) < swapping:
            return _Level(level.spare, level.snaked, level.plain)
        return level

    def _convolutions(
        self, source: Sheet, weights: Weights, positions: int, ending: Ending
    ) -> list[Way]:
        """Return the ways to do a convolution and what follows it."""
        precision = self._packed.precision
        if self._by_library(weights):
            return [partial(convolve_by_library, source, weights, positions, ending, self._sums)]
        return [
            partial(convolve, source, weights, positions, ending, precision, tile)
            for tile in convolution_tiles(precision, weights.out_channels, weights.depth)
        ]


def _readers(block: PackedBlock) -> list[Weights]:
    """Return what reads the sheets of a block."""
    return [*(unit.first for unit in block.units), block.strided]


def _both(first: Way, second: Way, *, compile_only: bool = False) -> None:
    first(compile_only=compile_only)
    second(compile_only=compile_only)
