"""Mix-up within a batch; with clips from outside of it the data are mixed already (`data.augment.mixup`)."""

from __future__ import annotations

import torch
from torch import Tensor


def mixing_shares(names: str, alpha: float, apart: bool) -> dict[str, float]:
    """Name -> lambda, the share of a clip itself, drawn from Beta(alpha, alpha); the rest is its partner's.

    Args:
        names: what is mixed, e.g. modalities.
        alpha: 0 = nothing is mixed.
        apart: each has a lambda of its own.
    """
    if not alpha:
        return dict.fromkeys(names, 1.0)
    drawn = torch.distributions.Beta(alpha, alpha).sample((len(names),)).tolist()
    return dict(zip(names, drawn if apart else drawn[:1] * len(drawn), strict=True))


def mixed_with_reverse(values_B: Tensor, share: float) -> Tensor:
    """`share` of each clip and the rest of the clip at the mirrored place of the batch (scenic `mbt/trainer.py`)."""
    return values_B if share == 1 else values_B.flip(0).lerp(values_B, share)
