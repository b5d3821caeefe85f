"""UAVM's networks of three fusions, and its extractor of sound."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from experiments.uavm.checkpoints import load, load_extractor
from experiments.uavm.extractor import AudioConvNeXt, ConvNeXtConfig
from experiments.uavm.model import UAVM, UAVMConfig
from tests.experiments.golden import Recording, Released, Run

RECORDED = Recording("uavm")
GOLDEN, drawn = RECORDED.values, RECORDED.drawn
EXTRACTOR, CASES = GOLDEN["extractor"], GOLDEN["networks"]["cases"]
FUSION = {"UnifiedTrans": "unified", "SeperateTrans": "independent", "FullAttTrans": "cross_attention"}


def released(keys: dict[str, list[int]]) -> dict[str, Tensor]:
    return {f"module.{key}": value for key, value in RECORDED.weights(keys).items()}


def fresh(name: str) -> UAVM:
    config = UAVMConfig(fusion=FUSION[CASES[name]["class"]], **CASES[name]["config"])
    return UAVM(config, GOLDEN["networks"]["classes"])


def network(name: str) -> UAVM:
    model = fresh(name)
    load(model, released(CASES[name]["keys"]))
    return model.eval()


def extractor() -> AudioConvNeXt:
    net = AudioConvNeXt(ConvNeXtConfig("tiny"), EXTRACTOR["classes"]).eval()
    load_extractor(net, released(EXTRACTOR["keys"]))
    return net


def feature(name: str, modality: str) -> Tensor:
    """As small as the numbers of a 1024-D vector of length 1, so that the epsilon of the first LayerNorm counts."""
    config = CASES[name]["config"]
    return 0.1 * drawn({"a": "audio", "v": "video"}[modality], 2, config["steps"], config["feature_dim"])


@torch.no_grad()
def logits_and_layers(name: str, net: UAVM) -> dict[str, Any]:
    """Of both modalities together, or of each with every layer's mean (their `extract_feat`)."""
    if "logits_av" in CASES[name]:
        return {"logits_av": net.joint(feature(name, "a"), feature(name, "v"))}
    found: dict[str, Any] = {}
    for modality in "av":
        x = feature(name, modality)
        found[f"logits_{modality}"] = net(x, modality)
        if f"layers_{modality}" in CASES[name]:
            layers = [net.representation(x, modality, layer) for layer in range(net.depth + 2)]
            found[f"layers_{modality}"] = [layer[:, ::6] for layer in layers[:-1]] + layers[-1:]
    return found


@torch.no_grad()
def features_and_logits(net: AudioConvNeXt) -> dict[str, Any]:
    audio = 4 * drawn("log-mel", 1, 990, 128)[:, None]
    features = net.features(audio)
    assert features.shape[::2] == (1, 768)
    return {"steps": features.shape[1], "features": features[0, ::3, ::96], "logits": net(audio)}


RUNS = [
    *(Run(f"networks/cases/{name}", partial(logits_and_layers, name), partial(network, name)) for name in CASES),
    Run("extractor", features_and_logits, extractor),
]


def unused(keys: dict[str, list[int]]) -> tuple[str, ...]:
    """Heads of single towers, and their projections where the width stays the same."""
    same = [key for key, shape in keys.items() if key.endswith("_trans.in_proj.weight") and shape[0] == shape[1]]
    return (
        *(f"module.{key.removesuffix('weight')}" for key in same),
        "module.a_trans.mlp_head",
        "module.v_trans.mlp_head",
    )


MISSING = {"": ("s_trans.pos_embed", "shared.av.positions"), "separate": ("a_s_trans.pos_embed", "shared.a.positions"),
           "unified_6_0": ("a_trans.pos_embed", "specific.a.positions")}  # fmt: skip
RELEASED = [
    *(
        Released(
            name, partial(network, name), partial(released, case["keys"]), load, unused(case["keys"]),
            (f"module.{theirs}", ours),
        )
        for name, case in CASES.items() for theirs, ours in (MISSING.get(name, MISSING[""]),)
    ),
    Released(
        "extractor", extractor, partial(released, EXTRACTOR["keys"]), load_extractor,
        missing=("module.model.2.2.bias", "head.1.bias"),
    ),
]  # fmt: skip
