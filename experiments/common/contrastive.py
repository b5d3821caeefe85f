"""InfoNCE over the global batch, exact under DistributedDataParallel."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor


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


def info_nce(x_BD: Tensor, y_BD: Tensor, tau: float) -> Tensor:
    """One-way InfoNCE: each x must find its own y among the y of the global batch.

        -1/B sum_i log( exp(s(x_i, y_i) / tau) / sum_j exp(s(x_i, y_j) / tau) ),   s = cosine

    Under DDP a rank takes the mean over its own x against the y of all ranks. The loss of one process with
    the whole batch is the mean of the ranks' losses, and as DDP averages the ranks' gradients while
    `gather_rows` sums what all ranks ask of a y, the parameters' gradients are equal, too.

    Args:
        x_BD, y_BD: [B, D] embeddings of any length; row i of both is a positive pair.
        tau: temperature.
    """
    first = dist.get_rank() * len(x_BD) if world_size() > 1 else 0
    own_B = torch.arange(first, first + len(x_BD), device=x_BD.device)
    with torch.autocast(x_BD.device.type, enabled=False):
        x_BD = F.normalize(x_BD.float(), dim=1)
        y_GD = gather_rows(F.normalize(y_BD.float(), dim=1))
        return F.cross_entropy(x_BD @ y_GD.T / tau, own_B)


def symmetric_info_nce(x_BD: Tensor, y_BD: Tensor, tau: float) -> Tensor:
    """The mean of InfoNCE from x to y and from y to x."""
    return (info_nce(x_BD, y_BD, tau) + info_nce(y_BD, x_BD, tau)) / 2
