"""Contrastive losses over the global batch, exact under DistributedDataParallel."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from datamodules.precision import no_autocast

LEAST = torch.finfo(torch.float32).min
"""Score of what is no candidate; unlike -inf it leaves the gradients finite where nothing is."""


def world_size() -> int:
    """Number of processes that train together; 1 where torch.distributed is not set up."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


class _GatherRows(torch.autograd.Function):
    """All ranks' rows, in order of rank; the gradient of a row is the sum over the ranks that used it."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        ctx.count = len(rows)
        parts = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        grad = grad.contiguous()
        dist.all_reduce(grad)
        return grad.narrow(0, dist.get_rank() * ctx.count, ctx.count)


def gather_rows(rows_BD: Tensor) -> Tensor:
    """[B, D] on each of N ranks -> [N * B, D], differentiable. Every rank must hold equally many rows."""
    return _GatherRows.apply(rows_BD) if world_size() > 1 else rows_BD


def gather_mask(valid_B: Tensor) -> Tensor:
    """[B] bool on each of N ranks -> [N * B]."""
    return gather_rows(valid_B.float()[:, None])[:, 0].bool()


def own_rows(count: int, device: torch.device) -> Tensor:
    """[count] where this rank's rows stand among those that `gather_rows` gives."""
    first = dist.get_rank() * count if world_size() > 1 else 0
    return torch.arange(first, first + count, device=device)


def mean_of_valid(value_B: Tensor, valid_B: Tensor) -> Tensor:
    """The mean of a loss over the valid clips of the global batch, as the mean over ranks of what this gives; 0 where
    there is none. A rank may have more or fewer of them than the others."""
    return torch.where(valid_B, value_B, 0).sum() * world_size() / gather_mask(valid_B).sum().clamp(min=1)


def info_nce(x_BD: Tensor, y_BD: Tensor, tau: float | Tensor, valid_B: Tensor | None = None) -> Tensor:
    """One-way InfoNCE: each x must find its own y among the y of the global batch.

        -1/B sum_i log( exp(s(x_i, y_i) / tau) / sum_j exp(s(x_i, y_j) / tau) ),   s = cosine

    Under DDP a rank takes the mean over its own x against the y of all ranks. The loss of one process with
    the whole batch is the mean of the ranks' losses, and as DDP averages the ranks' gradients while
    `gather_rows` sums what all ranks ask of a y, the parameters' gradients are equal, too.

    Args:
        x_BD, y_BD: [B, D] embeddings of any length; row i of both is a positive pair.
        tau: temperature; one that is learned gets its gradient.
        valid_B: [B] bool, the pairs that take part; the loss is that of the batch without the others, and 0 where
            there is none. None = all.
    """
    with no_autocast(x_BD.device):
        x_BD = F.normalize(x_BD.float(), dim=1)
        y_GD = gather_rows(F.normalize(y_BD.float(), dim=1))
        return _find_own(x_BD @ y_GD.T / tau, valid_B)


def symmetric_info_nce(x_BD: Tensor, y_BD: Tensor, tau: float | Tensor, valid_B: Tensor | None = None) -> Tensor:
    """The mean of InfoNCE from x to y and from y to x; arguments as for `info_nce`."""
    return (info_nce(x_BD, y_BD, tau, valid_B) + info_nce(y_BD, x_BD, tau, valid_B)) / 2


def masked_margin_softmax(x_BD: Tensor, y_BD: Tensor, margin: float, valid_B: Tensor | None = None) -> Tensor:
    """Masked Margin Softmax (Ilharco et al. 2019) as in AVLnet's `loss.py`: each x must find its own y among the y of
    the global batch, and each y its x, though the right pair's score is lowered by a margin.

        CE_rows(S - margin * I) + CE_cols(S - margin * I),   S = x y^T, neither normalised nor divided

    Args:
        x_BD, y_BD, valid_B: as for `info_nce`, and so is what they give under DDP.
        margin: delta.
    """
    with no_autocast(x_BD.device):
        x_BD, y_BD = x_BD.float(), y_BD.float()
        lowered_BG = margin * F.one_hot(own_rows(len(x_BD), x_BD.device), len(x_BD) * world_size())
        return _find_own(x_BD @ gather_rows(y_BD).T - lowered_BG, valid_B) + _find_own(
            y_BD @ gather_rows(x_BD).T - lowered_BG, valid_B
        )


def _find_own(score_BG: Tensor, valid_B: Tensor | None) -> Tensor:
    """Cross-entropy of this rank's rows, each with its own column as the right one, without what is not valid."""
    own_B = own_rows(len(score_BG), score_BG.device)
    if valid_B is None:
        return F.cross_entropy(score_BG, own_B)
    valid_G = gather_mask(valid_B)
    loss_B = F.cross_entropy(score_BG.masked_fill(~valid_G, LEAST), own_B, reduction="none")
    return mean_of_valid(loss_B, valid_B)


def mil_nce(x_BD: Tensor, y_BND: Tensor, tau: float, there_BN: Tensor | None = None) -> Tensor:
    """MIL-NCE (Miech et al. 2020, antoine77340/MIL-NCE_HowTo100M `loss.py`) of cosines, over the global batch: each x
    has N candidates y, any of which may be its own.

        1/B sum_i [ log(sum_jn exp s_ijn + sum_jn exp s_jin) - log(sum_n exp s_iin) ],   s_ijn = cos(x_i, y_jn) / tau

    The one sum over a row and its column holds the right ones twice, so that the loss is never less than log 2.

    Args:
        x_BD: [B, D].
        y_BND: [B, N, D]; with one candidate it is the NCE of MMV.
        tau: temperature.
        there_BN: [B, N] bool, which candidates there are. The others are in no sum; an x without any gives no loss, and
            still is one that a y of others must not be found by (VATT `objectives.py` AsymmetricNCE). None = all.
    """
    if there_BN is None:
        there_BN = torch.ones(y_BND.shape[:2], dtype=torch.bool, device=y_BND.device)
    with no_autocast(x_BD.device):
        row_BGN, column_BGN, own_BN = candidate_scores(x_BD, y_BND, tau, there_BN)
        every_BK = torch.cat([row_BGN.flatten(1), column_BGN.flatten(1)], 1)
        return mean_of_valid(every_BK.logsumexp(1) - own_BN.logsumexp(1), there_BN.any(1))


def candidate_scores(x_BD: Tensor, y_BND: Tensor, tau: float, there_BN: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Cosines over `tau` of what `mil_nce` compares: [B, G, N] each x with the candidates of the global batch,
    [B, G, N] its own candidates with each x of that batch, [B, N] x with its own; `LEAST` where there is none."""
    x_BD, y_BND = F.normalize(x_BD.float(), dim=1), F.normalize(y_BND.float(), dim=2)
    x_GD, y_GND = gather_rows(x_BD), gather_rows(y_BND.flatten(1)).unflatten(1, y_BND.shape[1:])
    lacking_GN, lacking_BN = ~gather_rows(there_BN.float()).bool(), ~there_BN
    row_BGN = (torch.einsum("bd,gnd->bgn", x_BD, y_GND) / tau).masked_fill(lacking_GN, LEAST)
    column_BGN = (torch.einsum("gd,bnd->bgn", x_GD, y_BND) / tau).masked_fill(lacking_BN[:, None], LEAST)
    own_BN = (torch.einsum("bd,bnd->bn", x_BD, y_BND) / tau).masked_fill(lacking_BN, LEAST)
    return row_BGN, column_BGN, own_BN
