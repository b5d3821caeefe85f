"""Batch norm over the clips of all processes."""

from __future__ import annotations

from torch import Tensor, nn

from experiments.common.losses.contrastive import gather_rows, own_rows, world_size


class GlobalBatchNorm(nn.BatchNorm1d):
    """[B, D] -> [B, D], by the statistics of the global batch, on any device; torch's `SyncBatchNorm` needs a GPU.
    Every process must hold equally many clips. Of one process it is torch's `BatchNorm1d`."""

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or world_size() == 1:
            return super().forward(input)
        return super().forward(gather_rows(input))[own_rows(len(input), input.device)]
