"""PolyViT's stages: `Train`, on one dataset or on several, one a step; `Linear`, on frozen features."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import torch
from torch import Tensor

from datamodules.parts import PartSpec
from datamodules.types import Batch, Inputs, Outputs
from experiments.common.batches import stream
from experiments.common.checkpoints.image_vit import imagenet
from experiments.common.losses.classification import classification_loss
from experiments.common.losses.mixup import mixed_with_reverse, mixing_shares
from experiments.common.stage import Options, StageSpec
from experiments.common.stages.linear import LinearOptions, LinearProbe
from experiments.common.stages.network import NetworkStage
from experiments.polyvit.checkpoints import load
from experiments.polyvit.model import PLACE, PolyViT, PolyViTConfig, Sizes, idle


@dataclass
class TaskOptions:
    """Of a dataset, as the recipe for it alone has them."""

    rate: float = 1.0
    """The learning rate, in shares of the schedule's."""
    drop_path: float = 0.0
    """Stochastic depth of the last layer; rises linearly from 0."""
    mixup: float = 0.0
    """Of the Beta(alpha, alpha) from which lambda is drawn, one for all clips of a device's batch; 0 = no mix-up."""
    sigmoid: bool = False
    """Binary cross-entropy, although a clip has one label."""


@dataclass
class TrainOptions:
    """Of training."""

    tasks: dict[str, TaskOptions] = field(default_factory=dict)
    """By the names of the mixture's parts; of one that is not named the defaults."""
    head: str = ""
    """The classifier of a stage without a mixture, called as in one; empty: it is of this stage alone."""
    idle: Literal["drift", "stay"] = "drift"
    """Parameters without a part in a step: moved on by their momentum, as in the release, or left as they are."""


class OnPolyViT(NetworkStage[PolyViTConfig, Options]):
    """A stage with the network, ours, the authors' or an image ViT's."""

    net: PolyViT

    def load_net(self, weights: Mapping[str, Tensor]) -> None:
        load(self.net, weights)

    def imagenet(self) -> Mapping[str, Tensor]:
        return imagenet(self.spec.model.dim)


class Train(OnPolyViT[TrainOptions]):
    """One dataset a step, by its own learning rate and augmentation; the encoder is that of all."""

    some_parameters_idle = True

    def __init__(self, spec: StageSpec[PolyViTConfig, TrainOptions]):
        super().__init__(spec)
        self.parts = {part.name: part for part in parts_of(spec)}
        self.net = PolyViT(spec.model, sizes_of(self.parts))

    def task(self, name: str) -> TaskOptions:
        return self.spec.options.tasks.get(name, TaskOptions())

    def seen(self, batch: Batch) -> dict[str, Tensor | slice]:
        """Part -> which clips of the batch are of it."""
        if self.spec.mixes_parts:
            place_B = stream(batch, "part")
            return {name: place_B == place for place, name in enumerate(self.parts)}
        name = cast("dict[str, str]", batch).get("part_name", next(iter(self.parts)))
        return {name: slice(None)}

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Of the batch's dataset; where it has clips of all, the sum, each weighted by its share of the learning rate,
        which for SGD is what a step of each with that rate would be."""
        terms = {name: self.part_loss(self.parts[name], batch, of) for name, of in self.seen(batch).items()}
        weights = {name: self.task(name).rate if self.spec.mixes_parts else 1.0 for name in terms}
        return {"loss": torch.stack([weights[name] * term for name, term in terms.items()]).sum(), **terms}

    def part_loss(self, part: PartSpec, batch: Batch, of: Tensor | slice) -> Tensor:
        """Cross-entropy; binary where a clip has several labels, summed over classes (scenic `model_utils.py`)."""
        task = self.task(part.name)
        share = mixing_shares(part.modality, task.mixup, apart=False)[part.modality]
        x, label_BC = (mixed_with_reverse(stream(batch, key)[of], share) for key in (PLACE[part.modality], part.label))
        logits_BC = self.net(part.name, part.modality, x, task.drop_path if self.training else 0.0)
        binary = part.multilabel or task.sigmoid
        return classification_loss(logits_BC, label_BC, binary) * (part.num_classes if binary else 1)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        self.part_name = next(iter(self.seen(batch)))

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        if self.spec.options.idle == "drift":
            for parameter in idle(self).values():
                parameter.grad = torch.zeros_like(parameter)

    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, *args: Any, **kwargs: Any) -> None:
        """A step by the learning rate of its dataset."""
        share = 1.0 if self.spec.mixes_parts else self.task(self.part_name).rate
        scheduled = [group["lr"] for group in optimizer.param_groups]
        for group, rate in zip(optimizer.param_groups, scheduled, strict=True):
            group["lr"] = share * rate
        super().optimizer_step(epoch, batch_idx, optimizer, *args, **kwargs)
        for group, rate in zip(optimizer.param_groups, scheduled, strict=True):
            group["lr"] = rate

    def predict_step(self, batch: Batch, batch_idx: int) -> Outputs:
        """Of the stage's own dataset."""
        own = next(iter(self.parts.values()))
        x = stream(batch, PLACE[own.modality])
        return {"logits": {self.spec.modality: self.net(own.name, own.modality, x)}}


def parts_of(spec: StageSpec[PolyViTConfig, Any]) -> list[PartSpec]:
    """The datasets of a stage, its own first."""
    if spec.parts:
        return spec.parts
    name = getattr(spec.options, "head", "") or "own"
    own = PartSpec(name, spec.inputs, spec.modality, spec.num_classes, spec.multilabel, "label", spec.batch_size)
    return [own]


def sizes_of(parts: Mapping[str, PartSpec]) -> Sizes:
    """What the network is built for.

    Raises:
        ValueError: a dataset is not of one modality, or two of one modality are not alike.
    """
    inputs: dict[str, Inputs] = {}
    for name, part in parts.items():
        if part.modality not in PLACE:
            raise ValueError(f"modality={part.modality} of {name}: PolyViT looks at one at a time: {', '.join(PLACE)}")
        inputs.setdefault(part.modality, part.inputs)
    return Sizes(inputs, {name: part.num_classes for name, part in parts.items()})


class Linear(OnPolyViT[LinearOptions], LinearProbe[PolyViTConfig]):
    """A linear layer on the frozen encoder's CLS token."""

    def __init__(self, spec: StageSpec[PolyViTConfig, LinearOptions]):
        parts = {part.name: part for part in parts_of(spec)}
        net = PolyViT(spec.model, Sizes(sizes_of(parts).inputs, {}))
        super().__init__(spec, net, spec.model.dim)

    def embed(self, batch: Batch) -> Tensor:
        modality = self.spec.modality
        return self.net.encode(modality, stream(batch, PLACE[modality]))
