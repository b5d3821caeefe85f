"""VATT's losses (google-research `vatt/utils/train/objectives.py`, `vatt/modeling/backbones/audio/factory.py`)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from datamodules import keyed
from datamodules.precision import no_autocast
from experiments.common.losses.contrastive import candidate_scores, gather_rows, mean_of_valid


def noisy(sound_BT: Tensor, key_B: Tensor, share: float) -> Tensor:
    """Waveforms with Gaussian noise, whose deviation is `share` of a clip's largest value (official
    `data/processing.py`)."""
    normal_BT = keyed.normal(key_B, "noise of the waveform", sound_BT.shape[1])
    return sound_BT + share * sound_BT.abs().amax(1, keepdim=True) * normal_BT


def tagging_loss(logits_BC: Tensor, label_BC: Tensor) -> Tensor:
    """Binary cross-entropy, summed over classes and averaged over clips, each of which counts by how rare its tags are
    in the global batch: the mean over its tags of 1 / (how many clips have it)."""
    count_C = gather_rows(label_BC).sum(0)
    rarity_BC = label_BC * torch.where(count_C > 0, 1 / count_C.clamp(min=1e-12), 0)
    weight_B = rarity_BC.sum(1) / label_BC.sum(1).clamp(min=1e-12)
    loss_BC = F.binary_cross_entropy_with_logits(logits_BC.float(), label_BC, reduction="none")
    return (weight_B * loss_BC.sum(1)).mean()


def two_way_nce(x_BD: Tensor, y_BND: Tensor, tau: float, there_BN: Tensor) -> Tensor:
    """The authors' other objective, `SymmetricNCE`: MIL-NCE from x to y plus that from y to x, each with a denominator
    of its own; `mil_nce` has one for both.

    Args:
        x_BD: [B, D].
        y_BND: [B, N, D], any of the N may be x's own.
        tau: temperature of the cosines.
        there_BN: [B, N] bool, which there are.
    """
    with no_autocast(x_BD.device):
        to_y_BGN, to_x_BGN, own_BN = candidate_scores(x_BD, y_BND, tau, there_BN)
        both_B = to_y_BGN.flatten(1).logsumexp(1) + to_x_BGN.flatten(1).logsumexp(1)
        return mean_of_valid(both_B - 2 * own_BN.logsumexp(1), there_BN.any(1))
