"""MBT's one stage, `Train`: a classifier over audio, video, or both through the bottleneck."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from datamodules.types import Batch
from experiments.common.checkpoints.image_vit import imagenet
from experiments.common.losses.mixup import mixed_with_reverse, mixing_shares
from experiments.common.networks.layers import start_at_prior
from experiments.common.stage import StageSpec
from experiments.common.stages.classifier import INPUT, Classifier
from experiments.mbt.checkpoints import load
from experiments.mbt.model import MBT, MBTConfig, mean_logits


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


class Train(Classifier[MBTConfig, TrainOptions]):
    """Each modality's CLS token is trained alone, by one classifier; their mean logits are what is measured."""

    net: MBT

    def __init__(self, spec: StageSpec[MBTConfig, TrainOptions]):
        super().__init__(spec)
        self.net = MBT(spec.model, spec.inputs, spec.modality, spec.num_classes)
        start_at_prior(self.net.head, spec.options.prior)

    def load_net(self, weights: Mapping[str, Tensor]) -> None:
        """From an image ViT, the authors' weights or our own; the head is new for other classes."""
        load(self.net, weights)

    def imagenet(self) -> Mapping[str, Tensor]:
        return imagenet(self.spec.model.dim)

    def weights_of_mixing(self) -> dict[str, float]:
        """Modality -> lambda."""
        options = self.spec.options
        return mixing_shares(self.spec.modality, options.mixup_alpha, apart=options.modality_mixup)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """The mean over modalities of each one's loss, by its own mixed labels."""
        mixing = self.weights_of_mixing()
        mixed = Batch(**batch)
        for modality, share in mixing.items():
            mixed[INPUT[modality]] = mixed_with_reverse(batch[INPUT[modality]], share)
        terms = {
            modality: self.label_loss(logits_BC, mixed_with_reverse(batch["label"], mixing[modality]))
            for modality, logits_BC in self.net(mixed).items()
        }
        return {"loss": torch.stack(list(terms.values())).mean(), **terms}

    def label_loss(self, logits_BC: Tensor, label_BC: Tensor) -> Tensor:
        """Cross-entropy; where a clip has several labels the binary one, summed over classes (scenic
        `base_models/model_utils.py`)."""
        mean = super().label_loss(logits_BC, label_BC)
        return mean * self.spec.num_classes if self.spec.multilabel else mean

    def logits(self, batch: Batch) -> Tensor:
        return mean_logits(self.net(batch))
