"""How much of a convolution one program of a kernel computes, and with what."""

from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True, slots=True)
class Tile:
    """Block sizes and what Triton is told to spend on them.

    Attributes:
        positions: output positions of a program.
        channels: output channels of a program.
        depth: products summed between two loads.
        warps: warps of a program.
        stages: loads under way at once.
    """

    positions: int
    channels: int
    depth: int
    warps: int
    stages: int

    def fitted(self, channels: int, depth: int) -> "Tile":
        """Return the tile with blocks that divide `channels` and `depth`."""
        return replace(
            self, channels=_divisor(channels, self.channels), depth=_divisor(depth, self.depth)
        )

    @property
    def options(self) -> dict[str, Any]:
        """What Triton is told."""
        # Said here because Triton's default is about to change, and warns.
        return {"num_warps": self.warps, "num_stages": self.stages, "enable_fp_fusion": True}


def _divisor(size: int, block: int) -> int:
    while size % block:
        block //= 2
    return block


# By compiling for sm_90: none spills, all fit the 227 KiB that a Hopper block may have. None of
# this changes a sum: products are added in the order of taps and channels, whatever the block.
# Two of a kind at most: every tile is compiled, a second or two, where it is first met.
_HALF = (Tile(128, 128, 64, 8, 4), Tile(64, 256, 64, 8, 4))
_TF32 = (Tile(128, 128, 32, 8, 3), Tile(128, 64, 32, 4, 4))
_IEEE = (Tile(128, 128, 16, 8, 3), Tile(128, 64, 16, 4, 3))
_UNIT_HALF = (Tile(128, 128, 64, 8, 3), Tile(64, 128, 64, 4, 3))
_UNIT_TF32 = (Tile(128, 128, 32, 8, 3),)
_WIDEST_UNIT = 128
# 43 products a byte of sums: what a vendor's product reaches its full speed with.
_LIBRARY_CHANNELS = 256


def by_library(precision: str, channels: int) -> bool:
    """Return whether the vendor's matrix products, one a tap, compute a convolution.

    Only in float32 without TF32, on ordinary cores. They round otherwise than the kernels, so this
    is settled by the codec and not by the clock: the same clip has the same codes in every run.

    Args:
        precision: as `DacTokenizer` takes it.
        channels: channels that come out.
    """
    return precision == "float32" and channels >= _LIBRARY_CHANNELS


def convolution_tiles(precision: str, channels: int, depth: int) -> list[Tile]:
    """Return the tiles worth trying for a convolution, the likeliest first, none twice.

    Args:
        precision: as `DacTokenizer` takes it.
        channels: channels that come out.
        depth: products summed in one tap.
    """
    tiles = {"float32": _IEEE, "tf32": _TF32}.get(precision, _HALF)
    return list(dict.fromkeys(tile.fitted(channels, depth) for tile in tiles))


def unit_tiles(precision: str, channels: int) -> list[Tile]:
    """Return the tiles worth trying for a whole residual unit; none where two kernels are better.

    float32 without TF32 runs on the ordinary cores, where arithmetic and not memory is the limit
    even at 64 channels, and where a unit's two products need more registers than there are.
    """
    if precision == "float32" or channels > _WIDEST_UNIT or channels & (channels - 1):
        return []
    tiles = _UNIT_TF32 if precision == "tf32" else _UNIT_HALF
    return list(dict.fromkeys(tile.fitted(channels, channels) for tile in tiles))


def input_precision(precision: str) -> str:
    """Return what Triton's matrix product is told for `precision`."""
    return "tf32" if precision == "tf32" else "ieee"
