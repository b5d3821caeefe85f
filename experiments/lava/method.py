"""LAVA's stages: `Pretrain`, `Retrieve`, which compares clips by what was pretrained, and `Linear`, which judges it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from datamodules.keyed import uniform
from datamodules.types import Batch, Outputs
from experiments.common.stage import Options, StageSpec
from experiments.common.stages.linear import LinearOptions, LinearProbe
from experiments.common.stages.network import NetworkStage
from experiments.lava.checkpoints import load
from experiments.lava.model import CENTROID, LAVA, Encoders, LAVAConfig
from experiments.lava.objective import terms


@dataclass
class PretrainOptions:
    """Of the loss."""

    text_mask: Literal["zero", "drop"] = "zero"
    """What becomes of clips without words, see `objective.terms`."""
    detach_centroid: bool = False
    """Whether no gradient goes through the centroid."""
    noise: float = 0.01
    """Standard deviation of the normal noise on log-mels (`src/augment.py`)."""


@dataclass
class NoOptions:
    """The stage has no numbers of its own."""


class LAVAStage(NetworkStage[LAVAConfig, Options]):
    """What all stages share."""

    @classmethod
    def remarks(cls, model: LAVAConfig, options: Options) -> dict[str, str]:
        return super().remarks(model, options) | {"as_the_text_of_pretraining": model.text}

    def blocks(self) -> list[nn.Module]:
        return [module for module in self.modules() if isinstance(module, nn.TransformerEncoderLayer)]

    def load_net(self, weights: Mapping[str, Tensor]) -> None:
        load(self.net, weights)


class Pretrain(LAVAStage[PretrainOptions]):
    """Every modality against every other, and against the clips' centroids."""

    compares_clips = True
    net: LAVA

    def __init__(self, spec: StageSpec[LAVAConfig, PretrainOptions]):
        super().__init__(spec)
        reads = "none" if "t" not in spec.modality or spec.text is None else spec.text.reads
        if reads != spec.model.text:
            raise ValueError(
                f"model.text={spec.model.text}, which boards show, but the stage reads {reads}: say the same there, in "
                "data.inputs.text.reads and in the modality, which has t or not"
            )
        self.net = LAVA(spec.model, spec.inputs, spec.text, spec.modality)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        options, modalities = self.spec.options, self.spec.modality
        code = {m: self.net.encode(batch, m, self.noise(batch) if m == "a" else 0.0) for m in modalities}
        has_text_B = batch["text_length"] > 0 if "t" in modalities else None
        return terms(self.net, code, has_text_B, options.text_mask, options.detach_centroid)

    def noise(self, batch: Batch) -> Tensor:
        """[B, M, F] of the log-mels, drawn from the clips' keys."""
        own = self.spec.model.spectrogram
        u_BMF = uniform(batch["key"], "log-mel noise", own.mel_bins, own.frames)
        return self.spec.options.noise * torch.special.ndtri(u_BMF.clamp(1e-6, 1 - 1e-6))


class Retrieve(LAVAStage[NoOptions]):
    """No training: two modalities' projections are compared by their cosine."""

    net: LAVA

    def __init__(self, spec: StageSpec[LAVAConfig, NoOptions]):
        super().__init__(spec)
        self.net = LAVA(spec.model, spec.inputs, spec.text, spec.modality)

    def predict_step(self, batch: Batch, batch_idx: int) -> Outputs:
        relation = self.spec.modality if self.spec.modality in self.net.relations else CENTROID
        code = {m: nn.functional.normalize(self.net.encode(batch, m), dim=1) for m in self.spec.modality}
        return {"embedding": {m: self.net.project(unit_BD, m, relation) for m, unit_BD in code.items()}}


class Linear(LAVAStage[LinearOptions], LinearProbe[LAVAConfig]):
    """A linear layer on what the frozen encoder of one modality gives, before the projection."""

    net: Encoders

    def __init__(self, spec: StageSpec[LAVAConfig, LinearOptions]):
        net = Encoders(spec.model, spec.inputs, spec.text, spec.modality)
        super().__init__(spec, net, spec.model.dim * len(spec.modality))

    def embed(self, batch: Batch) -> Tensor:
        return torch.cat([self.net.encode(batch, modality) for modality in self.spec.modality], dim=1)
