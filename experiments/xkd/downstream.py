"""What XKD's pretrained encoders are used for: a linear SVM or a linear layer on what they make of clips, frozen, and
fine-tuning. Clips are described by the mean of their patches after the final norm; CLS plays no part."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from datamodules.types import Batch
from experiments.common.losses.mixup import mixed_or_cut
from experiments.common.networks.positions import resized
from experiments.common.networks.vit import PatchViT, pooled
from experiments.common.stage import Options, StageSpec
from experiments.common.stages.classifier import Classifier
from experiments.common.stages.linear import LinearOptions, LinearProbe
from experiments.common.stages.network import NetworkStage
from experiments.common.stages.svm import LinearSVM, SVMOptions
from experiments.common.weights import load_strict
from experiments.xkd.checkpoints import encoder_weights
from experiments.xkd.model import INPUT, Encoding, XKDConfig


@dataclass(kw_only=True)
class Judged:
    """Of all stages after pretraining."""

    network: Literal["teacher", "student"] = "teacher"
    """Whose encoders are taken over from a pretraining. The release keeps both, and its class describes clips by the
    teacher unless it is asked for the student (`models/xkd.py`, `forward_features`)."""


class Described(NetworkStage[XKDConfig, Options]):
    """Clips as vectors, by the encoders of the stage's modalities."""

    net: Encoding

    def load_net(self, weights: Mapping[str, Tensor]) -> None:
        """From `Pretrain`, ours or the authors'; or an encoder of the one modality that they released."""
        found = dict(encoder_weights(weights, cast(Judged, self.spec.options).network))
        for m in self.spec.modality:
            if (key := f"encoder.{m}.positions") in found:
                found[key] = for_grid(found[key], self.net.encoder[m])
        others = (f"encoder.{m}" for m in "av" if m not in self.spec.modality)
        load_strict(self.net, found, unused=("head", "student", "decoder", "target", *others))

    def embed(self, batch: Batch) -> Tensor:
        """[B, D] of one modality; [B, 2 D] of both, each of length 1 (`audio_video_svm.py`)."""
        seen: Mapping[str, Tensor] = batch  # type: ignore[assignment]  # keys by modality
        means = [
            pooled(self.net.encoder[m](seen[INPUT[m]].mT if m == "a" else seen[INPUT[m]])) for m in self.spec.modality
        ]
        return means[0] if len(means) == 1 else torch.cat([F.normalize(mean, dim=1) for mean in means], dim=1)


def for_grid(table_1SD: Tensor, encoder: PatchViT) -> Tensor:
    """Positions that were learned for pictures of another size, for the encoder's; others as they are."""
    times, *own = encoder.grid
    side = math.isqrt((table_1SD.shape[1] - 1) // times)
    square = len(own) == 2 and 1 + times * side**2 == table_1SD.shape[1]
    return resized(table_1SD, (times, side, side), encoder.grid) if square else table_1SD


def net_of(spec: StageSpec[XKDConfig, Options]) -> tuple[Encoding, int]:
    """The encoders of the stage's modalities, and the length of what they make of a clip."""
    return Encoding(spec.model, spec.inputs, spec.modality), spec.model.dim * len(spec.modality)


@dataclass
class JudgedSVM(Judged, SVMOptions):
    """Of the linear SVM."""


class SVM(Described[SVMOptions], LinearSVM[XKDConfig]):
    """A linear SVM on the frozen encoders."""

    options_config = JudgedSVM

    def __init__(self, spec: StageSpec[XKDConfig, SVMOptions]):
        super().__init__(spec, *net_of(spec))


@dataclass
class JudgedLinear(Judged, LinearOptions):
    """Of the linear layer."""


class Linear(Described[LinearOptions], LinearProbe[XKDConfig]):
    """A linear layer on the frozen encoders."""

    options_config = JudgedLinear

    def __init__(self, spec: StageSpec[XKDConfig, LinearOptions]):
        super().__init__(spec, *net_of(spec))


@dataclass
class FinetuneOptions(Judged):
    """Of fine-tuning."""

    label_smoothing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    """Of pictures, within a batch, see `mixed_or_cut`."""


class Finetune(Described[FinetuneOptions], Classifier[XKDConfig, FinetuneOptions]):
    """A linear layer on the encoders, which go on learning."""

    def __init__(self, spec: StageSpec[XKDConfig, FinetuneOptions]):
        super().__init__(spec)
        self.net, width = net_of(spec)
        self.head = nn.Linear(width, spec.num_classes)
        nn.init.normal_(self.head.weight, std=0.01)  # `models/wrapper.py`
        nn.init.zeros_(self.head.bias)

    def logits(self, batch: Batch) -> Tensor:
        return self.head(self.embed(batch))

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        options = self.spec.options
        if not (options.mixup or options.cutmix):
            return super().losses(batch)
        video, label = mixed_or_cut(batch["video"], batch["label"], options.mixup, options.cutmix)
        return super().losses(Batch(**{**batch, "video": video, "label": label}))

    def layer_of(self, name: str) -> tuple[int, int]:
        """Embeddings are layer 0, block i is layer i + 1, the final norm and the head are the last."""
        last, parts = self.spec.model.depth + 1, name.split(".")
        if parts[0] == "head" or parts[3] == "norm":
            return last, last
        return (int(parts[4]) + 1 if parts[3] == "blocks" else 0), last
