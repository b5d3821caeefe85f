"""Batch norm over the clips of all processes, on any device; torch's `SyncBatchNorm` is for accelerators alone."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from experiments.common.losses.contrastive import gather_rows, world_size

OF_ONE_PROCESS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class GlobalBatchNorm(nn.Module):
    """Computes in one process what torch's batch norm does, with its names of weights, and in several the same of all
    their clips together; processes may hold different numbers of them."""

    weight: nn.Parameter | None
    bias: nn.Parameter | None
    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(self, channels: int, eps: float = 1e-5, momentum: float = 0.1, affine: bool = True):
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.register_parameter("weight", nn.Parameter(torch.ones(channels)) if affine else None)
        self.register_parameter("bias", nn.Parameter(torch.zeros(channels)) if affine else None)
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))
        self.register_buffer("num_batches_tracked", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        """[B, channels, ...] -> the same shape."""
        if self.training:
            self.num_batches_tracked.add_(1)
        if not self.training or world_size() == 1:
            running = self.running_mean, self.running_var
            return F.batch_norm(x, *running, self.weight, self.bias, self.training, self.momentum, self.eps)
        axes, own = [0, *range(2, x.ndim)], x.float()
        var_C, mean_C = torch.var_mean(own, dim=axes, correction=0)
        count = mean_C.new_full((1,), x.numel() / x.shape[1])
        each_R = gather_rows(torch.cat([count, mean_C, var_C])[None])
        # Moments of the whole out of those of its parts.
        count_R1, mean_RC, var_RC = each_R.split([1, len(mean_C), len(mean_C)], dim=1)
        share_R1 = count_R1 / count_R1.sum()
        mean_C = (share_R1 * mean_RC).sum(0)
        var_C = (share_R1 * (var_RC + (mean_RC - mean_C) ** 2)).sum(0)
        with torch.no_grad():
            total = count_R1.sum()
            self.running_mean.lerp_(mean_C, self.momentum)
            self.running_var.lerp_(var_C * total / (total - 1), self.momentum)
        shape = [-1] + [1] * (x.ndim - 2)
        # Centred first: a product of the mean would round away what is small beside it.
        normal = (own - mean_C.view(shape)) * (var_C + self.eps).rsqrt().view(shape)
        if self.weight is not None and self.bias is not None:
            normal = normal * self.weight.view(shape) + self.bias.view(shape)
        return normal.to(x.dtype)


def over_processes(network: nn.Module) -> nn.Module:
    """Puts a `GlobalBatchNorm` in the place of each of a new network's batch norms; its weights keep their names."""
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, OF_ONE_PROCESS):
                setattr(
                    parent, name, GlobalBatchNorm(child.num_features, child.eps, child.momentum or 0.0, child.affine)
                )
    return network
