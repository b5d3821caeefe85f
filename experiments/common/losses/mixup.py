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


def mixed_or_cut(video_B3THW: Tensor, label_BC: Tensor, mixup: float, cutmix: float) -> tuple[Tensor, Tensor]:
    """Clips, each mixed with that at the mirrored place of the batch, or with a box of its pictures, the same in all
    frames; and labels mixed by the same share (timm `data/mixup.py`, a batch at a time).

    Args:
        video_B3THW: pictures.
        label_BC: labels.
        mixup: alpha of the Beta distribution of mix-up's share; 0 = none.
        cutmix: alpha of that of the area that cut-mix leaves; 0 = none. With both, either is as likely.
    """
    cuts = cutmix > 0 and (not mixup or bool(torch.rand(()) < 0.5))
    share = mixing_shares("v", cutmix if cuts else mixup, apart=False)["v"]
    if not cuts:
        return mixed_with_reverse(video_B3THW, share), mixed_with_reverse(label_BC, share)
    height, width = video_B3THW.shape[-2:]
    (top, bottom), (left, right) = _box(height, share), _box(width, share)
    cut = video_B3THW.clone()
    cut[..., top:bottom, left:right] = video_B3THW.flip(0)[..., top:bottom, left:right]
    return cut, mixed_with_reverse(label_BC, 1 - (bottom - top) * (right - left) / (height * width))


def _box(side: int, share: float) -> tuple[int, int]:
    """From where to where a box reaches that leaves this share of the area, around any middle; cut at the edges."""
    length, middle = int(side * (1 - share) ** 0.5), int(torch.randint(side, ()))
    return max(0, middle - length // 2), min(side, middle + length // 2)
