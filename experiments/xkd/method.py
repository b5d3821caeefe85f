"""XKD's stages: `Pretrain`, and those that judge an encoder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from datamodules.types import Batch
from experiments.common.losses.centring import CentredTargets, view_cross_entropy
from experiments.common.losses.discrepancy import gaussian_mmd
from experiments.common.networks.masking import masked_mse, random_masking
from experiments.common.networks.patches import normalized_patches
from experiments.common.networks.vit import pooled
from experiments.common.stage import Stage, StageSpec
from experiments.common.teacher import cosine_momentum, follow
from experiments.common.weights import load_strict
from experiments.xkd.checkpoints import pretrained
from experiments.xkd.downstream import SVM, Finetune, FinetuneOptions, JudgedSVM, Linear
from experiments.xkd.model import INPUT, Decoder, Network, XKDConfig, cross_weights, refined, whole_share

__all__ = ["SVM", "Finetune", "FinetuneOptions", "JudgedSVM", "Linear", "Pretrain"]

OTHER = {"a": "v", "v": "a"}


def temperatures(first: float, last: float) -> Any:
    """Of a teacher, at the begin and at the end of their rise."""
    return field(default_factory=lambda: [first, last])


@dataclass
class PretrainOptions:
    """Defaults are those of the release's `xkd.yaml`."""

    video_mask: float = 0.85
    """Share of the video patches that are hidden."""
    audio_mask: float = 0.8
    align: float = 1.0
    """Weight of the domain alignment; the three are divided by their sum."""
    distil: float = 1.0
    """Weight of the distillation."""
    reconstruct: float = 5.0
    """Weight of the reconstruction."""
    teacher_view: Literal["global", "local"] = "global"
    """What the teacher sees: the whole clip, as in the paper's figure, or the first of the student's local views, as
    the release's index has it."""
    refine: bool = True
    """The teacher's patches are weighted by both modalities' attention before they are averaged."""
    student_temperature: float = 0.1
    video_temperature: list[float] = temperatures(0.1, 0.1)
    """Of the video teacher: [first, last]."""
    audio_temperature: list[float] = temperatures(0.07, 0.07)
    """Of the audio teacher."""
    temperature_epochs: int = 30
    """In which a temperature goes from the first to the last."""
    centre_momentum: float = 0.9
    """Share of the centre of a teacher's scores that a step keeps."""
    momentum: float = 0.997
    """Share of the teacher that the first step keeps; it rises to 1 over half a cosine."""
    clip: float = 0.3
    """Largest norm of each single gradient of the student's encoders and heads; the decoders' are as they are."""


class Pretrain(Stage[XKDConfig, PretrainOptions]):
    """Masked reconstruction, distillation from the other modality's teacher, and alignment of both modalities."""

    compares_clips = True

    def __init__(self, spec: StageSpec[XKDConfig, PretrainOptions]):
        super().__init__(spec)
        config, inputs, options = spec.model, spec.inputs, spec.options
        self.student = Network(config, inputs, config.shared != "none")
        # The teacher, which is what is judged afterwards and so has the name that it has there.
        self.net = Network(config, inputs, config.shared == "both").requires_grad_(False)
        self.net.load_state_dict(self.student.state_dict())
        self.decoder = nn.ModuleDict({m: Decoder(config, self.student.encoder[m]) for m in "av"})
        targets = (CentredTargets(config.head.prototypes, options.centre_momentum) for _ in "av")
        self.target = nn.ModuleDict(dict(zip("av", targets, strict=True)))

    def load_parent(self, weights: Mapping[str, Tensor]) -> None:
        """From another pretraining, ours or the authors' (`main_xkd.py`, `save_checkpoint`)."""
        load_strict(self, pretrained(weights))

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """(align * L_da + distil * L_kd + reconstruct * L_ae) / their sum, and the terms."""
        options = self.spec.options
        views = {m: seen_of(batch, m) for m in "av"}
        student, terms = {}, {}
        for m, (whole, local) in views.items():
            student[m], terms[f"reconstruction_{m}"] = self.studied(m, whole, local, batch["key"])
        teacher = self.taught({m: self.teacher_view(*seen) for m, seen in views.items()})
        terms["align_student"] = gaussian_mmd(student["v"], student["a"])
        terms["align_teacher"] = gaussian_mmd(teacher["v"], teacher["a"])  # no gradient, as in the release
        for m in "av":  # each teaches the other modality alone
            target_BK = self.target[m](teacher[m], self.temperature(m))
            terms[f"distil_from_{m}"] = view_cross_entropy(student[OTHER[m]], target_BK, options.student_temperature)
        loss = (
            options.align * (terms["align_student"] + terms["align_teacher"]) / 2
            + options.distil * (terms["distil_from_v"] + terms["distil_from_a"]) / 2
            + options.reconstruct * (terms["reconstruction_v"] + terms["reconstruction_a"]) / 2
        )
        return {"loss": loss / (options.align + options.distil + options.reconstruct), **terms}

    def studied(self, modality: str, whole: Tensor, local: Tensor, key_B: Tensor) -> tuple[Tensor, Tensor]:
        """([(1 + N) * B, K] scores of the masked global view and of N local ones, the error of the masked patches)."""
        encoder, decoder = self.student.encoder[modality], self.decoder[modality]
        ratio = self.spec.options.video_mask if modality == "v" else self.spec.options.audio_mask
        masking = random_masking(key_B, f"mask {modality}", encoder.length, whole_share(encoder.length, ratio))
        latent_BSD = encoder(whole, masking.keep_BK)  # one pass for both losses
        predicted_BLP = decoder(latent_BSD, masking.keep_BK)
        error = masked_mse(predicted_BLP, normalized_patches(whole, encoder.patch), masking.masked_BL)
        seen_ND = torch.cat([pooled(latent_BSD), pooled(encoder(local))])
        return self.student.head[modality](seen_ND), error

    def teacher_view(self, whole: Tensor, local: Tensor) -> Tensor:
        """[B, C, *size] what the teacher sees."""
        return whole if self.spec.options.teacher_view == "global" else local[: len(whole)]

    @torch.no_grad()
    def taught(self, view: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Modality -> [B, K] scores of the teacher, of a view of each."""
        if self.spec.options.refine:
            means = self.refined_means(view)
        else:
            means = {m: pooled(self.net.encoder[m](x)) for m, x in view.items()}
        return {m: self.net.head[m](mean_BD) for m, mean_BD in means.items()}

    def refined_means(self, view: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Modality -> [B, D] the mean of the teacher's patches, weighted by both modalities' attention."""
        seen = {m: self.net.encoder[m].with_attention(x) for m, x in view.items()}
        return {
            m: refined(tokens_BSD[:, 1:], cross_weights(attention, seen[OTHER[m]][1]))
            for m, (tokens_BSD, attention) in seen.items()
        }

    def temperature(self, modality: str) -> float:
        """Of a teacher in this epoch; it changes from epoch to epoch (`main_xkd.py`, `linspace`)."""
        options = self.spec.options
        first, last = options.video_temperature if modality == "v" else options.audio_temperature
        return first + (last - first) * min(1.0, self.current_epoch / max(1, options.temperature_epochs - 1))

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Clips each gradient of the student by itself (`models/xkd.py`, `clip_gradients`)."""
        gradients = [p.grad for p in self.student.parameters() if p.grad is not None]
        for gradient in gradients if self.spec.options.clip else ():
            gradient.mul_((self.spec.options.clip / (gradient.norm() + 1e-6)).clamp(max=1))

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """After each step the teacher follows the student."""
        done = self.global_step / (self.spec.steps_per_epoch * self.spec.epochs)
        super().optimizer_step(*args, **kwargs)
        self.teacher_follows(cosine_momentum(self.spec.options.momentum, done))

    def teacher_follows(self, momentum: float) -> None:
        """teacher <- momentum * teacher + (1 - momentum) * student."""
        for m in "av":  # shared blocks follow once a modality, as in the release (`update_teacher`)
            follow(self.net.encoder[m], self.student.encoder[m], momentum)
            follow(self.net.head[m], self.student.head[m], momentum)


def seen_of(batch: Batch, modality: str) -> tuple[Tensor, Tensor]:
    """([B, C, *size] the global view, [N * B, C, *size] N local ones, view after view); of sound mels come first."""
    views: dict[str, Any] = dict(batch)
    whole, local = views[INPUT[modality]], views[f"{INPUT[modality]}_local"]
    if local.ndim > whole.ndim:
        local = local.transpose(0, 1).flatten(0, 1)
    return (whole.mT, local.mT) if modality == "a" else (whole, local)
