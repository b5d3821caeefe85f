"""XDC's video encoder; there is no code of the rest."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from experiments.common.networks.resnet import ResNetConfig
from experiments.common.networks.video_resnet import VideoResNetConfig
from experiments.xdc.checkpoints import load
from experiments.xdc.model import Encoders, XDCConfig
from tests.experiments.golden import Recording, Released, Run

RECORDED = Recording("xdc", kernels=12.0)
GOLDEN, drawn = RECORDED.values, RECORDED.drawn
WIDTHS = GOLDEN["config"]["widths"]
MODEL = XDCConfig(video=VideoResNetConfig(**GOLDEN["config"]), audio=ResNetConfig(widths=WIDTHS))


def released() -> dict[str, Tensor]:
    return RECORDED.weights(GOLDEN["keys"])


def with_classifier() -> dict[str, Tensor]:
    """A file that somebody saved whole; the released ones have none."""
    return released() | RECORDED.weights({"fc.weight": [7, WIDTHS[-1]], "fc.bias": [7]})


def encoders() -> Encoders:
    net = Encoders(MODEL, "v")
    load(net, released())
    return net


def video() -> Tensor:
    return 2 * drawn("video", 2, 3, 8, 48, 48)


@torch.no_grad()
def in_evaluation(net: Encoders) -> dict[str, Any]:
    layers: dict[str, Tensor] = {}
    net.eval()
    for name in GOLDEN["network"]["eval"]["layers"]:
        layer = net["v"].get_submodule(name)
        layer.register_forward_hook(lambda _, __, x, name=name: layers.update({name: x.abs().mean()}))
    return {"features": net.see(video()), "layers": layers}


def in_training(net: Encoders) -> dict[str, Any]:
    numbers = GOLDEN["network"]["train"]
    features = net.train().see(video())
    loss = (features * drawn("target", 2, WIDTHS[-1])).sum()
    loss.backward()
    parameters, state = dict(net["v"].named_parameters()), net["v"].state_dict()
    gradients = {name: parameters[name].grad for name in numbers["gradients"]}
    return {
        "features": features,
        "loss": loss,
        "gradients": {name: each.abs().sum() for name, each in gradients.items() if each is not None},
        "running": {name: state[name] for name in numbers["running"]},
    }


RUNS = [
    Run("network/eval", in_evaluation, encoders, tolerance=1e-5, deep="layer3.1.conv2.0.3.weight"),
    Run("network/train", in_training, encoders, tolerance=1e-5, relative=1e-4, deep="layer3.1.conv2.0.3.weight"),
]
ELSEWHERE = ("full_size",)
"""Compared in `test_common_video_resnet.py`."""
MISSING = ("layer4.1.conv2.1.bias", "v.layer4.1.conv2.1.bias")
STRANGE = ("layer5.0.conv1.0.0.weight", "v.stem.0.weight", "conv1.weight")
RELEASED = [
    Released("", encoders, released, load, missing=MISSING, strange=STRANGE),
    Released("whole", encoders, with_classifier, load, ("fc.",), MISSING, STRANGE),
]
