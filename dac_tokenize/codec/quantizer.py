"""Latents -> codes -> latents: DAC's residual quantizer, worked in its own small space.

transformers' quantizer takes the 1,024-wide residual through `in_proj` and `out_proj` once for
each codebook. All that a codebook sees of the residual is its projection to `codebook_dim` numbers,
and projections are linear, so: project the latents for all codebooks in one product, and after each
choice subtract from the later projections what that entry contributes to them, read from a table.
Tables are computed in float64 and rounded once.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as functional


@dataclass(frozen=True, slots=True)
class EncodingTables:
    """What `ResidualQuantizer.encode` reads, float32, for those who do the same another way.

    Attributes:
        project: shape (hidden_size, num_codebooks * codebook_dim).
        project_bias: shape (num_codebooks * codebook_dim,).
        unit_entries: normalised, shape (num_codebooks, codebook_size, codebook_dim).
        unit_squares: their squared lengths, shape (num_codebooks, codebook_size).
        contributions: for each codebook but the last what its entries add to the projections of
            all later ones, shape (codebook_size, later codebooks * codebook_dim).
    """

    project: torch.Tensor
    project_bias: torch.Tensor
    unit_entries: torch.Tensor
    unit_squares: torch.Tensor
    contributions: list[torch.Tensor]


class ResidualQuantizer:
    """The first `num_codebooks` of a `DacResidualVectorQuantizer`, in float32.

    Attributes:
        num_codebooks: codebooks used.
        codebook_size: entries in each.
    """

    def __init__(self, quantizer: Any, num_codebooks: int, device: torch.device) -> None:
        stages = list(quantizer.quantizers)[:num_codebooks]
        self.num_codebooks = num_codebooks
        self.codebook_size = int(stages[0].codebook.weight.shape[0])
        self._dim = int(stages[0].codebook.weight.shape[1])
        project = torch.stack([_weight(s.in_proj) for s in stages])  # (K, d, D)
        expand = torch.stack([_weight(s.out_proj) for s in stages])  # (K, D, d)
        expand_bias = torch.stack([s.out_proj.bias.detach().double().cpu() for s in stages])
        entries = torch.stack([s.codebook.weight.detach().double().cpu() for s in stages])
        bias = torch.stack([s.in_proj.bias.detach().double().cpu() for s in stages])

        def ready(tensor: torch.Tensor) -> torch.Tensor:
            return tensor.float().contiguous().to(device)

        self._project = ready(project.flatten(0, 1).T)  # (D, K d)
        self._project_bias = ready(bias.flatten())
        # The model compares normalised entries computed in float32, so these are too.
        self._unit_entries = functional.normalize(ready(entries), dim=-1)  # (K, C, d)
        self._unit_squares = self._unit_entries.pow(2).sum(-1)  # (K, C)
        self._contributions = [
            ready(_contribution(project[k + 1 :], expand[k], expand_bias[k], entries[k]))
            for k in range(num_codebooks - 1)
        ]
        # An entry is its vector and a one for the bias; the row past the end, all zeros, stands
        # for a codebook that is not there.
        entry_rows = functional.pad(entries, (0, 1), value=1.0)
        self._entry_rows = ready(functional.pad(entry_rows, (0, 0, 0, 1)))  # (K, C + 1, d + 1)
        with_bias = torch.cat([expand, expand_bias[:, :, None]], dim=-1)  # (K, D, d + 1)
        self._expand = ready(with_bias.permute(0, 2, 1).flatten(0, 1))  # (K (d + 1), D)

    @property
    def tables(self) -> EncodingTables:
        """What `encode` reads."""
        return EncodingTables(
            self._project,
            self._project_bias,
            self._unit_entries,
            self._unit_squares,
            self._contributions,
        )

    def encode(self, latents: torch.Tensor) -> torch.Tensor:
        """Choose the entries.

        Args:
            latents: shape (rows, hidden_size, frames), any float dtype.

        Returns:
            int64 codes, shape (rows, num_codebooks, frames).
        """
        rows, hidden_size, frames = latents.shape
        flat = latents.float().transpose(1, 2).reshape(rows * frames, hidden_size)
        projected = torch.addmm(self._project_bias, flat, self._project)
        codes = flat.new_empty((self.num_codebooks, rows * frames), dtype=torch.int64)
        for k in range(self.num_codebooks):
            latent = functional.normalize(projected[:, k * self._dim : (k + 1) * self._dim])
            scores = torch.addmm(self._unit_squares[k], latent, self._unit_entries[k].T, alpha=2.0)
            codes[k] = scores.argmax(dim=1)
            if k + 1 < self.num_codebooks:
                projected[:, (k + 1) * self._dim :] -= self._contributions[k][codes[k]]
        return codes.view(self.num_codebooks, rows, frames).transpose(0, 1)

    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        """Sum the entries.

        Args:
            codes: int64, shape (rows, num_codebooks, frames); `codebook_size` where a frame has no
                such codebook, which then adds nothing.

        Returns:
            float32 latents, shape (rows, hidden_size, frames).
        """
        rows, num_codebooks, frames = codes.shape
        book = torch.arange(num_codebooks, device=codes.device)[:, None]
        chosen = self._entry_rows[book, codes.transpose(1, 2).reshape(-1, num_codebooks).T]
        flat = chosen.permute(1, 0, 2).flatten(1)  # (rows frames, K (d + 1))
        latents = flat @ self._expand[: num_codebooks * (self._dim + 1)]
        return latents.view(rows, frames, -1).transpose(1, 2)


def _weight(convolution: Any) -> torch.Tensor:
    """Return the weight of a 1-wide convolution as a float64 matrix on the CPU."""
    weight: torch.Tensor = convolution.weight.detach().double().cpu().squeeze(-1)
    return weight


def _contribution(
    later_project: torch.Tensor,
    expand: torch.Tensor,
    expand_bias: torch.Tensor,
    entries: torch.Tensor,
) -> torch.Tensor:
    """Return what each entry of one codebook adds to all later projections, (C, later d)."""
    decoded = entries @ expand.T + expand_bias  # (C, D)
    return decoded @ later_project.flatten(0, 1).T
