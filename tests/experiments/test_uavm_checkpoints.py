from __future__ import annotations

import urllib.error

import pytest
import torch
import torchvision

from experiments.uavm.checkpoints import (
    from_imagenet,
    from_official,
    imagenet,
    is_imagenet,
    is_official,
    is_official_extractor,
    load,
    load_extractor,
)
from experiments.uavm.extractor import AudioConvNeXt, ConvNeXtConfig, VideoConvNeXt
from experiments.uavm.model import UAVM
from tests.experiments.test_uavm_parity import EXTRACTOR, NETWORKS, network, released

CASES = NETWORKS["cases"]


@pytest.fixture(scope="module")
def tiny_convnext():
    """torchvision's state dict, with random weights."""
    return torchvision.models.convnext_tiny(weights=None).state_dict()


def fresh(name):
    return UAVM(network(name).config, NETWORKS["classes"])


@pytest.mark.parametrize("name", CASES)
def test_released_networks_are_told_by_their_keys_and_fill_every_parameter(name):
    weights = released(CASES[name]["keys"])
    assert is_official(weights) and not is_official_extractor(weights) and not is_imagenet(weights)
    ours = fresh(name).state_dict()
    assert not is_official(ours) and set(from_official(weights)) == set(ours)


@pytest.mark.parametrize("name", CASES)
def test_own_weights_are_loaded_as_they_are(name):
    model, other = network(name), fresh(name)
    load(other, model.state_dict())
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in other.state_dict().items())


def test_only_what_the_authors_classes_never_use_is_left_out():
    def left_out(name):
        weights = released(CASES[name]["keys"])
        taken = {value.data_ptr() for value in from_official(weights).values()}
        return {key.removeprefix("module.") for key, value in weights.items() if value.data_ptr() not in taken}

    modules = ("mlp_head.0", "mlp_head.1")
    heads = {f"{m}_trans.{module}.{x}" for m in "av" for module in modules for x in ("weight", "bias")}
    square = {f"{tower}.in_proj.{x}" for tower in ("a_trans", "v_trans", "s_trans") for x in ("weight", "bias")}
    assert left_out("unified") == left_out("separate") == left_out("full_attention") == heads
    assert left_out("unified_same_width") == heads | square
    assert left_out("unified_6_0") == heads | {key for key in square if not key.startswith("s_")}
    assert left_out("unified_0_6") == set()


def test_a_key_that_has_no_place_is_named():
    weights = released(CASES["unified"]["keys"])
    for key in ("module.a_trans.blocks2.weight", "module.t_trans.pos_embed", "module.s_trans.mlp_head.2.weight"):
        with pytest.raises(ValueError, match=key.removeprefix("module.").replace(".", r"\.")):
            from_official({**weights, key: torch.zeros(1)})


def test_a_key_that_is_missing_is_named():
    weights = released(CASES["unified"]["keys"])
    del weights["module.s_trans.blocks.1.attn.qkv.weight"]
    with pytest.raises(ValueError, match=r"shared\.av\.blocks\.1\.attn\.qkv\.weight: missing"):
        load(fresh("unified"), weights)


@pytest.mark.parametrize(
    ("file", "network_name", "message"),
    [
        ("full_attention", "unified", r"shared\.av\.positions: shape \[60, 48\], not \[30, 48\]"),
        ("unified", "separate", r"shared\.a\.positions: missing"),
        ("unified_6_0", "unified_same_width", r"specific\.a\.blocks\.3\.norm1\.weight: unknown"),
    ],
)
def test_a_file_of_another_variant_is_an_error(file, network_name, message):
    with pytest.raises(ValueError, match=message):
        load(fresh(network_name), released(CASES[file]["keys"]))


def test_the_released_extractor_is_told_by_its_keys_and_fits_no_other_class_count():
    weights = released(EXTRACTOR["keys"])
    assert is_official_extractor(weights) and not is_official(weights) and not is_imagenet(weights)
    with pytest.raises(ValueError, match=r"head\.1\.weight: shape \[11, 768\], not \[5, 768\]"):
        load_extractor(AudioConvNeXt(ConvNeXtConfig("tiny"), 5), weights)
    with pytest.raises(ValueError, match=r"model\.3\.weight"):
        load_extractor(AudioConvNeXt(ConvNeXtConfig("tiny"), 11), {**weights, "module.model.3.weight": torch.ones(1)})


@torch.no_grad()
def test_imagenet_s_weights_fill_both_extractors_but_for_the_classifier(tiny_convnext):
    assert is_imagenet(tiny_convnext) and not is_official_extractor(tiny_convnext)
    audio, video = AudioConvNeXt(ConvNeXtConfig("tiny"), 5), VideoConvNeXt(ConvNeXtConfig("tiny"), 5)
    stems = {}
    for extractor in (audio, video):
        head = extractor.head[1].weight.clone()
        load_extractor(extractor, tiny_convnext)
        own = extractor.state_dict()
        stems[extractor] = own.pop("body.0.0.weight")
        assert torch.equal(own["head.1.weight"], head)
        theirs = {key: value for key, value in tiny_convnext.items() if key.startswith("features.")}
        assert all(
            torch.equal(own[key.replace("features", "body", 1)], value)
            for key, value in theirs.items()
            if key != "features.0.0.weight"
        )
        assert torch.equal(own["head.0.bias"], tiny_convnext["classifier.0.bias"])
    assert torch.equal(stems[video], tiny_convnext["features.0.0.weight"])
    torch.testing.assert_close(stems[audio], tiny_convnext["features.0.0.weight"].sum(1, keepdim=True))
    # A grey picture is the same to both.
    grey = torch.randn(1, 1, 64, 64)
    torch.testing.assert_close(audio.eval().body(grey), video.eval().body(grey.expand(1, 3, 64, 64)))


def test_imagenet_s_weights_of_another_size_are_an_error(tiny_convnext):
    with pytest.raises(ValueError, match=r"body\.5\.9\..*missing"):
        load_extractor(VideoConvNeXt(ConvNeXtConfig("small"), 5), tiny_convnext)
    with pytest.raises(ValueError, match=r"neck\.weight"):
        from_imagenet({**tiny_convnext, "neck.weight": torch.zeros(1)}, 3)


def test_a_failed_download_says_what_to_do(monkeypatch, tmp_path):
    def offline(*args, **kwargs):
        raise urllib.error.URLError("no network")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    with pytest.raises(ValueError, match=r"https://.*init=FILE"):
        imagenet("base")


def test_the_cpu_s_network_has_no_imagenet_weights():
    with pytest.raises(ValueError, match="tiny_cpu"):
        imagenet("tiny_cpu")
