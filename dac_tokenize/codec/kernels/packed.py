"""An encoder's weights as the kernels want them, packed once for each device and precision."""

from dataclasses import dataclass
from typing import Any

import torch

from dac_tokenize.codec.kernels.first import pack_first
from dac_tokenize.codec.kernels.sheets import Snake, Weights, filled

_DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, slots=True)
class PackedUnit:
    """A residual unit: snake, dilated convolution, snake, 1-wide convolution."""

    snake: Snake
    first: Weights
    inner: Snake
    second: Weights


@dataclass(frozen=True, slots=True)
class PackedBlock:
    """Residual units of one width, then a snake and a strided convolution."""

    units: list[PackedUnit]
    snake: Snake
    strided: Weights


class PackedEncoder:
    """A `DacEncoder`, packed.

    Args:
        encoder: its weights in float32, so that nothing is rounded twice.
        precision: as `DacTokenizer` takes it.
        device: where the packed weights go.

    Attributes:
        first: weight (taps, channels) and bias of the first convolution.
        blocks: in order.
        snake: the last snake.
        last: the last convolution.
        hidden_size: channels of the latents, without those that fill up.
        precision: as given.
        dtype: in which activations and weights are stored.
    """

    def __init__(self, encoder: Any, precision: str, device: torch.device) -> None:
        self.precision = precision
        self.device = device
        self.dtype = _DTYPES.get(precision, torch.float32)
        self.first = pack_first(encoder.conv1, filled(encoder.conv1.out_channels), device)
        self.blocks = [
            PackedBlock(
                [self._unit(unit) for unit in (block.res_unit1, block.res_unit2, block.res_unit3)],
                self._snake(block.snake1),
                self._weights(block.conv1),
            )
            for block in encoder.block
        ]
        self.snake = self._snake(encoder.snake1)
        self.last = self._weights(encoder.conv2)
        self.hidden_size = int(encoder.conv2.out_channels)

    @property
    def hop_length(self) -> int:
        """Samples per frame."""
        hop_length = 1
        for block in self.blocks:
            hop_length *= block.strided.step
        return hop_length

    @property
    def following_snakes(self) -> list[Snake]:
        """For each block the snake that comes after its strided convolution."""
        return [block.units[0].snake for block in self.blocks[1:]] + [self.snake]

    def _unit(self, unit: Any) -> PackedUnit:
        return PackedUnit(
            self._snake(unit.snake1),
            self._weights(unit.conv1),
            self._snake(unit.snake2),
            self._weights(unit.conv2),
        )

    def _weights(self, convolution: Any) -> Weights:
        return Weights.pack(
            convolution,
            filled(convolution.in_channels),
            filled(convolution.out_channels),
            self.dtype,
            self.device,
            # Hopper's TF32 instructions read both operands along the depth.
            depth_first=self.precision == "tf32",
        )

    def _snake(self, snake: Any) -> Snake:
        return Snake.pack(snake, filled(snake.alpha.numel()), self.device)
