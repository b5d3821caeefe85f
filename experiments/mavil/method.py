"""MAViL's stages: `Pretrain` (stage 1), `Distill` (stage 2), `Finetune`, and `Retrieve` (no training)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from datamodules.types import Batch, Modality, Outputs
from experiments.common.contrastive import symmetric_info_nce
from experiments.common.layers import LayerNorm, start_at_prior
from experiments.common.losses import classification_loss
from experiments.common.masking import Masking, random_masking, random_places, random_places_2d
from experiments.common.stage import Stage, StageSpec
from experiments.common.teacher import Taught
from experiments.common.weights import load_strict
from experiments.mavil.checkpoints import from_image_mae, from_official, is_image_mae, is_official
from experiments.mavil.model import MAViLConfig, Trunk, audio_decoder, patchify, pool, video_decoder


def translated(weights: Mapping[str, Tensor], trunk: Trunk, modality: Modality = "av") -> Mapping[str, Tensor]:
    """Weights under our names, whether they are ours or the authors'."""
    if not is_official(weights):
        return weights
    positions = {name: part.positions for name, part in trunk.named_children() if name != "fusion"}
    return from_official(weights, modality, positions)


def normalized_patches(x: Tensor, patch: tuple[int, ...]) -> Tensor:
    """[B, C, *size] -> [B, L, P]: raw patches, each with mean 0 and (unbiased) variance 1."""
    patches_BLP = patchify(x, patch)
    variance, mean = torch.var_mean(patches_BLP, dim=-1, keepdim=True)
    return (patches_BLP - mean) / (variance + 1e-6).sqrt()


def masked_mse(prediction_BLP: Tensor, target_BLP: Tensor, masked_BL: Tensor) -> Tensor:
    """Squared error, averaged over the elements of a patch and then over the masked patches only."""
    error_BL = (prediction_BLP.float() - target_BLP.float()).square().mean(dim=-1)
    return (error_BL * masked_BL).sum() / masked_BL.sum()  # indexing by the mask would wait for the device


# --- pretraining ----------------------------------------------------------------------------------------------


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


class MaskedAudioVideo(Stage):
    """What both pretraining stages do: predict masked patches from fused tokens, contrast uni-modal ones."""

    model_config = MAViLConfig
    compares_clips = True

    def __init__(self, spec: StageSpec):
        super().__init__(spec)
        config, inputs = spec.model, spec.inputs
        self.trunk = Trunk(config, inputs)
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

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return self.logged(self.losses(batch), batch)


class Pretrain(MaskedAudioVideo):
    """Stage 1: the targets are the raw patches of each modality."""

    options_config = RawOptions

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
        """From an image MAE (video encoder and fusion), the authors' trunk, or another stage 1."""
        if is_image_mae(weights):
            video = from_image_mae(weights, self.spec.model.fusion_depth, self.spec.model.tubelet)
            load_strict(self, video, new=("trunk.audio", "audio_decoder", "video_decoder"))
        else:
            new = ("audio_decoder", "video_decoder") if is_official(weights) else ()
            load_strict(self, translated(weights, self.trunk), new=new, unused=("norm", "head"))


@dataclass
class DistillOptions(PretrainOptions):
    """Of stage 2."""

    target: Literal["fused_teacher", "uni_teacher"] = "fused_teacher"
    """The teacher's tokens after the fusion, or (ablation) each modality's tokens from before it."""
    norm_target: bool = True
    """Targets are layer-normalised token by token, without scale and shift."""
    student_init: Literal["random", "teacher"] = "random"
    """The student starts afresh, or (ablation) as a copy of its teacher's encoders."""


class Distill(Taught, MaskedAudioVideo):
    """Stage 2: a masked student predicts what its frozen teacher, the stage before, makes of the complete pair."""

    options_config = DistillOptions

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
        audio, video = self.teacher.audio(batch["audio"]), self.teacher.video(batch["video"])
        if self.spec.options.target == "fused_teacher":
            audio, video = self.teacher.fusion(audio, video)
        if self.spec.options.norm_target:
            audio, video = (F.layer_norm(tokens.float(), tokens.shape[-1:]) for tokens in (audio, video))
        return audio[:, 1:], video[:, 1:]


# --- fine-tuning and retrieval --------------------------------------------------------------------------------


@dataclass
class FinetuneOptions:
    """Of fine-tuning; defaults are the published code's."""

    ft_fusion_depth: int = 3
    """Fusion blocks; those beyond the pretrained ones start afresh."""
    drop_path: float = 0.1
    """Stochastic depth of the audio encoder; the video and fusion blocks have none."""
    mask_t: float = 0.2
    """Share of the rows in time that are masked in training, of audio."""
    mask_f: float = 0.2
    """Share of the mel columns that are masked in training."""
    mask_v: float = 0.0
    """Share of the video patches that are masked in training."""
    label_smoothing: float = 0.0
    """Of the cross-entropy."""
    prior: float = 0.5
    """Probability of a class before training, see `start_at_prior`."""
    layer_decay_fusion: Literal["official", "top"] = "official"
    """`official` gives the fusion blocks the rates of the lowest encoder blocks, as the published code does by the
    accident that their names start with `blocks`; `top` gives them the rate of the head."""


class Finetune(Stage):
    """A classifier over audio, video or both; only the encoders that `spec.modality` needs exist."""

    model_config = MAViLConfig
    options_config = FinetuneOptions

    def __init__(self, spec: StageSpec):
        super().__init__(spec)
        options = spec.options
        if spec.multilabel and options.label_smoothing:
            raise ValueError("options.label_smoothing is for classification; this dataset has several labels a clip")
        self.trunk = Trunk(spec.model, spec.inputs, spec.modality, options.ft_fusion_depth, options.drop_path)
        features = spec.model.dim * len(spec.modality)
        self.norm = LayerNorm(features)
        self.head = nn.Linear(features, spec.num_classes)
        nn.init.trunc_normal_(self.head.weight, std=2e-5)  # AudioMAE main_finetune_as.py
        start_at_prior(self.head, options.prior)

    def load_parent(self, weights: Mapping[str, Tensor]) -> None:
        """From stage 1, stage 2 or a fine-tuned model of the same classes; ours or the authors'."""
        pretrained, depth = self.spec.model.fusion_depth, self.spec.options.ft_fusion_depth
        new = tuple(f"trunk.fusion.blocks.{block}" for block in range(pretrained, depth))
        other = {"a": ("trunk.video", "trunk.fusion"), "v": ("trunk.audio", "trunk.fusion"), "av": ()}
        unused = ("audio_decoder", "video_decoder", *other[self.spec.modality])
        load_strict(
            self, translated(weights, self.trunk, self.spec.modality), new=(*new, "norm", "head"), unused=unused
        )

    def tokens(self, batch: Batch) -> list[Tensor]:
        """[B, S, D] of each modality that is looked at; in training some patches are masked."""
        keep_a, keep_v = self.keep(batch) if self.training else (None, None)
        encoded = []
        if "a" in self.spec.modality:
            encoded.append(self.trunk.audio(batch["audio"], keep_a))
        if "v" in self.spec.modality:
            encoded.append(self.trunk.video(batch["video"], keep_v))
        return list(self.trunk.fusion(*encoded)) if self.spec.modality == "av" else encoded

    def keep(self, batch: Batch) -> tuple[Tensor | None, Tensor | None]:
        """The visible places of audio (masked in time and mel: 51 x 6 = 306) and of video in training."""
        options, key = self.spec.options, batch["key"]
        keep_a = keep_v = None
        if "a" in self.spec.modality:
            keep_a = random_places_2d(key, "audio mask", self.trunk.audio.grid, (options.mask_t, options.mask_f))
        if "v" in self.spec.modality and options.mask_v:
            keep_v = random_places(key, "video mask", self.trunk.video.length, options.mask_v)
        return keep_a, keep_v

    def forward(self, batch: Batch) -> Tensor:
        """[B, num_classes] logits: mean tokens of each modality, side by side -> LayerNorm -> linear."""
        return self.head(self.norm(torch.cat([pool(tokens) for tokens in self.tokens(batch)], dim=1)))

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Binary cross-entropy where a clip has several labels, else cross-entropy; labels may be mixed."""
        smoothing = self.spec.options.label_smoothing
        return {"loss": classification_loss(self(batch), batch["label"], self.spec.multilabel, smoothing)}

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return self.logged(self.losses(batch), batch)

    def predict_step(self, batch: Batch, batch_idx: int) -> Outputs:
        return {"logits": {self.spec.modality: self(batch)}}

    def layer_of(self, name: str) -> tuple[int, int]:
        """Embeddings are layer 0, encoder block i layer i + 1, the head the last (av-superb `util/lr_decay.py`)."""
        last = self.spec.model.depth + 1
        part, *rest = name.removeprefix("trunk.").split(".")
        if part in ("norm", "head") or (part == "fusion" and self.spec.options.layer_decay_fusion == "top"):
            return last, last
        return (int(rest[1]) + 1 if rest[0] == "blocks" else 0), last


@dataclass
class RetrieveOptions:
    """Retrieval has no numbers of its own."""


class Retrieve(Stage):
    """No training: clips are compared by the mean tokens of the uni-modal encoders."""

    model_config = MAViLConfig
    options_config = RetrieveOptions

    def __init__(self, spec: StageSpec):
        super().__init__(spec)
        self.trunk = Trunk(spec.model, spec.inputs, fusion_depth=0)

    def load_parent(self, weights: Mapping[str, Tensor]) -> None:
        """From stage 1, stage 2 or a fine-tuned model of both modalities; ours or the authors'."""
        unused = ("trunk.fusion", "audio_decoder", "video_decoder", "norm", "head")
        load_strict(self, translated(weights, self.trunk), unused=unused)

    def predict_step(self, batch: Batch, batch_idx: int) -> Outputs:
        embedding = {"a": pool(self.trunk.audio(batch["audio"])), "v": pool(self.trunk.video(batch["video"]))}
        return {"embedding": embedding}
