"""All codebooks of the residual quantizer in one kernel, by `ResidualQuantizer.encode`'s method."""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

import torch
import torch.nn.functional as functional
import triton
import triton.language as tl

from dac_tokenize.codec.kernels.convolution import convolve
from dac_tokenize.codec.kernels.ending import Ending
from dac_tokenize.codec.kernels.sheets import Sheet, Weights, laid_out
from dac_tokenize.codec.kernels.tiles import convolution_tiles
from dac_tokenize.codec.quantizer import ResidualQuantizer

_BLOCK_C = 128
_LEAST_DIM = 8
_BLOCK_NUMBERS = 4096  # frames times width of a program: what its registers hold


@triton.jit
def quantize_kernel(
    projected,
    entries,
    squares,
    contributions,
    codes,
    num_frames,
    num_codebooks,
    codebook_size,
    WIDTH: tl.constexpr,  # noqa: N803 (constants of a kernel are capitals)
    DIM: tl.constexpr,  # noqa: N803
    BLOCK_M: tl.constexpr,  # noqa: N803
    BLOCK_C: tl.constexpr,  # noqa: N803
):
    """Choose the entries of BLOCK_M frames; the grid is the blocks.

    `projected` is (frames, WIDTH), WIDTH / DIM groups of which the first `num_codebooks` count;
    `entries` (num_codebooks, DIM, codebook_size) normalised, the size a multiple of BLOCK_C with
    squares of -inf past the end; `contributions` (num_codebooks, codebook_size, WIDTH) is zero for
    this codebook and those before it.
    """
    frames = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    inside = frames < num_frames
    columns = tl.arange(0, WIDTH)
    dims = tl.arange(0, DIM)
    at = frames[:, None].to(tl.int64) * WIDTH + columns[None, :]
    left = tl.load(projected + at, mask=inside[:, None], other=0.0)
    books: tl.constexpr = WIDTH // DIM
    groups = tl.arange(0, books)
    for k in range(num_codebooks):
        # Registers cannot be indexed: the group of this codebook is a sum with zeros, exactly.
        grouped = tl.reshape(left, (BLOCK_M, books, DIM))
        latent = tl.sum(tl.where((groups == k)[None, :, None], grouped, 0.0), axis=1)
        norm = tl.sqrt_rn(tl.sum(latent * latent, axis=1))
        latent = tl.div_rn(latent, tl.maximum(norm, 1e-12)[:, None] + tl.zeros_like(latent))
        best = tl.full((BLOCK_M,), float("-inf"), dtype=tl.float32)
        chosen = tl.zeros((BLOCK_M,), dtype=tl.int32)
        for c in range(0, codebook_size, BLOCK_C):
            within = c + tl.arange(0, BLOCK_C)
            book = entries + k * DIM * codebook_size
            unit = tl.load(book + dims[:, None] * codebook_size + within[None, :])
            scores = 2.0 * tl.dot(latent, unit, input_precision="ieee")
            scores += tl.load(squares + k * codebook_size + within)[None, :]
            # What is no number is never the best; the first entry stands then, as in torch.
            scores = tl.where(scores == scores, scores, float("-inf"))
            # The first of equals, within a block and from block to block.
            score, index = tl.max(scores, axis=1, return_indices=True)
            better = score > best
            best = tl.where(better, score, best)
            chosen = tl.where(better, c + index, chosen)
        row = frames.to(tl.int64) * num_codebooks
        tl.store(codes + row + k, chosen.to(codes.dtype.element_ty), mask=inside)
        table = contributions + k * codebook_size * WIDTH
        left -= tl.load(table + chosen[:, None] * WIDTH + columns[None, :])


class KernelQuantizer:
    """`ResidualQuantizer.encode` in two kernels: the projections, and all that follows.

    Args:
        quantizer: the plain form, on the device.
        hidden_size: channels of the latents, filled up.
    """

    def __init__(self, quantizer: ResidualQuantizer, hidden_size: int) -> None:
        tables = quantizer.tables
        books, size, dim = tables.unit_entries.shape
        self._num_codebooks = books
        self._dim = max(_LEAST_DIM, 1 << (dim - 1).bit_length())
        self._width = 1 << (books * self._dim - 1).bit_length()
        self._size = -(-size // _BLOCK_C) * _BLOCK_C
        more = self._size - size

        def spread(numbers: torch.Tensor) -> torch.Tensor:
            """Fill (..., groups dim) up to (..., WIDTH), every group to its own DIM."""
            groups = functional.pad(numbers.unflatten(-1, (-1, dim)), (0, self._dim - dim))
            flat = groups.flatten(-2)
            return functional.pad(flat, (0, self._width - flat.shape[-1]))

        project = functional.pad(tables.project, (0, 0, 0, hidden_size - len(tables.project)))
        self._project = Weights(
            laid_out(spread(project), False), spread(tables.project_bias), 1, 1, 0, 0
        )
        unit = functional.pad(tables.unit_entries, (0, self._dim - dim, 0, more))
        self._entries = unit.transpose(1, 2).contiguous()
        self._squares = functional.pad(tables.unit_squares, (0, more), value=float("-inf"))
        contributions = unit.new_zeros(books, self._size, self._width)
        for k, contribution in enumerate(tables.contributions):
            later = functional.pad(contribution, ((k + 1) * dim, 0))
            contributions[k, :size] = spread(later)
        self._contributions = contributions
        self._tile = convolution_tiles("float32", self._width, hidden_size)[-1]

    def make_codes(self, latents: Sheet) -> torch.Tensor:
        """Return room for the codes of `latents`: uint16, shape (rows, frames, num_codebooks)."""
        shape = (latents.rows, latents.positions, self._num_codebooks)
        return torch.zeros(shape, dtype=torch.uint16, device=latents.data.device)

    def make_projected(self, latents: Sheet) -> Sheet:
        """Return room for the projections of `latents`."""
        device = latents.data.device
        return Sheet.make(latents.rows, latents.positions, self._width, torch.float32, device)

    def encode(
        self,
        latents: Sheet,
        projected: Sheet,
        codes: torch.Tensor,
        *,
        compile_only: bool = False,
    ) -> None:
        """Choose the entries.

        Args:
            latents: float32.
            projected: room for the projections, from `make_projected`.
            codes: where the codes go, from `make_codes`.
            compile_only: compile the kernels, and do nothing with them.
        """
        convolve(
            latents,
            self._project,
            latents.positions,
            Ending(plain=projected),
            "float32",
            self._tile,
            compile_only=compile_only,
        )
        num_frames = latents.rows * latents.positions
        block_m = min(max(_BLOCK_NUMBERS // self._width, 16), 32)
        quantize_kernel.run(
            grid=(triton.cdiv(num_frames, block_m),),
            warmup=compile_only,
            projected=projected.data,
            entries=self._entries,
            squares=self._squares,
            contributions=self._contributions,
            codes=codes,
            num_frames=num_frames,
            num_codebooks=self._num_codebooks,
            codebook_size=self._size,
            WIDTH=self._width,
            DIM=self._dim,
            BLOCK_M=block_m,
            BLOCK_C=_BLOCK_C,
            num_warps=4,
            enable_fp_fusion=True,
        )
