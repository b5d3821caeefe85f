"""CrissCross's whole network and objective, narrow and on small clips, and the feature of sound it is judged by."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from datamodules.types import AudioInputs, Inputs
from experiments.common.networks.r2plus1d import R2Plus1DConfig
from experiments.common.networks.resnet import ResNetConfig
from experiments.common.stage import StageSpec
from experiments.common.stages.svm import SVMOptions
from experiments.crisscross.checkpoints import WHOLE, load
from experiments.crisscross.method import SVM, VIEWS, Pretrain, PretrainOptions
from experiments.crisscross.model import CrissCrossConfig, Encoders
from experiments.crisscross.objective import GROUPS
from tests.experiments.golden import Recording, Released, Run

RECORDED = Recording("crisscross", kernels=12.0)
GOLDEN, drawn = RECORDED.values, RECORDED.drawn
SMALL = CrissCrossConfig(R2Plus1DConfig([8, 16, 32, 64]), ResNetConfig([8, 16, 32, 64]), projection=96, bottleneck=24)
SHAPES = {"v": (3, 3, 8, 32, 32), "a": (3, 1, 80, 41)}
BACKBONES = {"v": "video_backbone.", "a": "audio_backbone."}


def released() -> dict[str, Tensor]:
    return RECORDED.weights(GOLDEN["keys"])


def bare_backbone(modality: str) -> dict[str, Tensor]:
    """As the authors' files of one encoder are."""
    own = BACKBONES[modality]
    weights = RECORDED.weights({key: shape for key, shape in GOLDEN["keys"].items() if key.startswith(own)})
    return {key.removeprefix(own): value for key, value in weights.items()}


def fresh(*groups: str) -> Pretrain:
    return Pretrain(StageSpec(SMALL, PretrainOptions(list(groups or GROUPS)), batch_size=3))


def pretrained() -> Pretrain:
    stage = fresh().eval()
    stage.load_parent(released())
    return stage


def clips() -> dict[str, Tensor]:
    """Sound is [B, 1, frames, mels] here."""
    views = {view: 4 * drawn(view, *SHAPES[view[0]]) for view in VIEWS}
    return {VIEWS[view]: x.transpose(2, 3) if view[0] == "a" else x for view, x in views.items()}


def terms(stage: Pretrain) -> dict[str, Tensor]:
    """Without the spreads, which are ours; theirs calls v2-a1 a1-v2."""
    found = {name: value for name, value in stage.losses(clips()).items() if not name.startswith("spread")}
    return {{"v2a1": "a1v2"}.get(name, name): value for name, value in found.items()}


@torch.no_grad()
def evaluated(stage: Pretrain) -> dict[str, Tensor]:
    return terms(stage)


@torch.no_grad()
def trained(stage: Pretrain) -> dict[str, Tensor]:
    return terms(stage.train())


@torch.no_grad()
def of_groups(stage: Pretrain) -> dict[str, Tensor]:
    found = {}
    for group in GROUPS:
        stage.spec.options.groups = [group]
        found[group] = stage.losses(clips())["loss"]
    return found


def gradients(stage: Pretrain) -> dict[str, list[Tensor]]:
    stage.zero_grad()
    stage.losses(clips())["loss"].backward()
    named = dict(stage.net.named_parameters())
    ours = {key: next(iter(WHOLE.renamed({key: torch.zeros(1)}))) for key in GOLDEN["gradients"]}
    each = {key: named[name].grad for key, name in ours.items()}
    return {key: [g.abs().sum(), g.norm(), g.flatten()[7]] for key, g in each.items()}


@torch.no_grad()
def maps(stage: Pretrain) -> dict[str, Tensor]:
    batch: dict[str, Any] = clips()
    steps = {"v": 31, "a": 29}
    return {
        modality: stage.net.mapped(modality, batch[VIEWS[f"{modality}1"]]).flatten()[:: steps[modality]]
        for modality in "va"
    }


@torch.no_grad()
def projections(modality: str, stage: Pretrain) -> dict[str, Tensor]:
    z, p = stage.net(modality, clips()[VIEWS[f"{modality}1"]])
    return {"z": z.flatten()[::37], "p": p.flatten()[::37]}


def heard() -> SVM:
    inputs = Inputs(AudioInputs("librosa", frames=201, mel_bins=80), None)
    stage = SVM(StageSpec(SMALL, SVMOptions(), inputs=inputs, modality="a", num_classes=2)).eval()
    stage.load_parent(bare_backbone("a"))
    return stage


@torch.no_grad()
def conv5(stage: SVM) -> dict[str, Any]:
    log_mel = 4 * drawn("two seconds", 2, 1, 80, 201)
    features = stage.embed({"audio": log_mel.transpose(2, 3)})
    assert features.shape[1] == stage.width
    return {"width": stage.width, "values": features.flatten()[::61]}


def filled(modality: str) -> Any:
    net = Encoders(SMALL, modality)
    load(net, bare_backbone(modality), modality)
    return net


RUNS = [
    Run("eval", evaluated, pretrained, tolerance=1e-5),
    Run("train", trained, pretrained, tolerance=1e-4),
    Run("groups", of_groups, pretrained, tolerance=1e-5),
    Run("gradients", gradients, pretrained, tolerance=1e-6, relative=1e-4),
    Run("maps", maps, pretrained, tolerance=1e-5, relative=1e-5, deep="encoders.v.stages.3.1.main.9.weight"),
    *(Run(f"zp_{m}", partial(projections, m), pretrained, tolerance=1e-4) for m in "va"),
    Run("conv5", conv5, heard, tolerance=1e-5),
]


RELEASED = [
    Released("whole", pretrained, released, missing=("video_predictor.layer2.bias", "predictors.v.3.bias")),
    *(
        Released(
            f"encoder of {modality}",
            partial(filled, modality),
            partial(bare_backbone, modality),
            partial(load, modalities=modality),
            missing=missing,
        )
        for modality, missing in (
            ("v", ("conv3x.0.res_conv.weight", "encoders.v.stages.1.0.shortcut.weight")),
            ("a", ("block2.0.downsample.0.weight", "encoders.a.stages.1.0.downsample.0.weight")),
        )
    ),
]
