"""The loss: symmetric InfoNCE of pairs of modalities, and of each modality and the centroid of all (commit 5e513f5)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from experiments.common.losses.contrastive import symmetric_info_nce
from experiments.lava.model import CENTROID, LAVA


def terms(
    net: LAVA,
    code: Mapping[str, Tensor],
    has_text_B: Tensor | None,
    text_mask: Literal["zero", "drop"] = "zero",
    detach_centroid: bool = False,
) -> dict[str, Tensor]:
    """Each term by its name, and `loss`, their sum with weights of 1.

        contrast(x, y) = 1/2 [CE(s x y^T, diag) + CE(s y x^T, diag)],   x, y unit vectors
        c = normalise((a + v + t) / 3),   L = sum over pairs contrast(x, y) + sum over modalities contrast(x, c)

    The authors' negatives are those of one device; here they are those of the global batch, as in all methods.

    Args:
        net: for its projections and s.
        code: modality -> [B, D] what its encoder gives.
        has_text_B: bool, the clips that have words; None where no text is looked at.
        text_mask: `zero`: without words the code is 0, so that all such clips have the same embedding, which is
            compared as the others are (theirs). `drop`: a clip without words takes no part in what is compared with
            text, and its centroid is that of the other modalities.
        detach_centroid: whether no gradient goes through the centroid; in theirs it does.
    """
    unit = {modality: F.normalize(of_BD, dim=1) for modality, of_BD in code.items()}
    if has_text_B is not None:
        unit["t"] = unit["t"] * has_text_B[:, None]

    def contrast(x_BD: Tensor, y_BD: Tensor, members: str) -> Tensor:
        valid_B = has_text_B if text_mask == "drop" and "t" in members else None
        return symmetric_info_nce(x_BD, y_BD, 1 / net.scale, valid_B)

    found = {}
    for relation, members in net.relations.items():
        own = {modality: net.project(unit[modality], modality, relation) for modality in members}
        if relation != CENTROID:
            found[relation] = contrast(own[members[0]], own[members[1]], members)
            continue
        present = dict(own)
        if has_text_B is not None and text_mask == "drop":
            present["t"] = own["t"] * has_text_B[:, None]
        centroid_BD = F.normalize(torch.stack(list(present.values())).mean(0), dim=1)
        centroid_BD = centroid_BD.detach() if detach_centroid else centroid_BD
        found |= {f"{modality}_{CENTROID}": contrast(own[modality], centroid_BD, modality) for modality in members}
    return {**found, "loss": torch.stack(list(found.values())).sum()}
