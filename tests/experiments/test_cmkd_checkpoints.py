from __future__ import annotations

from urllib.error import URLError

import pytest
import timm
import torch
from torch import Tensor, nn
from torchvision import models

from experiments.cmkd import checkpoints
from experiments.cmkd.checkpoints import (
    from_imagenet,
    from_official,
    imagenet,
    is_imagenet,
    is_official_ast,
    is_official_psla,
    load,
    to_official,
)
from experiments.cmkd.model import AST, CNN, PSLA, ASTConfig, CNNConfig, PSLAConfig, adapt_positions


def ast(frames: int = 1024, classes: int = 5, mel_bins: int = 128, **changes) -> AST:
    return noisy(AST(ASTConfig(**{"dim": 48, "depth": 2, "heads": 3, **changes}), frames, mel_bins, classes))


def psla(classes: int = 5, heads: int = 2) -> PSLA:
    return noisy(PSLA(PSLAConfig(heads), classes))


def noisy(net: nn.Module) -> nn.Module:
    for value in net.state_dict().values():
        if value.is_floating_point():
            value.uniform_(0.5, 1.5)
    return net


def released(net: AST | PSLA) -> dict[str, Tensor]:
    """As the authors' files hold it: from DataParallel, and with ImageNet's heads."""
    weights = {f"module.{key}": value for key, value in to_official(net).items()}
    dead = ("v.head", "v.head_dist") if isinstance(net, AST) else ("effnet._fc",)
    return weights | {f"module.{head}.{x}": torch.ones(3) for head in dead for x in ("weight", "bias")}


def same(ours: nn.Module, theirs: nn.Module, but: tuple[str, ...] = ()) -> bool:
    other = theirs.state_dict()
    return all(torch.equal(v, other[k]) for k, v in ours.state_dict().items() if not k.startswith(but or ("\0",)))


# --- the authors' files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [ast, psla])
def test_a_released_file_is_known_and_makes_the_same_network(make):
    net, other = make(), make()
    weights = released(net)
    assert (is_official_ast(weights), is_official_psla(weights)) == (make is ast, make is psla)
    assert not is_imagenet(weights)
    load(other, weights)
    assert same(other, net)
    load(make(), {key.removeprefix("module."): value for key, value in weights.items()})


def test_an_audioset_file_starts_another_length_with_another_number_of_classes():
    net, other = ast(1024, classes=5), ast(512, classes=3)
    head = other.head[1].weight.clone()
    load(other, released(net))
    assert torch.equal(other.positions, adapt_positions(net.positions.detach(), (12, 101), (12, 50)))
    assert torch.equal(other.head[1].weight, head)
    assert same(other, net, but=("head", "positions"))


def test_a_psla_file_starts_another_number_of_classes():
    net, other = psla(classes=5), psla(classes=3)
    head = other.head.cla[0].weight.clone()
    load(other, released(net))
    assert torch.equal(other.head.cla[0].weight, head) and same(other, net, but=("head",))


def test_unknown_and_missing_keys_are_named():
    weights = released(ast())
    with pytest.raises(ValueError, match=r"v\.blocks\.9\.norm1\.weight: unknown"):
        from_official({**weights, "module.v.blocks.9.norm1.weight": torch.ones(48)}, ast())
    del weights["module.v.dist_token"], weights["module.mlp_head.1.bias"]
    with pytest.raises(ValueError, match=r"dist_token: missing\n  head\.1\.bias: missing"):
        load(ast(), weights)
    with pytest.raises(ValueError, match=r"v\.cls_token: unknown"):
        load(psla(), released(ast()))
    weights = released(psla())
    del weights["module.effnet._blocks.3._bn2.running_var"]
    with pytest.raises(ValueError, match=r"features\.2\.1\.block\.3\.1\.running_var: missing"):
        load(psla(), weights)


def test_a_file_of_another_number_of_heads_is_an_error():
    with pytest.raises(ValueError, match=r"attention\.(att|cla)\.2\.weight: unknown"):
        load(psla(heads=2), released(psla(heads=3)))


def test_a_file_of_another_stride_is_an_error_that_names_it():
    with pytest.raises(ValueError, match=r"512 patches do not make 12 rows; another model\.ast\.stride"):
        load(ast(), released(ast(stride=16)))


def test_a_file_of_another_stride_in_time_does_not_pass_for_a_longer_input():
    """85 columns are what 1024 frames make at a stride of 12; cut to 50 they would be positions of other times."""
    weights = {"module.v.pos_embed": torch.randn(1, 2 + 12 * 85, 48)}
    with pytest.raises(
        ValueError, match=r"85 columns are those of a stride of 12 frames, not of 10; another model\.ast"
    ):
        from_official(weights, ast(512))
    assert len(from_official(weights, ast(512, time_stride=12))["positions"]) == 2 + 12 * 42


def test_cnn_of_cmkd_was_never_released():
    with pytest.raises(ValueError, match="never released"):
        load(CNN(CNNConfig(backbone="small"), 5), released(psla()))


# --- ours -----------------------------------------------------------------------------------------------------


def test_our_own_weights_start_another_length_and_another_number_of_classes():
    net, other = ast(200, classes=5), ast(100, classes=3)
    load(other, net.state_dict())
    assert same(other, net, but=("head", "positions"))
    assert torch.equal(other.positions, adapt_positions(net.positions.detach(), (12, 19), (12, 9)))
    small, same_size = (noisy(CNN(CNNConfig(backbone="small"), 5)) for _ in range(2))
    load(same_size, small.state_dict())
    assert same(same_size, small)


def test_our_own_weights_without_a_head_are_an_error():
    weights = {key: value for key, value in ast().state_dict().items() if not key.startswith("head.")}
    with pytest.raises(ValueError, match=r"head\.1\.weight: missing"):
        load(ast(), weights)


# --- ImageNet -------------------------------------------------------------------------------------------------


def deit() -> dict[str, Tensor]:
    net = timm.create_model("deit_tiny_distilled_patch16_224", depth=2, img_size=96)
    return noisy(net).state_dict()


@pytest.mark.parametrize("mono", ["sum", "mean"])
def test_ast_starts_from_a_distilled_deit(mono):
    weights, net = deit(), ast(64, dim=192, mono=mono, mel_bins=64)
    head = net.head[1].weight.clone()
    assert is_imagenet(weights) and not is_official_ast(weights)
    load(net, weights)
    rgb = weights["patch_embed.proj.weight"]
    assert torch.allclose(net.patch_embed.weight, getattr(rgb, mono)(1, keepdim=True))
    assert torch.equal(net.dist_token, weights["dist_token"][0, 0])
    assert torch.equal(net.blocks[1].mlp.fc2.weight, weights["blocks.1.mlp.fc2.weight"])
    grid = weights["pos_embed"][0, 2:].view(6, 6, 192)
    assert net.grid == (5, 5) and torch.equal(net.positions[2:].view(5, 5, 192), grid[1:6, 1:6])
    assert torch.equal(net.norm.bias, weights["norm.bias"]) and torch.equal(net.head[1].weight, head)


@pytest.mark.parametrize(("backbone", "stem"), [("efficientnet_b0", "0.0"), ("densenet121", "conv0")])
@pytest.mark.parametrize("pooling", ["mean", "attention"])
def test_cnns_start_from_torchvision_s_with_the_mean_of_the_first_kernel(backbone, stem, pooling):
    picture = noisy(getattr(models, backbone)())
    net = noisy(CNN(CNNConfig(backbone=backbone, pooling=pooling), 5))
    assert is_imagenet(picture.state_dict())
    load(net, picture.state_dict())
    for key, value in picture.features.state_dict().items():
        expected = value.mean(1, keepdim=True) if key == f"{stem}.weight" else value
        assert torch.equal(net.features.state_dict()[key], expected), key


def test_old_names_and_uncounted_batches_of_densenet_s_file_are_known():
    weights = models.densenet121().state_dict()
    old = {
        key.replace("norm1", "norm.1").replace("conv2", "conv.2") if "denselayer" in key else key: value
        for key, value in weights.items()
        if not key.endswith("num_batches_tracked")
    }
    net = CNN(CNNConfig(backbone="densenet121"), 5)
    load(net, old)
    key = "denseblock3.denselayer7.conv2.weight"
    assert torch.equal(net.features.state_dict()[key], weights[f"features.{key}"])


def test_psla_starts_from_efficientnet_pytorch_s_file_but_for_the_stem():
    net, other = psla(), psla()
    stem = other.features[0][0].weight.clone()
    prefix = "effnet."
    weights = {k.removeprefix(prefix): v for k, v in to_official(net).items() if k.startswith(prefix)}
    weights |= {"_fc.weight": torch.ones(3), "_conv_stem.weight": torch.ones(32, 3, 3, 3)}
    assert is_imagenet(weights) and not is_official_psla(weights)
    load(other, weights)
    assert same(other, net, but=("head.", "features.0.0."))
    assert torch.equal(other.features[0][0].weight, stem)


def test_unknown_and_missing_keys_of_a_picture_network_are_named():
    with pytest.raises(ValueError, match=r"blocks\.1\.norm1\.weight: unknown"):
        from_imagenet(deit(), ast(64, dim=192, depth=1))
    weights = deit()
    del weights["dist_token"]
    with pytest.raises(ValueError, match="dist_token: missing"):
        load(ast(64, dim=192), weights)
    with pytest.raises(ValueError, match=r"cls_token: unknown"):
        load(CNN(CNNConfig(backbone="efficientnet_b0"), 5), deit())


def test_imagenet_weights_come_from_the_libraries(monkeypatch):
    asked, net = [], CNN(CNNConfig(backbone="efficientnet_b0"), 5)

    def create(name, pretrained):
        asked.append((name, pretrained))
        return nn.Linear(1, 1)

    monkeypatch.setattr(timm, "create_model", create)
    imagenet(ast(dim=192))
    imagenet(ast(dim=768, heads=12, depth=1))
    assert asked == [("deit_tiny_distilled_patch16_224", True), ("deit_base_distilled_patch16_384", True)]
    monkeypatch.setitem(checkpoints.TORCHVISION, "efficientnet_b0", lambda weights: create("b0", weights))
    imagenet(net)
    assert asked[-1] == ("b0", "DEFAULT")


def test_a_failed_download_is_an_error_that_names_init(monkeypatch):
    def fail(*_, **__):
        raise URLError("no network")

    monkeypatch.setattr(timm, "create_model", fail)
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", fail)
    for net in (ast(dim=192), psla()):
        with pytest.raises(ValueError, match=r"could not be downloaded \(.*no network.*\); .*set init=FILE"):
            imagenet(net)


def test_sizes_that_imagenet_does_not_have_are_named():
    with pytest.raises(ValueError, match=r"model\.ast\.dim=48, only of \[192, 384, 768\]"):
        imagenet(ast())
    with pytest.raises(ValueError, match=r"model\.cnn\.backbone=small"):
        imagenet(CNN(CNNConfig(backbone="small"), 5))
