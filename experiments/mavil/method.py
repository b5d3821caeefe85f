"""MAViL's stages: `Pretrain` (stage 1) and `Distill` (stage 2); `Finetune` and `Retrieve` (no training) are in
`downstream.py`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from datamodules.types import Batch
from experiments.common.losses.contrastive import symmetric_info_nce
from experiments.common.networks.masking import Masking, masked_mse, random_masking
from experiments.common.networks.patches import normalized_patches, patchify
from experiments.common.stage import Stage, StageSpec
from experiments.common.teacher import Taught
from experiments.common.weights import load_strict
from experiments.mavil.checkpoints import (
    fresh_after_image_mae,
    from_image_mae,
    is_image_mae,
    is_official,
    translated,
)
from experiments.mavil.downstream import SVM, Finetune, Retrieve
from experiments.mavil.model import MAViLConfig, Trunk, audio_decoder, pool, video_decoder

__all__ = ["SVM", "Distill", "Finetune", "Pretrain", "Retrieve"]


@dataclass
class PretrainOptions:
    """Of both pretraining stages; defaults are the paper's."""

    mask_ratio: float = 0.8
    """Share of the patches that are hidden, of audio and of video."""
    use_inter: bool = True
    """Contrast a clip's sound with its picture."""
    use_intra: bool = True
    """Contrast two differently masked views of one modality."""
    alpha: float = 0.1
    """Weight of the inter-modal term."""
    beta: float = 0.01
    """Weight of the intra-modal term."""
    tau: float = 0.1
    """Temperature of both."""


@dataclass
class RawOptions(PretrainOptions):
    """Of stage 1."""

    norm_pix: bool = True
    """Targets are normalised patch by patch."""


Pretraining = TypeVar("Pretraining", bound=PretrainOptions)


class MaskedAudioVideo(Stage[MAViLConfig, Pretraining]):
    """What both pretraining stages do: predict masked patches from fused tokens, contrast uni-modal ones."""

    compares_clips = True

    def __init__(self, spec: StageSpec[MAViLConfig, Pretraining]):
        super().__init__(spec)
        config, inputs = spec.model, spec.inputs
        self.trunk = Trunk(config, inputs)
        assert inputs.audio is not None and inputs.video is not None  # or there would be no trunk
        audio_dim, video_dim = self.target_dims()
        self.audio_decoder = audio_decoder(config, inputs.audio, audio_dim)
        self.video_decoder = video_decoder(config, inputs.video, video_dim)

    def target_dims(self) -> tuple[int, int]:
        """Size of what is predicted of an audio patch and of a video patch."""
        raise NotImplementedError

    def targets(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """What is predicted: [B, L_a, P_a] of audio and [B, L_v, P_v] of video, without gradient."""
        raise NotImplementedError

    def masking(self, batch: Batch, view: int) -> tuple[Masking, Masking]:
        """The masks of audio and of video in the first or second view; all four are independent."""
        ratio, key = self.spec.options.mask_ratio, batch["key"]
        return (
            random_masking(key, f"audio mask {view}", self.trunk.audio.length, ratio),
            random_masking(key, f"video mask {view}", self.trunk.video.length, ratio),
        )

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """The objective, `loss`, and its terms.

        L = L_audio + L_video + alpha * L_inter + beta * L_intra
        """
        options = self.spec.options
        audio, video = self.trunk.audio.embed(batch["audio"]), self.trunk.video.embed(batch["video"])

        # The encoders see the visible patches only ...
        mask_a, mask_v = self.masking(batch, view=1)
        a = self.trunk.audio.encode(audio, mask_a.keep_BK)
        v = self.trunk.video.encode(video, mask_v.keep_BK)

        # ... the fusion encoder mixes both modalities, and each decoder predicts its masked patches.
        a_fused, v_fused = self.trunk.fusion(a, v)
        target_a, target_v = self.targets(batch)
        terms = {
            "audio": masked_mse(self.audio_decoder(a_fused, mask_a.keep_BK), target_a, mask_a.masked_BL),
            "video": masked_mse(self.video_decoder(v_fused, mask_v.keep_BK), target_v, mask_v.masked_BL),
        }
        loss = terms["audio"] + terms["video"]

        # The contrastive terms compare masked uni-modal embeddings, from before the fusion.
        if options.use_inter:
            terms["inter"] = symmetric_info_nce(pool(a), pool(v), options.tau)
            loss = loss + options.alpha * terms["inter"]
        if options.use_intra:
            mask_a2, mask_v2 = self.masking(batch, view=2)
            a2 = self.trunk.audio.encode(audio, mask_a2.keep_BK)
            v2 = self.trunk.video.encode(video, mask_v2.keep_BK)
            intra_a = symmetric_info_nce(pool(a), pool(a2), options.tau)
            intra_v = symmetric_info_nce(pool(v), pool(v2), options.tau)
            terms["intra"] = (intra_a + intra_v) / 2
            loss = loss + options.beta * terms["intra"]
        return {"loss": loss, **terms}


class Pretrain(MaskedAudioVideo[RawOptions]):
    """Stage 1: the targets are the raw patches of each modality."""

    def target_dims(self) -> tuple[int, int]:
        config = self.spec.model
        return config.patch**2, config.tubelet * config.patch**2 * 3

    @torch.no_grad()
    def targets(self, batch: Batch) -> tuple[Tensor, Tensor]:
        config = self.spec.model
        raw = normalized_patches if self.spec.options.norm_pix else patchify
        return (
            raw(batch["audio"], (config.patch, config.patch)),
            raw(batch["video"], (config.tubelet, config.patch, config.patch)),
        )

    def load_parent(self, weights: Mapping[str, Tensor]) -> None:
        """From an image MAE (video encoder, fusion and video decoder), the authors' trunk, or another stage 1."""
        if is_image_mae(weights):
            video = from_image_mae(weights, self.spec.model.fusion_depth, self.spec.model.tubelet)
            load_strict(self, video, new=fresh_after_image_mae(weights))
        else:
            new = ("audio_decoder", "video_decoder") if is_official(weights) else ()
            load_strict(self, translated(weights, self.trunk), new=new, unused=("norm", "head"))

    def load_imagenet(self) -> None:
        raise ValueError("no library offers an image MAE; name its file, e.g. init=mae_pretrain_vit_base_full.pth")


@dataclass
class DistillOptions(PretrainOptions):
    """Of stage 2."""

    target: Literal["fused_teacher", "uni_teacher"] = "fused_teacher"
    """The teacher's tokens after the fusion, or (ablation) each modality's tokens from before it."""
    norm_target: bool = True
    """Targets are layer-normalised token by token, without scale and shift."""
    student_init: Literal["random", "teacher"] = "random"
    """The student starts afresh, or (ablation) as a copy of its teacher's encoders."""


class Distill(Taught, MaskedAudioVideo[DistillOptions]):
    """Stage 2: a masked student predicts what its frozen teacher, the stage before, makes of the complete pair."""

    def target_dims(self) -> tuple[int, int]:
        return self.spec.model.dim, self.spec.model.dim

    def load_parent(self, weights: Mapping[str, Tensor]) -> None:
        """Takes a stage 1 or an earlier stage 2 as the teacher."""
        holder = nn.Module()
        holder.trunk = Trunk(self.spec.model, self.spec.inputs)
        unused = ("audio_decoder", "video_decoder", "norm", "head")
        load_strict(holder, translated(weights, holder.trunk), unused=unused)
        self.take_teacher(holder.trunk)
        if self.spec.options.student_init == "teacher":
            self.trunk.load_state_dict(self.teacher.state_dict())

    @torch.no_grad()
    def targets(self, batch: Batch) -> tuple[Tensor, Tensor]:
        teacher = self.teacher
        assert isinstance(teacher, Trunk)
        audio, video = teacher.audio(batch["audio"]), teacher.video(batch["video"])
        if self.spec.options.target == "fused_teacher":
            audio, video = teacher.fusion(audio, video)
        if self.spec.options.norm_target:
            audio, video = (F.layer_norm(tokens.float(), tokens.shape[-1:]) for tokens in (audio, video))
        return audio[:, 1:], video[:, 1:]
