"""MBT's one stage, `Train`: a classifier over audio, video, or both through the bottleneck."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from datamodules.types import Batch, Outputs
from experiments.common.losses.classification import classification_loss
from experiments.common.networks.layers import start_at_prior
from experiments.common.stage import Stage, StageSpec
from experiments.common.weights import without_prefix
from experiments.mbt.checkpoints import imagenet, load
from experiments.mbt.model import MBT, MBTConfig, mean_logits

INPUT = {"a": "audio", "v": "video"}


@dataclass
class TrainOptions:
    """Of training; defaults are the released configuration's."""

    label_smoothing: float = 0.3
    """Of the targets."""
    mixup_alpha: float = 0.5
    """Of the Beta(alpha, alpha) from which lambda is drawn, one for all clips of a device's batch; 0 = no mix-up."""
    prior: float = 0.5
    """Probability of a class before training, see `start_at_prior`."""
    modality_mixup: bool = False
    """Each modality is mixed by a lambda of its own, and so are the labels that its CLS token is trained with."""


class Train(Stage):
    """Each modality's CLS token is trained alone, by one classifier; their mean logits are what is measured."""

    model_config = MBTConfig
    options_config = TrainOptions

    def __init__(self, spec: StageSpec):
        super().__init__(spec)
        self.net = MBT(spec.model, spec.inputs, spec.modality, spec.num_classes)
        start_at_prior(self.net.head, spec.options.prior)

    def load_parent(self, weights: Mapping[str, Tensor]) -> None:
        """From an image ViT, the authors' weights or our own; the head is new for other classes."""
        load(self.net, without_prefix(weights, "net."))

    def load_imagenet(self) -> None:
        self.load_parent(imagenet(self.spec.model.dim))

    def weights_of_mixing(self) -> dict[str, float]:
        """Modality -> lambda: the share of the clip itself, the rest is its partner's."""
        alpha = self.spec.options.mixup_alpha
        if not alpha:
            return dict.fromkeys(self.spec.modality, 1.0)
        drawn = torch.distributions.Beta(alpha, alpha).sample((len(self.spec.modality),)).tolist()
        if not self.spec.options.modality_mixup:
            drawn = drawn[:1] * len(drawn)
        return dict(zip(self.spec.modality, drawn, strict=True))

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """The mean over modalities of each one's loss, by its own mixed labels."""
        mixing = self.weights_of_mixing()
        mixed = Batch(**batch)
        for modality, share in mixing.items():
            mixed[INPUT[modality]] = mixed_with_reverse(batch[INPUT[modality]], share)
        terms = {
            modality: self.loss(logits_BC, mixed_with_reverse(batch["label"], mixing[modality]))
            for modality, logits_BC in self.net(mixed).items()
        }
        return {"loss": torch.stack(list(terms.values())).mean(), **terms}

    def loss(self, logits_BC: Tensor, label_BC: Tensor) -> Tensor:
        """Cross-entropy; where a clip has several labels the binary one, summed over classes (scenic
        `base_models/model_utils.py`)."""
        mean = classification_loss(logits_BC, label_BC, self.spec.multilabel, self.spec.options.label_smoothing)
        return mean * self.spec.num_classes if self.spec.multilabel else mean

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return self.logged(self.losses(batch), batch)

    def predict_step(self, batch: Batch, batch_idx: int) -> Outputs:
        return {"logits": {self.spec.modality: mean_logits(self.net(batch))}}


def mixed_with_reverse(values_B: Tensor, share: float) -> Tensor:
    """`share` of each clip and the rest of the clip at the mirrored place of the batch (scenic `mbt/trainer.py`)."""
    return values_B if share == 1 else values_B.flip(0).lerp(values_B, share)
