"""How far apart two sets of vectors are as distributions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from datamodules.precision import no_autocast
from experiments.common.losses.contrastive import gather_rows

GAMMAS = (1e-3, 1e-2, 1e-1, 1.0, 1e1, 1e2, 1e3)
"""Of DomainBed's MMD (`domainbed/algorithms.py`), which XKD took over."""


def gaussian_mmd(x_ND: Tensor, y_MD: Tensor, gammas: Sequence[float] = GAMMAS) -> Tensor:
    """The squared maximum mean discrepancy, biased, of the vectors of all ranks, in float32.

        MMD^2 = mean k(x, x') + mean k(y, y') - 2 mean k(x, y),   k(x, y) = sum_gamma exp(-gamma |x - y|^2)

    A vector's pair with itself counts, too. Each rank computes the loss of the global batch, whose gradients are those
    of one process with all vectors. Distances are taken difference by difference: as |x|^2 + |y|^2 - 2xy they would be
    off by about 1e-3 for the vectors of 8192 numbers that XKD compares, of which a gamma of 1000 makes e^-1.
    """
    with no_autocast(x_ND.device):
        x_ND, y_MD = gather_rows(x_ND.float()), gather_rows(y_MD.float())
        kernel = [_kernel(a, b, gammas).mean() for a, b in ((x_ND, x_ND), (y_MD, y_MD), (x_ND, y_MD))]
        return kernel[0] + kernel[1] - 2 * kernel[2]


def _kernel(x_ND: Tensor, y_MD: Tensor, gammas: Sequence[float]) -> Tensor:
    """[N, M]."""
    distance_NM = torch.cdist(x_ND, y_MD, compute_mode="donot_use_mm_for_euclid_dist").square()
    return torch.stack([torch.exp(-gamma * distance_NM) for gamma in gammas]).sum(0)
