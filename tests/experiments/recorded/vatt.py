"""VATT's encoders, spaces and losses, narrow and on small clips, with gradients; its splines, buckets of distances and
the loss of AudioSet."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor

from datamodules.types import Inputs, VideoInputs
from experiments.common.checkpoints.keras import SUFFIX
from experiments.common.losses.contrastive import mil_nce
from experiments.common.networks.positions import splined
from experiments.common.networks.t5 import T5Encoder, buckets_of
from experiments.vatt.checkpoints import load
from experiments.vatt.model import VATT, Size, VATTConfig
from experiments.vatt.objective import tagging_loss, two_way_nce
from tests.experiments.golden import Recording, Released, Run

RECORDED = Recording("vatt")
GOLDEN, drawn = RECORDED.values, RECORDED.drawn
CLIPS, TEXTS, WORDS = 3, 2, 6
THERE = torch.tensor([True, True, False])[:, None].expand(-1, TEXTS)
"""The third clip has no words."""
SIZES = {"video": Size(32, 2, 4, 2.0), "audio": Size(24, 2, 3, 2.0), "text": Size(16, 2, 2, 2.0)}
KINDS: dict[str, dict[str, Any]] = {"own": {}, "shared": {"shared": True}, "joint": {"head": "joint"}}
DEEP = {kind: f"{'shared' if kind == 'shared' else 'a'}.blocks.1.mlp.fc2.weight" for kind in KINDS}
BASE = "model/layer_with_weights-0/_base_layer"
UNIFIED = "unified_backbone/unified_transformer"
VECTORS = {
    "own": f"{BASE}/txt_backbone/embedding/embeddings",
    "shared": f"{BASE}/{UNIFIED}/raw_to_embeddings/text/embeddings",
}


def released(kind: str) -> dict[str, Tensor]:
    return {name + SUFFIX: _weight(name, shape) for name, shape in GOLDEN["keys"][kind].items()}


def _weight(name: str, shape: list[int]) -> Tensor:
    leaf = name.rpartition("/")[2]
    if leaf == "kernel":
        return drawn(name, *shape) * (12 / math.prod(shape[:-1])) ** 0.5
    around = float(leaf in ("gamma", "weight", "moving_variance"))
    return around + (1.0 if leaf == "embeddings" else 0.2) * drawn(name, *shape)


def network(kind: str) -> VATT:
    config = VATTConfig(word_dim=12, projected=24, spaces=[20, 10], **SIZES, **KINDS[kind])
    sound = {"kind": "waveform", "sample_rate": 1152, "seconds": 1.0}
    net = VATT(config, Inputs(None, VideoInputs(8, size=32), streams={"sound": sound}), "vat", WORDS)
    if isinstance(text := net.transformers["t"] if kind != "shared" else None, T5Encoder):
        text.buckets, text.furthest = 8, 5
        text.bias = torch.nn.Embedding(8, 2)
    load(net, released(kind))
    return net.eval()


def features(kind: str, net: VATT) -> dict[str, Tensor]:
    ids = (torch.arange(CLIPS * TEXTS * WORDS).view(-1, WORDS) * 7) % 49 + 1
    ids[0, 4:], ids[3, 1:], ids[5] = 0, 0, 0
    vectors = released(kind)[VECTORS["shared" if kind == "shared" else "own"] + SUFFIX][ids]
    video = 2 * drawn("video", CLIPS, 8, 32, 32, 3).movedim(-1, 1)
    found = {"v": net("v", video), "a": net("a", drawn("sound", CLIPS, 1152, 1)[..., 0])}
    return {**found, "t": net("t", vectors, there_BL=ids > 0)}


def embedded(kind: str, net: VATT) -> dict[str, Tensor]:
    of = features(kind, net)
    fine_BD = net.fine["v"](of["v"])
    return {"fine": fine_BD, "a": net.fine["a"](of["a"]), "coarse": net.coarser(fine_BD), "t": net.coarse["t"](of["t"])}


def losses(kind: str, net: VATT) -> dict[str, Tensor]:
    """Batch norms as in training, without dropout, which the recorded step has not."""
    net.fine.train()
    net.coarse.train()
    of = embedded(kind, net)
    va = mil_nce(of["fine"], of["a"][:, None], 0.07)
    vt = mil_nce(of["coarse"], of["t"].unflatten(0, (CLIPS, TEXTS)), 0.07, THERE)
    return {"loss": (va + vt) / 2, "va": va, "vt": vt}


@torch.no_grad()
def both_ways(net: VATT) -> dict[str, Tensor]:
    net.fine.train()
    net.coarse.train()
    of = embedded("own", net)
    return {
        "vt": two_way_nce(of["coarse"], of["t"].unflatten(0, (CLIPS, TEXTS)), 0.07, THERE),
        "va": two_way_nce(of["fine"], of["a"][:, None], 0.07, torch.ones(CLIPS, 1, dtype=torch.bool)),
    }


@torch.no_grad()
def spaces(kind: str, net: VATT) -> dict[str, list[Tensor]]:
    of = {name: value[:, ::4] for name, value in embedded(kind, net).items()}
    return {"va": [of["fine"], of["a"]], "vt": [of["coarse"], of["t"]]}


@torch.no_grad()
def aggregated(kind: str, net: VATT) -> list[Tensor]:
    return [value[:, ::3] for value in features(kind, net).values()]


def gradients(kind: str, net: VATT) -> dict[str, list[Tensor]]:
    """Of each of theirs the sum of sizes and the norm: of what is filled by it, where all of theirs are numbers."""
    losses(kind, net)["loss"].backward()
    numbered, marks = network(kind), {name: number for number, name in enumerate(released(kind), 1)}
    load(numbered, {name: torch.full_like(value, marks[name]) for name, value in released(kind).items()})
    pairs = [
        (p.grad, mark) for p, mark in zip(net.parameters(), numbered.parameters(), strict=True) if p.grad is not None
    ]
    each = {
        key: torch.cat([grad[mark == marks[key + SUFFIX]] for grad, mark in pairs]) for key in GOLDEN[kind]["gradients"]
    }
    return {key: [grad.abs().sum(), grad.norm()] for key, grad in each.items()}


def tags() -> dict[str, Tensor]:
    label_BC = (drawn("labels", 6, 5) > 0.1).float()
    label_BC[:, 0] = 1
    return {"loss": tagging_loss(4 * drawn("logits", 6, 5), label_BC)}


RUNS = [
    *(
        run
        for kind in KINDS
        for run in (
            Run(
                f"{kind}/features",
                partial(aggregated, kind),
                partial(network, kind),
                deep=DEEP[kind],
            ),
            Run(f"{kind}/spaces", partial(spaces, kind), partial(network, kind)),
            Run(f"{kind}/train", partial(losses, kind), partial(network, kind)),
            Run(f"{kind}/gradients", partial(gradients, kind), partial(network, kind), tolerance=1e-5, relative=1e-3),
        )
    ),
    Run("own/two_way", both_ways, partial(network, "own")),
    Run("tags", lambda _: tags()),
    Run("spline", lambda _: {str(length): splined(drawn("table", 9, 6), length) for length in (5, 14)}, tolerance=1e-3),
    Run("buckets", lambda _: {f"{of}_{to}": buckets_of(40, of, to)[[0, 20, 39]] for of, to in ((32, 64), (8, 5))}),
]
RELEASED = [
    Released(
        kind,
        partial(network, kind),
        partial(released, kind),
        load,
        unused=(VECTORS["shared" if kind == "shared" else "own"],),
        missing=(f"{BASE}/{key}{SUFFIX}", ours),
        parallel=False,
    )
    for kind, key, ours in (
        ("own", "aud_backbone/_base/tx/layers/1/mha/k/kernel", "transformers.a.blocks.1.attn.k.weight"),
        (
            "shared",
            f"{UNIFIED}/tx/layers/0/mha/k/bias",
            "transformers.shared.blocks.0.attn.k.bias",
        ),
        ("joint", "txt_backbone/pre_proj/kernel", "fronts.t.1.0.weight"),
    )
]
