"""CrissCross's objective: six pairs of views that predict each other (official `models/crisscross.py`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

GROUPS = {
    "intra": (("v1", "v2"), ("a1", "a2")),
    "synchronous": (("v1", "a1"), ("v2", "a2")),
    "asynchronous": (("v1", "a2"), ("v2", "a1")),
}
"""Pairs of views: modality and window."""


def target(z_BP: Tensor) -> Tensor:
    """What is predicted does not learn from it; without this all views collapse into one point (SimSiam)."""
    return z_BP.detach()


def distance(p_BP: Tensor, z_BP: Tensor) -> Tensor:
    """-1 where the prediction has the direction of z, 1 where it has the opposite one."""
    return -F.cosine_similarity(p_BP.float(), target(z_BP).float(), dim=1).mean()


def criss_cross(z: Mapping[str, Tensor], p: Mapping[str, Tensor], groups: Iterable[str]) -> dict[str, Tensor]:
    """View -> [B, P] projections and predictions -> each pair's distance, in both directions, and `loss`, the mean."""
    pairs = [pair for group in groups for pair in GROUPS[group]]
    terms = {x + y: (distance(p[x], z[y]) + distance(p[y], z[x])) / 2 for x, y in pairs}
    return {**terms, "loss": torch.stack(list(terms.values())).mean()}


def spread(z_BP: Tensor) -> Tensor:
    """How far z at length 1 deviates: 0 where all clips are one point, 1 / sqrt(P) where they lie in all directions."""
    return F.normalize(z_BP.detach().float(), dim=1).std(dim=0).mean()
