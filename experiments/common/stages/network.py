"""The base of stages of one network, `net`, that takes other people's weights as well as its own."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from experiments.common.stage import Model, Options, Stage
from experiments.common.weights import without_prefix


class NetworkStage(Stage[Model, Options]):
    """Subclasses build `net` and write `load_net`, and `imagenet` where its library offers weights."""

    net: nn.Module

    def load_net(self, weights: Mapping[str, Tensor]) -> None:
        """Loads weights under the names of `net`, or under those of another code that the method knows, into `net`.

        Raises:
            ValueError: naming every key that should have matched and did not.
        """
        raise NotImplementedError(f"{type(self).__name__} starts from nothing; remove `after`")

    def imagenet(self) -> Mapping[str, Tensor]:
        """What the library of `net` offers, as `load_net` takes it.

        Raises:
            ValueError: where it cannot be had, saying so and that a file does it, too.
        """
        raise NotImplementedError(f"{type(self).__name__} has no ImageNet weights; remove `init`")

    def load_parent(self, weights: Mapping[str, Tensor]) -> None:
        self.load_net(without_prefix(weights, "net."))

    def load_imagenet(self) -> None:
        self.load_net(self.imagenet())
