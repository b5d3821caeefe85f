"""UAVM against the authors' classes, by numbers recorded from them (`tests/golden/uavm_*.json`)."""

from __future__ import annotations

from functools import cache, partial

import pytest
import torch
from torch import Tensor

from experiments.uavm.checkpoints import load, load_extractor
from experiments.uavm.extractor import AudioConvNeXt, ConvNeXtConfig
from experiments.uavm.model import UAVM, UAVMConfig
from tests.experiments import golden

NETWORKS, EXTRACTOR = golden.recorded("uavm_networks"), golden.recorded("uavm_extractor")
CASES = NETWORKS["cases"]
FUSION = {"UnifiedTrans": "unified", "SeperateTrans": "independent", "FullAttTrans": "cross_attention"}
SINGLE = [name for name, case in CASES.items() if "logits_a" in case]
drawn = partial(golden.drawn, "uavm parity")


def released(keys: dict[str, list[int]]) -> dict[str, Tensor]:
    """The recorded run's weights as the authors' file holds them; weights of norms are about 1."""
    return {
        f"module.{key}": 0.2 * drawn(key, tuple(shape)) + float(key.endswith("weight") and len(shape) == 1)
        for key, shape in keys.items()
    }


def fresh(name: str) -> UAVM:
    config = UAVMConfig(fusion=FUSION[CASES[name]["class"]], **CASES[name]["config"])
    return UAVM(config, NETWORKS["classes"])


@cache
def network(name: str) -> UAVM:
    model = fresh(name)
    load(model, released(CASES[name]["keys"]))
    return model.eval()


def feature(name: str, modality: str) -> Tensor:
    """As small as the numbers of a 1024-D vector of length 1, so that the epsilon of the first LayerNorm counts."""
    config = CASES[name]["config"]
    return 0.1 * drawn({"a": "audio", "v": "video"}[modality], (2, config["steps"], config["feature_dim"]))


@torch.no_grad()
@pytest.mark.parametrize("modality", ["a", "v"])
@pytest.mark.parametrize("name", SINGLE)
def test_logits_of_one_modality_and_every_layer_s_mean_are_those_of_the_authors_class(name, modality):
    net, x, case = network(name), feature(name, modality), CASES[name]
    golden.assert_close(net(x, modality), case[f"logits_{modality}"])
    for layer, values in enumerate(case.get(f"layers_{modality}", [])):  # their `extract_feat`
        ours = net.representation(x, modality, layer)
        golden.assert_close(ours if layer == net.depth + 1 else ours[:, ::6], values)


@torch.no_grad()
def test_logits_of_cross_modality_attention_are_those_of_the_authors_class():
    name = "full_attention"
    logits = network(name).joint(feature(name, "a"), feature(name, "v"))
    golden.assert_close(logits, CASES[name]["logits_av"])


@torch.no_grad()
def test_features_and_logits_of_sound_are_those_of_the_authors_extractor():
    extractor = AudioConvNeXt(ConvNeXtConfig("tiny"), EXTRACTOR["classes"]).eval()
    load_extractor(extractor, released(EXTRACTOR["keys"]))
    audio = 4 * drawn("log-mel", (1, 990, 128))[:, None]
    features = extractor.features(audio)
    assert features.shape == (1, EXTRACTOR["steps"], 768)
    golden.assert_close(features[0, ::3, ::96], EXTRACTOR["features"])
    golden.assert_close(extractor(audio), EXTRACTOR["logits"])
