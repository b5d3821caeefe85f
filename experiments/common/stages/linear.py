"""A linear layer on what a frozen network makes of clips, trained by gradient."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from datamodules.types import Batch, Outputs
from experiments.common.losses.classification import classification_loss
from experiments.common.networks.batch_norm import GlobalBatchNorm
from experiments.common.stage import Model, StageSpec
from experiments.common.stages.frozen import JUDGE, FrozenNetwork


@dataclass
class LinearOptions:
    """Of a linear layer on frozen features, and of what stands before it, in this order."""

    l2_norm: bool = False
    """Features are divided by their length."""
    batch_norm: bool = False
    """Each feature is normalised over the clips of the batch, of all processes, without scale and shift (MAE
    `main_linprobe.py`, where it is of each process's clips)."""
    dropout: float = 0.0
    """Share of the features that are left out of a step."""
    init_std: float = 0.0
    """Standard deviation of the weights before training, biases 0; 0 = as torch draws them."""


class LinearProbe(FrozenNetwork[Model, LinearOptions]):
    """Cross-entropy, or binary cross-entropy where a clip has several labels; what it is trained by is `optim`.
    Subclasses build the network, load what it starts from, and write `embed`."""

    def __init__(self, spec: StageSpec[Model, LinearOptions], net: nn.Module, width: int):
        super().__init__(spec, net, width)
        options, linear = spec.options, nn.Linear(width, spec.num_classes)
        if options.init_std:
            nn.init.normal_(linear.weight, std=options.init_std)
            nn.init.zeros_(linear.bias)
        norm = GlobalBatchNorm(width, affine=False) if options.batch_norm else nn.Identity()
        self.head = nn.Sequential(norm, nn.Dropout(options.dropout), linear)

    @classmethod
    def remarks(cls, model: Model, options: LinearOptions) -> dict[str, str]:
        return super().remarks(model, options) | {JUDGE: "linear layer"}

    def logits(self, batch: Batch) -> Tensor:
        """[B, C]; no gradient reaches the network."""
        with torch.no_grad():
            features_BD = self.embed(batch).float()
        return self.head(F.normalize(features_BD, dim=1) if self.spec.options.l2_norm else features_BD)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        return {"loss": classification_loss(self.logits(batch), batch["label"], self.spec.multilabel)}

    def predict_step(self, batch: Batch, batch_idx: int) -> Outputs:
        return {"logits": {self.spec.modality: self.logits(batch)}}
