"""Distillation at the level of distributions, kept from collapse by centring and sharpening (DINO `main_dino.py`)."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn

from experiments.common.losses.contrastive import world_size


class CentredTargets(nn.Module):
    """A teacher's scores of K prototypes -> what a student shall answer, `softmax((t - c) / tau)`.

    The centre c is an exponential moving mean of the mean score over all ranks' clips, and part of a checkpoint.

    Args:
        prototypes: K.
        momentum: share of the centre that a step keeps.
    """

    centre: Tensor

    def __init__(self, prototypes: int, momentum: float):
        super().__init__()
        self.momentum = momentum
        self.register_buffer("centre", torch.zeros(1, prototypes))

    @torch.no_grad()
    def forward(self, teacher_BK: Tensor, temperature: float) -> Tensor:
        """[B, K], each row sums to 1; in training the centre then follows the scores."""
        target_BK = ((teacher_BK.float() - self.centre) / temperature).softmax(dim=-1)
        if self.training:
            mean_1K = teacher_BK.float().mean(0, keepdim=True)
            if world_size() > 1:
                dist.all_reduce(mean_1K)
            self.centre.lerp_(mean_1K / world_size(), 1 - self.momentum)
        return target_BK


def view_cross_entropy(student_NK: Tensor, target_BK: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of a student's scores, the mean over its views and clips.

    Args:
        student_NK: N = V * B scores, view after view.
        target_BK: see `CentredTargets`.
        temperature: of the student.
    """
    log_VBK = (student_NK.float() / temperature).log_softmax(dim=-1).unflatten(0, (-1, len(target_BK)))
    return -(target_BK * log_VBK).sum(-1).mean()
