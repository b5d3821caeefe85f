"""The combinatorial loss: every modality against every other, and against both others together (`loss/`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from experiments.common.losses.contrastive import info_nce


@dataclass
class PairWeights:
    """How much each pair counts; a pair of 0 is not computed. Defaults are pretraining's, fine-tuning has 1 of each."""

    t_v: float = 1.0
    t_a: float = 0.1
    v_a: float = 0.1
    t_av: float = 0.1
    """Text against sound and pictures together."""
    v_at: float = 0.1
    a_vt: float = 0.1


def embeddings_of(weights: PairWeights) -> list[str]:
    """What `combinatorial_loss` needs embeddings of, e.g. `["t", "v"]`."""
    return list(dict.fromkeys(side for name, _ in _pairs(weights) for side in name.split("_")))


def combinatorial_loss(
    embeddings: Mapping[str, Tensor], nonempty: Mapping[str, Tensor], weights: PairWeights, tau: float
) -> dict[str, Tensor]:
    """Each pair's loss by its name in `PairWeights`, and `loss`, their weighted mean.

    A pair's loss is InfoNCE with cosines, from one side to the other plus from the other to the one (a sum, not a
    mean), over the clips of the global batch that have all its modalities. It is exact under DDP as `info_nce` is.

    Args:
        embeddings: modalities together, e.g. `av` -> [B, D]; those of `embeddings_of`.
        nonempty: modality -> [B] bool, the clips that have it.
        weights: of the pairs.
        tau: temperature; 0.05 in the paper.

    Raises:
        ValueError: every weight is 0.
    """
    pairs = _pairs(weights)
    terms = {}
    for name, _ in pairs:
        one, other = name.split("_")
        x_BD, y_BD = embeddings[one], embeddings[other]
        valid_B = torch.stack([nonempty[modality] for modality in one + other]).all(0)
        terms[name] = info_nce(x_BD, y_BD, tau, valid_B) + info_nce(y_BD, x_BD, tau, valid_B)
    total = cast(Tensor, sum(weight * terms[name] for name, weight in pairs))
    return {**terms, "loss": total / sum(weight for _, weight in pairs)}


def _pairs(weights: PairWeights) -> list[tuple[str, float]]:
    """Names and weights of the pairs that count."""
    pairs = [(name, weight) for name, weight in vars(weights).items() if weight]
    if not pairs:
        raise ValueError(f"nothing is left of the loss: set one of {', '.join(vars(weights))} above 0")
    return pairs
