"""What a codec's convolutions read, in frames: context, gaps and lengths, by interval arithmetic.

A codec is a chain of convolutions. Everything that packing needs to know follows from their kernel
sizes, strides, dilations and paddings, so it is computed here and never written down as a number:

- *context*: how many frames of real sound a window must hold to the left and to the right of the
  frames that are kept, for these to be what the whole clip gives;
- *gap*: how many frames of silence two windows in one row must keep between them, when the
  activations outside the windows are set to zero after every step.

The layer shapes are those of transformers' `DacEncoder` and `DacDecoder`, after the Descript Audio
Codec (https://arxiv.org/abs/2306.06546).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

RESIDUAL_DILATIONS = (1, 3, 9)
RESIDUAL_KERNEL_SIZE = 7


@dataclass(frozen=True, slots=True)
class Convolution:
    """One convolution, plain or transposed, as a map between intervals of positions.

    Attributes:
        kernel_size: taps.
        padding: zeros taken off or added at each end, in positions of the strided side.
        stride: positions of the finer side for one of the coarser side.
        dilation: distance between taps.
        transposed: True where it goes from coarse to fine.
    """

    kernel_size: int
    padding: int
    stride: int = 1
    dilation: int = 1
    transposed: bool = False

    def output_length(self, length: int) -> int:
        """Return how many positions come out for `length` positions that go in.

        >>> Convolution(kernel_size=10, padding=3, stride=5).output_length(100)
        20
        >>> Convolution(kernel_size=10, padding=3, stride=5, transposed=True).output_length(20)
        99
        """
        if self.transposed:
            return (length - 1) * self.stride - 2 * self.padding + self.kernel_size
        reach = self.dilation * (self.kernel_size - 1)
        return (length + 2 * self.padding - reach - 1) // self.stride + 1

    def reads(self, start: int, stop: int) -> tuple[int, int]:
        """Return the half-open interval of input positions that outputs `[start, stop)` read.

        >>> Convolution(kernel_size=7, padding=27, dilation=9).reads(0, 1)
        (-27, 28)
        """
        if self.transposed:
            first = -((-(start + self.padding - self.kernel_size + 1)) // self.stride)
            return first, (stop - 1 + self.padding) // self.stride + 1
        reach = self.dilation * (self.kernel_size - 1)
        first = start * self.stride - self.padding
        return first, (stop - 1) * self.stride - self.padding + reach + 1


@dataclass(frozen=True, slots=True)
class Level:
    """The resolution that one step of the chain puts out.

    Attributes:
        positions_per_frame: positions for each frame.
        deficit: positions by which a window of n frames is short of n times that. Not zero
            after a transposed convolution of odd stride.
    """

    positions_per_frame: int
    deficit: int = 0

    def length(self, num_frames: int) -> int:
        """Return how many positions a window of `num_frames` frames has at this level."""
        return num_frames * self.positions_per_frame - self.deficit


@dataclass(frozen=True)
class Chain:
    """A chain of convolutions with the level after each, the first level being the input's.

    Attributes:
        convolutions: in the order in which they run.
        levels: one more than convolutions; `levels[i]` is what `convolutions[i]` reads.
    """

    convolutions: tuple[Convolution, ...]
    levels: tuple[Level, ...]

    @classmethod
    def build(cls, convolutions: Sequence[Convolution], positions_per_frame: int) -> "Chain":
        """Follow the levels through `convolutions`, from `positions_per_frame` on."""
        levels = [Level(positions_per_frame)]
        for convolution in convolutions:
            levels.append(_next_level(convolution, levels[-1]))
        return cls(tuple(convolutions), tuple(levels))

    @cached_property
    def context_frames(self) -> tuple[int, int]:
        """Frames of real sound needed to the left and to the right of a kept frame."""
        left = right = 0
        while not self._exact(left, right):
            grown_left, grown_right = self._lacks(left, right)
            left, right = left + grown_left, right + grown_right
        return left, right

    @cached_property
    def gap_frames(self) -> int:
        """Frames of silence between two windows of one row, each step being masked."""
        gap = 0
        steps = zip(self.convolutions, pairwise(self.levels), strict=True)
        for convolution, (level, out) in steps:
            length = level.length(_MANY_FRAMES)
            start, stop = convolution.reads(0, out.length(_MANY_FRAMES))
            reach = max(-start, stop - length - level.deficit)
            gap = max(gap, math.ceil(reach / level.positions_per_frame))
        return gap

    @property
    def receptive_field(self) -> tuple[int, int]:
        """Input interval that the outputs of frame 0 read, `[start, stop)` in input positions."""
        start, stop = 0, self.levels[-1].positions_per_frame
        for convolution in reversed(self.convolutions):
            start, stop = convolution.reads(start, stop)
        return start, stop

    def _intervals(self, left: int) -> list[tuple[int, int]]:
        """Intervals needed at each level for the one frame that follows `left` context frames."""
        rate = self.levels[-1].positions_per_frame
        needed = [(left * rate, (left + 1) * rate)]
        for convolution in reversed(self.convolutions):
            needed.append(convolution.reads(*needed[-1]))
        return needed[::-1]

    def _lacks(self, left: int, right: int) -> tuple[int, int]:
        """Return (1 if the left context is short, 1 if the right one is)."""
        needed = self._intervals(left)
        lengths = [level.length(left + 1 + right) for level in self.levels]
        short_left = any(start < 0 for start, _ in needed)
        short_right = any(stop > n for (_, stop), n in zip(needed, lengths, strict=True))
        return int(short_left), int(short_right)

    def _exact(self, left: int, right: int) -> bool:
        return self._lacks(left, right) == (0, 0)


# Long enough for the ends of a window not to meet; only differences of lengths are used.
_MANY_FRAMES = 1024


def encoder_chain(downsampling_ratios: Sequence[int]) -> Chain:
    """Return the encoder's convolutions for the config's `downsampling_ratios`, samples to frames.

    >>> encoder_chain([2, 4, 8, 8]).context_frames
    (8, 8)
    >>> encoder_chain([2, 4, 8, 8]).gap_frames
    4
    """
    convolutions = [Convolution(7, padding=3)]
    for stride in downsampling_ratios:
        convolutions += _residual_units()
        convolutions.append(Convolution(2 * stride, padding=math.ceil(stride / 2), stride=stride))
    convolutions.append(Convolution(3, padding=1))
    return Chain.build(convolutions, math.prod(downsampling_ratios))


def decoder_chain(upsampling_ratios: Sequence[int]) -> Chain:
    """Return the decoder's convolutions for the config's `upsampling_ratios`, frames to samples.

    >>> decoder_chain([8, 5, 4, 2]).levels[-1]
    Level(positions_per_frame=320, deficit=8)
    """
    convolutions = [Convolution(7, padding=3)]
    for stride in upsampling_ratios:
        padding = math.ceil(stride / 2)
        convolutions.append(Convolution(2 * stride, padding, stride=stride, transposed=True))
        convolutions += _residual_units()
    convolutions.append(Convolution(7, padding=3))
    return Chain.build(convolutions, 1)


def _residual_units() -> list[Convolution]:
    """Return the dilated convolutions of the three residual units of a block."""
    size = RESIDUAL_KERNEL_SIZE
    return [Convolution(size, (size - 1) * d // 2, dilation=d) for d in RESIDUAL_DILATIONS]


def _next_level(convolution: Convolution, level: Level) -> Level:
    """Return the level after `convolution`."""
    if convolution.transposed:
        rate = level.positions_per_frame * convolution.stride
    else:
        rate = level.positions_per_frame // convolution.stride
    length = convolution.output_length(level.length(_MANY_FRAMES))
    return Level(rate, _MANY_FRAMES * rate - length)
