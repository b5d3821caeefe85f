"""The base of stages that judge a frozen network by the features it makes of clips."""

from __future__ import annotations

from typing import Self

from torch import Tensor, nn

from datamodules.types import Batch
from experiments.common.stage import Model, Options, StageSpec
from experiments.common.stages.network import NetworkStage

JUDGE = "as_judge_of_frozen_features"
"""Of `Stage.remarks`: what a board's row says of who judges."""


class FrozenNetwork(NetworkStage[Model, Options]):
    """`net` stays in evaluation mode and learns nothing. A method writes its `load_net` and `embed` once, in a class
    that its judges share: `class Features(FrozenNetwork[Config, Options])`, `class SVM(Features[SVMOptions],
    LinearSVM[Config])`, `class Linear(Features[LinearOptions], LinearProbe[Config])`."""

    frozen = True

    def __init__(self, spec: StageSpec[Model, Options], net: nn.Module, width: int):
        """Takes the network.

        Args:
            spec: of the stage.
            net: whose features are judged.
            width: length of what `embed` gives.
        """
        super().__init__(spec)
        self.net = net.requires_grad_(False).eval()
        self.width = width

    def embed(self, batch: Batch) -> Tensor:
        """[B, width], by the network as it is."""
        raise NotImplementedError

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        self.net.eval()
        return self
