"""The three networks of kyuyeonpooh/objects-that-sound, which are not the authors' but the paper's: what they say of
pairs, loss and gradients."""

from __future__ import annotations

from functools import cache, partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from experiments.avenet.checkpoints import TABLE, load
from experiments.avenet.model import NETS, AVENetConfig, AVOLNet, Correspondence
from tests.experiments.golden import Recording, Released, Run

RECORDED = Recording("avenet", kernels=12)
GOLDEN, drawn = RECORDED.values, RECORDED.drawn
NETWORKS = GOLDEN["networks"]
FUSION = {"AVENet": "distance", "AVOLNet": "map", "L3Net": "concat"}


@cache
def released(name: str) -> dict[str, Tensor]:
    return RECORDED.weights(NETWORKS[name]["keys"])


def fresh(name: str) -> Correspondence:
    fusion = FUSION[name]
    return NETS[fusion](AVENetConfig(fusion=fusion, relu_between=False)).eval()  # type: ignore[arg-type]


def network(name: str) -> Correspondence:
    net = fresh(name)
    load(net, released(name))
    return net


def compared(name: str, net: Any) -> dict[str, Any]:
    """Both pictures with their sounds, and with each other's."""
    image, sound = (4 * drawn(what, *NETWORKS[name]["config"][what]) for what in ("image", "sound"))
    seen, heard = net.see(image), net.hear(sound)
    pairs = torch.cat([seen, seen]), torch.cat([heard, heard.roll(1, 0)])
    odds = net.odds(*pairs)
    loss = F.binary_cross_entropy_with_logits(odds, torch.tensor([1.0, 1.0, 0.0, 0.0]))
    if isinstance(net, AVOLNet):
        found = {"scores": odds.sigmoid(), "cells": net.map(*pairs)[:, ::5, ::5].sigmoid()}
    else:
        found = {"logits": net.logits(*pairs), "image": seen[:, ::8], "sound": heard[:, ::8]}
    return {**found, "loss": loss}


def outputs(name: str, net: Correspondence) -> dict[str, Any]:
    with torch.no_grad():
        return compared(name, net)


def gradients(name: str, net: Correspondence) -> dict[str, Any]:
    with torch.enable_grad():
        compared(name, net)["loss"].backward()
    own = dict(net.named_parameters())
    theirs = NETWORKS[name]["gradients"]
    return {key: _summary(own[next(iter(TABLE.renamed({key: torch.empty(0)})))].grad) for key in theirs}


def _summary(gradient: Tensor) -> list[Any]:
    """Norm, sum, the largest numbers and the smallest."""
    flat = gradient.flatten()
    count = min(4, len(flat))
    return [flat.norm(), flat.sum(), flat.topk(count).values, -(-flat).topk(count).values]


DEEP = {"AVENet": "sound.conv3_2.weight", "AVOLNet": "image.conv3_2.weight", "L3Net": "sound.conv3_2.weight"}
RUNS = [
    run
    for name in NETWORKS
    for run in (
        Run(
            f"networks/{name}", partial(outputs, name), partial(network, name), tolerance=1e-5, deep=DEEP[name],
            expected=lambda numbers: {key: value for key, value in numbers.items() if key != "gradients"},
        ),
        Run(
            f"networks/{name}/gradients", partial(gradients, name), partial(network, name), tolerance=2e-6,
            relative=1e-4,
        ),
    )
]  # fmt: skip
MISSING = {"AVENet": ("fc3.bias", "fc3.bias"), "AVOLNet": ("fus_conv7.bias", "conv7.bias"),
           "L3Net": ("fc2.bias", "fusion.2.bias")}  # fmt: skip
RELEASED = [
    Released(name, partial(network, name), partial(released, name), load, missing=MISSING[name]) for name in NETWORKS
]
