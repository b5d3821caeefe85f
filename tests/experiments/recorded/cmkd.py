"""CMKD's AST and PSLA."""

from __future__ import annotations

import hashlib
import math
from copy import deepcopy
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor

from datamodules.types import AudioInputs, Inputs
from experiments.cmkd.checkpoints import from_imagenet, from_official, load, to_official
from experiments.cmkd.method import Train, TrainOptions
from experiments.cmkd.model import AST, PSLA, ASTConfig, CMKDConfig
from experiments.common.stage import StageSpec
from tests.experiments.golden import Recording, Released, Run

RECORDED = Recording("cmkd")
GOLDEN, drawn = RECORDED.values, RECORDED.drawn
OF_AST, OF_PSLA = GOLDEN["ast"], GOLDEN["psla"]


def drawn_psla(name: str, shape: tuple[int, ...]) -> Tensor:
    """Kernels with gains at which every block's output has a deviation of about 1."""
    if name.endswith("head_weight"):
        return 0.25 + 0.2 * drawn(name, *shape)
    if len(shape) < 2:
        return RECORDED.weights({name: shape})[name]
    gain = next((gain for part, gain in OF_PSLA["gains"].items() if part in name), 1.0)
    return gain * drawn(name, *shape) * (12 / math.prod(shape[1:])) ** 0.5


def released(net: AST | PSLA) -> dict[str, Tensor]:
    """Out of DataParallel, with ImageNet's dead heads."""
    shapes = {key: tuple(value.shape) for key, value in to_official(net).items()}
    if isinstance(net, AST):
        weights, dead = RECORDED.weights(shapes), ("v.head", "v.head_dist")
    else:
        weights, dead = {key: drawn_psla(key, shape) for key, shape in shapes.items()}, ("effnet._fc",)
    weights = {f"module.{key}": value for key, value in weights.items()}
    return weights | {f"module.{head}.weight": torch.zeros(1000, 3) for head in dead}


@cache
def stage(network: str, frames: int, strides: tuple[int, ...] = ()) -> Train:
    """With the recorded run's weights."""
    size = {key: OF_AST["config"][key] for key in ("dim", "heads")}
    inputs, options = Inputs(AudioInputs(frames=frames), None), TrainOptions(network, 0.0, strides=list(strides))
    made = Train(StageSpec(CMKDConfig(ast=ASTConfig(**size)), options, inputs, "a", 527, multilabel=True)).eval()
    load(made.net, released(made.net))
    return made


def audio(frames: int) -> Tensor:
    return 4 * drawn("audio", 2, frames, 128)[:, None]


def names(made: Train) -> dict[str, Any]:
    """The authors' names and shapes."""
    lines = sorted(f"{key} {list(value.shape)}" for key, value in to_official(made.net).items())
    return {"count": len(lines), "sha256": hashlib.sha256("\n".join(lines).encode()).hexdigest()}


@torch.no_grad()
def logits(frames: int, made: Train) -> Tensor:
    return made.net(audio(frames))[:, ::33]


def of_ensemble(_: None) -> list[dict[str, Any]]:
    """Members of AST's ensemble, of other strides."""
    members = [(of["frames"], stage("ast", of["frames"], tuple(of["strides"]))) for of in OF_AST["strides"]]
    return [{"length": len(made.net.positions), "logits": logits(frames, made)} for frames, made in members]


def probabilities(made: Train) -> Tensor:
    with torch.no_grad():
        (found,) = made.predict_step({"audio": audio(1056), "label": torch.eye(2, 527)}, 0)["probabilities"].values()
    return found[:, ::33]


def started(source: str, of: dict[str, Any]) -> dict[str, Tensor]:
    """An AST of another size from pictures' weights or from AudioSet's."""
    net = AST(ASTConfig(depth=1), of["frames"], of["mel_bins"], 5)
    if source == "audioset":
        return from_official({"module.v.pos_embed": drawn("v.pos_embed audioset", 1, 1214, 768)}, net)
    kernel = drawn("v.patch_embed.proj.weight", 768, 3, 16, 16)
    picture = {"pos_embed": drawn("v.pos_embed", 1, 578, 768), "patch_embed.proj.weight": kernel}
    return from_imagenet(picture, net)


def positions(source: str, _: None) -> list[dict[str, Any]]:
    found = []
    for of in OF_AST[source]:
        ours = started(source, of)["positions"]
        found.append({"length": len(ours), "rows": of["rows"], "values": ours[of["rows"]][:, of["channels"]]})
    return found


def kernel(of: dict[str, Any], _: None) -> Tensor:
    return started("imagenet", of)["patch_embed.weight"][:4, 0, 3, :4]


def net(network: str, frames: int) -> AST | PSLA:
    return deepcopy(stage(network, frames).net)


def weights(network: str, frames: int) -> dict[str, Tensor]:
    return released(stage(network, frames).net)


RUNS = [
    *(Run(f"ast/keys_{frames}", names, partial(stage, "ast", frames)) for frames in (1024, 512)),
    *(Run(f"ast/logits_{frames}", partial(logits, frames), partial(stage, "ast", frames)) for frames in (1024, 512)),
    Run("ast/strides", of_ensemble),
    *(Run(f"ast/{source}", partial(positions, source))
      for source in ("imagenet", "audioset")),
    *(
        Run("ast/kernel", partial(kernel, of), name=f"{of['mel_bins']} x {of['frames']}") for of in OF_AST["imagenet"]
    ),
    Run("psla/keys", names, partial(stage, "psla", 1056)),
    Run("psla/probabilities", probabilities, partial(stage, "psla", 1056)),
]  # fmt: skip
RELEASED = [
    Released(
        network, partial(net, network, frames), partial(weights, network, frames), load, unused=unused, missing=missing
    )
    for network, frames, unused, missing in (
        ("ast", 512, ("module.v.head.", "module.v.head_dist."), ("module.v.norm.bias", "norm.bias")),
        ("psla", 1056, ("module.effnet._fc.",), ("module.attention.head_weight", "head.weight_H")),
    )
]  # fmt: skip
