"""CMKD's AST and PSLA against the authors' classes, by numbers recorded from them (`tests/golden/cmkd_*.json`).

The weights and inputs of those runs can be drawn again here: each is a function of its name in their layout.
"""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from datamodules import keyed
from datamodules.types import AudioInputs, Inputs
from experiments.cmkd.checkpoints import from_imagenet, from_official, load, to_official
from experiments.cmkd.method import Train, TrainOptions, network
from experiments.cmkd.model import AST, PSLA, ASTConfig, CMKDConfig, PSLAConfig
from tests.experiments.supervised_tiny import CLASSES, spec

GOLDEN_AST, GOLDEN_PSLA = (
    json.loads((Path(__file__).parent.parent / "golden" / f"cmkd_{name}.json").read_text()) for name in ("ast", "psla")
)
TOLERANCE = 1e-4


def drawn(name: str, shape: tuple[int, ...]) -> Tensor:
    """Uniform numbers in [-0.5, 0.5) that depend on the name alone."""
    key = torch.tensor([keyed.stable_hash("cmkd parity", name)])
    return keyed.uniform(key, "value", math.prod(shape)).view(shape) - 0.5


def drawn_ast(name: str, shape: tuple[int, ...]) -> Tensor:
    return 0.2 * drawn(name, shape) + (1.0 if len(shape) == 1 and name.endswith("weight") else 0.0)


def drawn_psla(name: str, shape: tuple[int, ...]) -> Tensor:
    """Kernels with gains at which every block's output has a deviation of about 1."""
    if name.endswith("num_batches_tracked"):
        return torch.zeros(shape, dtype=torch.long)
    if name.endswith("running_var"):
        return 1 + drawn(name, shape)
    if name.endswith("head_weight"):
        return 0.25 + 0.2 * drawn(name, shape)
    if len(shape) == 1:
        return 0.2 * drawn(name, shape) + (1.0 if name.endswith("weight") else 0.0)
    gain = next((gain for part, gain in GOLDEN_PSLA["gains"].items() if part in name), 1.0)
    return gain * drawn(name, shape) * (12 / math.prod(shape[1:])) ** 0.5


def ast(frames: int) -> AST:
    config = GOLDEN_AST["config"]
    return AST(ASTConfig(dim=config["dim"], heads=config["heads"]), frames, 128, config["classes"]).eval()


def psla() -> PSLA:
    return PSLA(PSLAConfig(GOLDEN_PSLA["config"]["heads"]), GOLDEN_PSLA["config"]["classes"]).eval()


def close(ours: Tensor, golden: list[list[float]]) -> None:
    assert (ours - torch.tensor(golden)).abs().max() < TOLERANCE


def fingerprint(weights: dict[str, Tensor]) -> dict[str, object]:
    names = sorted(f"{key} {list(value.shape)}" for key, value in weights.items())
    return {"count": len(names), "sha256": hashlib.sha256("\n".join(names).encode()).hexdigest()}


@torch.no_grad()
@pytest.mark.parametrize("frames", [1024, 512])
def test_ast_logits_are_those_of_the_authors_class(frames):
    net = ast(frames)
    names = to_official(net)
    assert fingerprint(names) == GOLDEN_AST[f"keys_{frames}"]  # but for the heads of ImageNet, which never act
    dead = {f"module.v.{head}.weight": torch.zeros(1000, 192) for head in ("head", "head_dist")}
    load(net, {f"module.{key}": drawn_ast(key, tuple(value.shape)) for key, value in names.items()} | dead)
    close(net(4 * drawn("audio", (2, frames, 128))[:, None])[:, ::33], GOLDEN_AST[f"logits_{frames}"])


@torch.no_grad()
@pytest.mark.parametrize("golden", GOLDEN_AST["strides"], ids=lambda g: f"{g['frames']} frames, {g['strides']}")
def test_ast_of_other_strides_is_the_authors_class(golden):
    """AST's ensemble has networks of strides 10, 12, 14 and 16; `fstride` and `tstride` may differ."""
    size = {key: GOLDEN_AST["config"][key] for key in ("dim", "heads")}
    inputs = Inputs(AudioInputs(frames=golden["frames"]), None)
    options = TrainOptions("ast", strides=golden["strides"])
    net = network(spec(CMKDConfig(ast=ASTConfig(**size)), options, inputs, "a", True, num_classes=527)).eval()
    by_model = ASTConfig(**size, stride=golden["strides"][0], time_stride=golden["strides"][1])
    assert AST(by_model, golden["frames"], 128, 527).grid == net.grid
    assert len(net.positions) == golden["length"]
    load(net, {f"module.{key}": drawn_ast(key, tuple(value.shape)) for key, value in to_official(net).items()})
    close(net(4 * drawn("audio", (2, golden["frames"], 128))[:, None])[:, ::33], golden["logits"])


@torch.no_grad()
def test_psla_probabilities_are_those_of_the_authors_class():
    net = psla()
    names = to_official(net)
    assert fingerprint(names) == GOLDEN_PSLA["keys"]
    load(net, {f"module.{key}": drawn_psla(key, tuple(value.shape)) for key, value in names.items()})
    maps = net.maps(4 * drawn("audio", (2, 1056, 128))[:, None])
    assert maps.shape == (2, 1408, 4, 33)
    close(net.head.probabilities(maps)[:, ::33], GOLDEN_PSLA["probabilities"])
    close(net.head(maps).sigmoid()[:, ::33], GOLDEN_PSLA["probabilities"])


@torch.no_grad()
def test_what_is_ranked_of_psla_is_not_clamped_though_it_leaves_0_to_1():
    """Its authors' `validate` ranks the head's numbers; the clamp to 1e-7 .. 1 - 1e-7 is in the loss alone."""
    inputs = Inputs(AudioInputs(frames=64, mel_bins=128), None)
    stage = Train(spec(CMKDConfig(), TrainOptions("psla", 0.0), inputs, "a", multilabel=True)).eval()
    theirs = {key: drawn_psla(key, tuple(value.shape)) for key, value in to_official(stage.net).items()}
    load(stage.net, theirs | {"attention.head_weight": torch.full((4,), 0.6)})  # the head's numbers are up to 2.4
    batch = {"audio": 4 * drawn("audio", (2, 64, 128))[:, None], "label": torch.ones(2, CLASSES)}
    outputs = stage.predict_step(batch, 0)
    expected = stage.net.head.probabilities(stage.net.maps(batch["audio"]))
    assert outputs.keys() == {"probabilities"} and torch.equal(outputs["probabilities"]["a"], expected)
    assert (expected > 1).sum() > 1 and len(expected.unique()) == expected.numel()
    clamped = F.binary_cross_entropy(expected.clamp(1e-7, 1 - 1e-7), batch["label"])
    torch.testing.assert_close(stage.losses(batch)["loss"], clamped, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("golden", GOLDEN_AST["imagenet"], ids=lambda g: f"{g['mel_bins']}x{g['frames']}")
def test_positions_from_imagenet_are_those_of_the_authors_class(golden):
    net = AST(ASTConfig(depth=1), golden["frames"], golden["mel_bins"], 5)
    picture = {
        "pos_embed": drawn("v.pos_embed", (1, 578, 768)),
        "patch_embed.proj.weight": drawn("v.patch_embed.proj.weight", (768, 3, 16, 16)),
    }
    ours = from_imagenet(picture, net)
    assert len(ours["positions"]) == golden["length"]
    close(ours["positions"][golden["rows"]][:, golden["channels"]], golden["values"])
    close(ours["patch_embed.weight"][:4, 0, 3, :4], GOLDEN_AST["kernel"])


@pytest.mark.parametrize("golden", GOLDEN_AST["audioset"], ids=lambda g: f"{g['mel_bins']}x{g['frames']}")
def test_positions_from_audioset_are_those_of_the_authors_class(golden):
    net = AST(ASTConfig(depth=1), golden["frames"], golden["mel_bins"], 5)
    ours = from_official({"module.v.pos_embed": drawn("v.pos_embed audioset", (1, 1214, 768))}, net)
    assert len(ours["positions"]) == golden["length"]
    close(ours["positions"][golden["rows"]][:, golden["channels"]], golden["values"])
