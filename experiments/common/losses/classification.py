"""Classification losses that several methods share. Shape suffixes: B clips, C classes."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def smooth(label_BC: Tensor, amount: float) -> Tensor:
    """Label smoothing, `(1 - amount) * label + amount / C`, of labels in 0..1 that may be mixed."""
    return (1 - amount) * label_BC + amount / label_BC.shape[1]


def classification_loss(logits_BC: Tensor, label_BC: Tensor, multilabel: bool, smoothing: float = 0.0) -> Tensor:
    """Binary cross-entropy where a clip has several labels, averaged over clips and classes; else cross-entropy,
    averaged over clips. In float32.

    Args:
        logits_BC: [B, C].
        label_BC: [B, C] in 0..1, as `Batch.label`.
        multilabel: the task's kind.
        smoothing: see `smooth`.
    """
    target_BC = smooth(label_BC, smoothing) if smoothing else label_BC
    if multilabel:
        return F.binary_cross_entropy_with_logits(logits_BC.float(), target_BC)
    return F.cross_entropy(logits_BC.float(), target_BC)
