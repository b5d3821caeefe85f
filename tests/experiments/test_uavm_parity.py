"""UAVM against the authors' classes, by numbers recorded from them (`tests/golden/uavm_*.json`).

The weights and inputs of those runs can be drawn again here: each is a function of its name in their layout.
"""

from __future__ import annotations

import json
import math
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor

from datamodules import keyed
from experiments.uavm.checkpoints import load, load_extractor
from experiments.uavm.extractor import AudioConvNeXt, ConvNeXtConfig
from experiments.uavm.model import UAVM, UAVMConfig

FOLDER = Path(__file__).parent.parent / "golden"
NETWORKS = json.loads((FOLDER / "uavm_networks.json").read_text())
EXTRACTOR = json.loads((FOLDER / "uavm_extractor.json").read_text())
FUSION = {"UnifiedTrans": "unified", "SeperateTrans": "independent", "FullAttTrans": "cross_attention"}
UNIFIED = [name for name, case in NETWORKS["cases"].items() if case["class"] == "UnifiedTrans"]
SINGLE = [name for name, case in NETWORKS["cases"].items() if case["class"] != "FullAttTrans"]
TOLERANCE = 1e-4


def drawn(name: str, shape: tuple[int, ...]) -> Tensor:
    """Uniform numbers in [-0.5, 0.5) that depend on the name alone."""
    key = torch.tensor([keyed.stable_hash("uavm parity", name)])
    return keyed.uniform(key, "value", math.prod(shape)).view(shape) - 0.5


def released(keys: dict[str, list[int]]) -> dict[str, Tensor]:
    """The recorded run's weights as the authors' file would hold them; weights of norms are about 1."""
    return {
        f"module.{key}": 0.2 * drawn(key, tuple(shape)) + float(key.endswith("weight") and len(shape) == 1)
        for key, shape in keys.items()
    }


@cache
def network(name: str) -> UAVM:
    case = NETWORKS["cases"][name]
    model = UAVM(UAVMConfig(fusion=FUSION[case["class"]], **case["config"]), NETWORKS["classes"])
    load(model, released(case["keys"]))
    return model.eval()


@cache
def extractor() -> AudioConvNeXt:
    model = AudioConvNeXt(ConvNeXtConfig(size="tiny"), EXTRACTOR["classes"])
    load_extractor(model, released(EXTRACTOR["keys"]))
    return model.eval()


def feature(name: str, modality: str) -> Tensor:
    """As small as the numbers of a 1024-D vector of length 1, so that the epsilon of the first LayerNorm counts."""
    config = NETWORKS["cases"][name]["config"]
    return 0.1 * drawn({"a": "audio", "v": "video"}[modality], (2, config["steps"], config["feature_dim"]))


def difference(ours: Tensor, golden: list[list[float]]) -> float:
    assert ours.shape == torch.tensor(golden).shape
    return (ours - torch.tensor(golden)).abs().max().item()


@torch.no_grad()
@pytest.mark.parametrize("name", SINGLE)
@pytest.mark.parametrize("modality", ["a", "v"])
def test_logits_of_one_modality_are_those_of_the_authors_class(name, modality):
    logits = network(name)(feature(name, modality), modality)
    assert difference(logits, NETWORKS["cases"][name][f"logits_{modality}"]) < TOLERANCE


@torch.no_grad()
def test_logits_of_cross_modality_attention_are_those_of_the_authors_class():
    name = "full_attention"
    logits = network(name).joint(feature(name, "a"), feature(name, "v"))
    assert difference(logits, NETWORKS["cases"][name]["logits_av"]) < TOLERANCE


@torch.no_grad()
@pytest.mark.parametrize("name", UNIFIED)
@pytest.mark.parametrize("modality", ["a", "v"])
def test_every_layer_s_representation_is_the_mean_of_extract_feat(name, modality):
    golden = NETWORKS["cases"][name][f"layers_{modality}"]
    assert len(golden) == 8
    for layer, values in enumerate(golden):
        ours = network(name).representation(feature(name, modality), modality, layer)
        assert difference(ours if layer == 7 else ours[:, ::6], values) < TOLERANCE


@torch.no_grad()
@pytest.mark.parametrize(("name", "tower"), [("unified", "shared.av"), ("unified_6_0", "specific.a")])
def test_the_recorded_numbers_would_tell_if_a_deep_weight_were_wrong(name, tower):
    weight = network(name).get_submodule(f"{tower}.blocks")[-1].attn.proj.weight
    right = weight.clone()
    weight *= 1.1
    changed = network(name)(feature(name, "a"), "a")
    weight.copy_(right)
    assert difference(changed, NETWORKS["cases"][name]["logits_a"]) > 50 * TOLERANCE


@torch.no_grad()
def test_features_and_logits_of_sound_are_those_of_the_authors_extractor():
    audio = 4 * drawn("log-mel", (1, 990, 128))[:, None]
    features = extractor().features(audio)
    assert features.shape == (1, EXTRACTOR["steps"], 768)
    assert difference(features[0, ::3, ::96], EXTRACTOR["features"]) < TOLERANCE
    assert difference(extractor()(audio), EXTRACTOR["logits"]) < TOLERANCE
