"""XKD's networks, losses and gradients, what a step does to them and to the teacher (small widths)."""

from __future__ import annotations

import re
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from datamodules.types import AudioInputs, Inputs, VideoInputs
from experiments.common.networks.prototypes import PrototypeConfig
from experiments.common.stage import StageSpec
from experiments.common.teacher import cosine_momentum
from experiments.xkd.checkpoints import PRETRAINED
from experiments.xkd.method import Pretrain, PretrainOptions
from experiments.xkd.model import XKDConfig, cross_weights
from tests.experiments.golden import Recording, Released, Run

RECORDED = Recording("xkd", kernels=12.0)
GOLDEN, drawn = RECORDED.values, RECORDED.drawn
CONFIG = GOLDEN["config"]
HEAD = PrototypeConfig(CONFIG["hidden"], CONFIG["bottleneck"], CONFIG["prototypes"])
NETWORK = XKDConfig(**{key: CONFIG[key] for key in CONFIG if key not in vars(HEAD)}, head=HEAD)
INPUTS = Inputs(AudioInputs(frames=64, mel_bins=16), VideoInputs(frames=8, fps=8.0, size=48))
SHARED = {"xkd": "none", "mas": "student", "mats": "both"}
TWICE = {
    **{f"{m}_ae.encoder.": f"{m}_student.backbone." for m in ("vid", "aud")},
    ".mlp.4.": ".mlp.1.",
}
BODIES = {"mas": ("student",), "mats": ("student", "teacher")}


def first_name(key: str, variant: str) -> str:
    """The first of the names that a weight of theirs has."""
    twice = TWICE | {
        f"aud_{each}.backbone.encoder.": f"vid_{each}.backbone.encoder." for each in BODIES.get(variant, ())
    }
    for later, first in twice.items():
        key = key.replace(later, first)
    return key


def released(variant: str = "xkd") -> dict[str, Tensor]:
    weights = RECORDED.weights({first_name(key, variant): shape for key, shape in GOLDEN["keys"].items()})
    weights |= {key: torch.ones_like(value) for key, value in weights.items() if key.endswith("weight_g")}
    return {key: weights[first_name(key, variant)] for key in GOLDEN["keys"]}


def stage(variant: str = "xkd", **options: Any) -> Pretrain:
    model = XKDConfig(**{**vars(NETWORK), "shared": SHARED[variant]})
    made = Pretrain(StageSpec(model, PretrainOptions(**options), INPUTS))
    made.load_parent(released(variant))
    made.trainer = SimpleNamespace(current_epoch=0, global_step=0)
    return made.train()


def batch(video_views: int = 1) -> dict[str, Tensor]:
    local = torch.stack([4 * drawn(f"video local {i}", 3, 3, 4, 32, 32) for i in range(video_views)], 1)
    return {
        "key": torch.tensor([11, 12, 13]),
        "video": 4 * drawn("video", 3, 3, 8, 48, 48),
        "audio": 4 * drawn("audio", 3, 1, 16, 64).mT,
        "video_local": local if video_views > 1 else local[:, 0],
        "audio_local": 4 * drawn("audio local 0", 3, 1, 16, 32).mT,
    }


def named(of_theirs: dict[str, Any]) -> dict[str, Tensor]:
    """Numbers of the authors' weights, by our names."""
    ours = PRETRAINED.renamed({key: torch.tensor(value) for key, value in of_theirs.items()})
    return {re.sub("^teacher", "net", key): value for key, value in ours.items()}


def after_a_step(made: Pretrain) -> dict[str, Any]:
    """Losses, [norm, last number] of each gradient, and the centres."""
    terms = made.losses(batch())
    terms["loss"].backward()
    gradients = {
        name: torch.stack([p.grad.norm(), p.grad.flatten()[-1]])
        for name, p in made.named_parameters()
        if p.requires_grad
    }
    return {"terms": terms, "gradients": gradients, "centre": {m: made.target[m].centre for m in "av"}}


def clipped(made: Pretrain) -> dict[str, Tensor]:
    made.losses(batch())["loss"].backward()
    made.on_before_optimizer_step(torch.optim.SGD(made.parameters()))
    return {name: p.grad.norm() for name, p in made.named_parameters() if name.startswith("student")}


@torch.no_grad()
def followed(made: Pretrain) -> dict[str, Tensor]:
    made.teacher_follows(0.9)
    return {name: p.norm() for name, p in made.named_parameters() if name.startswith("net.")}


@torch.no_grad()
def of_the_teacher(made: Pretrain) -> dict[str, Any]:
    whole = {"v": batch()["video"], "a": batch()["audio"].mT}
    attention = {m: made.net.encoder[m].with_attention(whole[m])[1] for m in "av"}
    refined = made.taught(whole)
    made.spec.options.refine = False
    weights = {m: cross_weights(attention[m], attention[other]) for m, other in ("av", "va")}
    return {"refined": refined, "plain": made.taught(whole), "attention": weights}


@torch.no_grad()
def shared(variant: str, made: Pretrain) -> dict[str, Any]:
    return {"terms": made.losses(batch(3)), "parameters": sum(p.numel() for p in made.parameters())}


def momenta(_: None) -> list[float]:
    steps = GOLDEN["momentum"]["epochs"] * GOLDEN["momentum"]["steps_per_epoch"]
    return [cosine_momentum(0.997, step / steps) for step in range(steps)]


RUNS = [
    Run(
        "local_teacher", after_a_step, partial(stage, teacher_view="local"),
        expected=lambda numbers: numbers | {"gradients": named(numbers["gradients"])},
        deep="net.encoder.a.blocks.0.mlp.fc1.weight",
    ),
    Run("clipped", clipped, partial(stage, teacher_view="local", clip=0.003), expected=named),
    Run("followed", followed, stage, expected=named),
    Run("global_teacher", of_the_teacher, stage, deep="net.encoder.v.blocks.1.attn.qkv.weight"),
    *(Run(variant, partial(shared, variant), partial(stage, variant, teacher_view="local")) for variant in BODIES),
    Run("momentum", momenta, expected=lambda numbers: numbers["values"], tolerance=1e-8),
]  # fmt: skip
NEVER_USED = (
    *TWICE,
    *(f"{m}_{n}.head.{part}" for m in ("vid", "aud") for n in ("student", "teacher")
      for part in ("mlp.4.", "last_layer.weight_g")),
)  # fmt: skip
RELEASED = [
    Released(
        "" if variant == "xkd" else variant, partial(stage, variant), partial(released, variant),
        unused=(*NEVER_USED, *(f"aud_{each}.backbone.encoder." for each in BODIES.get(variant, ()))),
        strange=("vid_student.backbone.fc.weight",),
        missing=("aud_teacher.backbone.encoder_norm.bias", "net.encoder.a.norm.bias"),
    )
    for variant in SHARED
]  # fmt: skip
