"""Starting the codebooks from the encoder's own outputs, and reviving entries that die."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import DacModel

from .model import quantize

KMEANS_ROUNDS = 12
#: An entry chosen less often than this share of an even split counts as dead.
DEAD_SHARE = 0.03


def cosine_kmeans(points: Tensor, num_entries: int, rounds: int = KMEANS_ROUNDS) -> Tensor:
    """Finds entries under the rule by which DAC chooses them: the largest cosine.

    Args:
        points: (num_points, dimension), with at least `num_entries` rows.
        num_entries: Entries wanted.
        rounds: Rounds of assignment and averaging.

    Returns:
        (num_entries, dimension); an entry is the mean of its points, so it carries their length.
    """
    entries = points[torch.randperm(len(points))[:num_entries]].clone()
    for _ in range(rounds):
        chosen = _nearest(points, entries)
        sums = torch.zeros_like(entries).index_add_(0, chosen, points)
        counts = torch.bincount(chosen, minlength=num_entries)
        entries = sums / counts.clamp_min(1)[:, None]
        empty = counts == 0
        entries[empty] = points[torch.randint(len(points), (int(empty.sum()),))]
    return entries


def _nearest(points: Tensor, entries: Tensor) -> Tensor:
    cosines = nn.functional.normalize(points) @ nn.functional.normalize(entries).T
    return cosines.argmax(1)


@torch.no_grad()
def start_quantizers(model: DacModel, latents: Tensor) -> list[float]:
    """Sets every quantizer from the residual that the ones before it leave.

    `in_proj` becomes the residual's principal directions, the entries its k-means centres and
    `out_proj` the least-squares way back. Nothing is whitened: with in_proj and out_proj near
    orthonormal, the loop over the residual amplifies no error, and training stays stable.

    Args:
        model: The codec, without weight norm; changed in place.
        latents: The encoder's outputs, (num_frames, hidden_size), of deviation near 1.

    Returns:
        Share of the latents' variance that is left after each codebook.
    """
    residual, total_variance = latents.clone(), latents.var(0).sum()
    left = []
    for quantizer in model.quantizer.quantizers:
        dimension, size = quantizer.codebook.weight.shape[1], quantizer.codebook.weight.shape[0]
        mean = residual.mean(0)
        _, _, directions = torch.linalg.svd(residual - mean, full_matrices=False)
        projection = directions[:dimension]
        projected = (residual - mean) @ projection.T
        entries = cosine_kmeans(projected, size)
        chosen = entries[_nearest(projected, entries)]
        bordered = torch.cat([chosen, torch.ones(len(chosen), 1)], 1)
        back = torch.linalg.lstsq(bordered, residual).solution
        quantizer.in_proj.weight.copy_(projection[..., None])
        quantizer.in_proj.bias.copy_(-projection @ mean)
        quantizer.codebook.weight.copy_(entries)
        quantizer.out_proj.weight.copy_(back[:-1].T[..., None])
        quantizer.out_proj.bias.copy_(back[-1])
        residual = residual - bordered @ back
        left.append(float(residual.var(0).sum() / total_variance))
    return left


class Revival:
    """Counts the choices of each entry and moves dead ones onto inputs of the moment."""

    def __init__(self, num_codebooks: int, codebook_size: int) -> None:
        self.counts = torch.zeros(num_codebooks, codebook_size)

    def count(self, codes: Tensor) -> None:
        """Adds a batch of codes, (batch, num_codebooks, frames)."""
        size = self.counts.shape[1]
        for index, row in enumerate(codes.transpose(0, 1)):
            self.counts[index] += torch.bincount(row.reshape(-1), minlength=size)

    @torch.no_grad()
    def revive(
        self, model: DacModel, projected: Tensor, optimizer: torch.optim.Optimizer
    ) -> list[int]:
        """Moves entries that were hardly chosen since the last call; starts counting anew.

        Args:
            model: The codec; its codebooks are changed in place.
            projected: Inputs of the codebooks, (num_codebooks, batch, codebook_dim, frames).
            optimizer: Its moments of the moved entries are cleared, or they would drag them away.

        Returns:
            Entries moved, one number per codebook.
        """
        moved = []
        even_split = self.counts.sum(1, keepdim=True) / self.counts.shape[1]
        dead = self.counts < DEAD_SHARE * even_split
        for mask, quantizer, inputs in zip(
            dead, model.quantizer.quantizers, projected, strict=True
        ):
            points = inputs.transpose(1, 2).reshape(-1, inputs.shape[1])
            # A batch holds few distinct directions: never flood a codebook from one of them.
            rows = mask.nonzero().squeeze(1)[: len(points) // 8]
            weight = quantizer.codebook.weight
            weight[rows] = points[torch.randperm(len(points))[: len(rows)]]
            for moment in optimizer.state.get(weight, {}).values():
                if moment.shape == weight.shape:
                    moment[rows] = 0
            moved.append(len(rows))
        self.counts.zero_()
        return moved


@torch.no_grad()
def residual_shares(model: DacModel, latents: Tensor) -> float:
    """Share of the latents' variance that all codebooks together leave, for the log."""
    counts = torch.full((len(latents),), len(model.quantizer.quantizers))
    error = latents - quantize(model, latents, counts).latents
    return float(error.var() / latents.var())
