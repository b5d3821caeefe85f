"""VATT's probe of frozen features: a linear classifier of low rank, fitted to features that are made once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from datamodules.types import Batch, Outputs
from experiments.common.stage import FittedStage, Model, StageSpec
from experiments.common.stages.frozen import JUDGE, FrozenNetwork


@dataclass
class LowRankOptions:
    """Of the classifier and of its training by Adam (google-research `vatt/utils/eval/evaluators.py`)."""

    rank: int = 128
    """Numbers between its two layers, neither of which has an activation."""
    dropout: float = 0.9
    """Of those."""
    l2: float = 0.1
    """Of the sum of the second layer's squared weights."""
    lr: float = 5e-4
    passes: int = 1000
    """Over the features, in batches."""
    clips: int = 64
    """Of a batch."""


class LowRankProbe(FrozenNetwork[Model, LowRankOptions], FittedStage[Model, LowRankOptions]):
    """Subclasses build the network, load what it starts from, and write `embed`."""

    def __init__(self, spec: StageSpec[Model, LowRankOptions], net: nn.Module, width: int):
        """Builds the classifier beside the network, see `FrozenNetwork`.

        Raises:
            ValueError: clips have several labels.
        """
        super().__init__(spec, net, width)
        if spec.multilabel:
            raise ValueError("VATT's probe is for clips of one class; judge tags by a linear layer")
        options = spec.options
        first, second = nn.Linear(width, options.rank), nn.Linear(options.rank, spec.num_classes)
        self.head = nn.Sequential(first, nn.Dropout(options.dropout), second).requires_grad_(False)

    @classmethod
    def remarks(cls, model: Model, options: LowRankOptions) -> dict[str, str]:
        return super().remarks(model, options) | {JUDGE: f"linear classifier of rank {options.rank}"}

    def fit(self, features_ND: np.ndarray, label_NC: np.ndarray, seed: int) -> str:
        options = self.spec.options
        features, labels = (torch.from_numpy(values).to(self.device) for values in (features_ND, label_NC))
        draw = torch.Generator().manual_seed(seed % 2**63)
        first, second = nn.Linear(self.width, options.rank), nn.Linear(options.rank, self.spec.num_classes)
        for layer in (first, second):
            nn.init.normal_(layer.weight, std=(2 / sum(layer.weight.shape)) ** 0.5, generator=draw)  # Glorot's
            nn.init.zeros_(layer.bias)
            layer.to(self.device)
        kept, count = 1 - options.dropout, 0
        with torch.inference_mode(False), torch.enable_grad():
            optimizer = torch.optim.Adam([*first.parameters(), *second.parameters()], lr=options.lr)
            for _ in range(options.passes):
                for chosen in torch.randperm(len(features), generator=draw).split(options.clips):
                    mask = (torch.rand(len(chosen), options.rank, generator=draw) < kept).float() / kept
                    logits_BC = second(first(features[chosen]) * mask.to(self.device))
                    loss = F.cross_entropy(logits_BC, labels[chosen]) + options.l2 * second.weight.square().sum()
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                    count += 1
        for own, fitted in ((self.head[0], first), (self.head[2], second)):
            own.load_state_dict(fitted.state_dict())
        return f"a classifier of rank {options.rank} of {len(features)} windows, {count} steps"

    def predict_step(self, batch: Batch, batch_idx: int) -> Outputs:
        features_BD = self.embed(batch)
        return {"logits": {self.spec.modality: self.head(features_BD.float())}, "features": features_BD[:, None]}
