"""CMKD's AST and PSLA against the authors' classes, by numbers recorded from them (`tests/golden/cmkd_*.json`)."""

from __future__ import annotations

import hashlib
import math
from copy import deepcopy
from functools import cache, partial

import pytest
import torch
from torch import Tensor

from datamodules.types import AudioInputs, Inputs
from experiments.cmkd.checkpoints import from_imagenet, from_official, load, to_official
from experiments.cmkd.method import Train, TrainOptions
from experiments.cmkd.model import AST, PSLA, ASTConfig, AttentionHead, CMKDConfig
from experiments.common.stage import StageSpec
from tests.experiments import golden

OF_AST, OF_PSLA = golden.recorded("cmkd_ast"), golden.recorded("cmkd_psla")
drawn = partial(golden.drawn, "cmkd parity")


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
        return drawn_ast(name, shape)
    gain = next((gain for part, gain in OF_PSLA["gains"].items() if part in name), 1.0)
    return gain * drawn(name, shape) * (12 / math.prod(shape[1:])) ** 0.5


def released(net: AST | PSLA) -> dict[str, Tensor]:
    """The recorded run's weights as the authors' files hold them: out of DataParallel, with ImageNet's dead heads."""
    draw, dead = (drawn_ast, ("v.head", "v.head_dist")) if isinstance(net, AST) else (drawn_psla, ("effnet._fc",))
    weights = {f"module.{key}": draw(key, tuple(value.shape)) for key, value in to_official(net).items()}
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
    return 4 * drawn("audio", (2, frames, 128))[:, None]


@pytest.mark.parametrize(
    ("network", "frames", "expected"),
    [("ast", 1024, OF_AST["keys_1024"]), ("ast", 512, OF_AST["keys_512"]), ("psla", 1056, OF_PSLA["keys"])],
)
def test_the_authors_names_and_shapes_are_those_of_their_class(network, frames, expected):
    names = sorted(f"{key} {list(value.shape)}" for key, value in to_official(stage(network, frames).net).items())
    assert {"count": len(names), "sha256": hashlib.sha256("\n".join(names).encode()).hexdigest()} == expected


@torch.no_grad()
@pytest.mark.parametrize(
    ("frames", "strides", "logits"),
    [
        *((frames, [], OF_AST[f"logits_{frames}"]) for frames in (1024, 512)),
        *((of["frames"], of["strides"], of["logits"]) for of in OF_AST["strides"]),  # members of AST's ensemble
    ],
)
def test_logits_of_ast_are_those_of_the_authors_class(frames, strides, logits):
    net = stage("ast", frames, tuple(strides)).net
    golden.assert_close(net(audio(frames))[:, ::33], logits)


@torch.no_grad()
def test_probabilities_of_psla_are_those_of_the_authors_class_and_clamped_in_the_loss_alone():
    """`validate` ranks the head's numbers as they are; `train` clamps them to 1e-7 .. 1 - 1e-7."""
    assert AttentionHead(2, 1, heads=4).weight_H.tolist() == [0.25] * 4  # where they start
    psla = deepcopy(stage("psla", 1056))
    batch = {"audio": audio(1056), "label": torch.eye(2, 527)}
    (found,) = psla.predict_step(batch, 0)["probabilities"].values()
    golden.assert_close(found[:, ::33], OF_PSLA["probabilities"])
    psla.net.head.weight_H *= 2
    ranked = psla.predict_step(batch, 0)["probabilities"]["a"]
    torch.testing.assert_close(ranked, 2 * found)
    assert (ranked > 1).float().mean() > 0.3
    clamped = torch.nn.functional.binary_cross_entropy(ranked.clamp(1e-7, 1 - 1e-7), batch["label"])
    torch.testing.assert_close(psla.losses(batch)["loss"], clamped, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("source", "of"), [(source, of) for source in ("imagenet", "audioset") for of in OF_AST[source]]
)
def test_positions_for_other_sizes_are_those_of_the_authors_class(source, of):
    net = AST(ASTConfig(depth=1), of["frames"], of["mel_bins"], 5)
    if source == "imagenet":
        kernel = drawn("v.patch_embed.proj.weight", (768, 3, 16, 16))
        picture = {"pos_embed": drawn("v.pos_embed", (1, 578, 768)), "patch_embed.proj.weight": kernel}
        ours = from_imagenet(picture, net)
        golden.assert_close(ours["patch_embed.weight"][:4, 0, 3, :4], OF_AST["kernel"])
    else:
        ours = from_official({"module.v.pos_embed": drawn("v.pos_embed audioset", (1, 1214, 768))}, net)
    assert len(ours["positions"]) == of["length"]
    golden.assert_close(ours["positions"][of["rows"]][:, of["channels"]], of["values"])
