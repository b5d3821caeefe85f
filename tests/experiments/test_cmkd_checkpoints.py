"""What CMKD's networks start from: pictures' networks, and weights for another length or other classes."""

from __future__ import annotations

import re
from functools import partial
from urllib.error import URLError

import pytest
import timm
import torch
from torch import Tensor, nn

from experiments.cmkd.checkpoints import TORCHVISION, imagenet, load, to_official
from experiments.cmkd.model import AST, CNN, PSLA, ASTConfig, CNNConfig, PSLAConfig, adapt_positions

PICTURE = {"patch_embed.proj.weight": torch.ones(48, 3, 16, 16)}


def ast(frames: int = 200, classes: int = 5, **changes) -> AST:
    return AST(ASTConfig(**{"dim": 48, "depth": 2, "heads": 3, **changes}), frames, 128, classes)


def square_ast(dim: int, mono: str) -> AST:
    """On the patches of DeiT."""
    return AST(ASTConfig(dim, 2, dim // 64, stride=16, mono=mono), 96, 96, 5)


def cnn(backbone: str = "small", classes: int = 5) -> CNN:
    return CNN(CNNConfig(backbone), classes)


def psla(classes: int = 5, heads: int = 2) -> PSLA:
    return PSLA(PSLAConfig(heads), classes)


def of_older_code(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The names of DenseNet's file; its batch norms do not count their batches."""
    dotted = {re.sub(r"(denselayer\d+\.(?:norm|conv))(\d)", r"\1.\2", key): value for key, value in weights.items()}
    return {key: value for key, value in dotted.items() if not key.endswith("num_batches_tracked")}


def unchanged(head: nn.Module, before: list[Tensor]) -> bool:
    return all(map(torch.equal, head.parameters(), before))


@torch.no_grad()
@pytest.mark.parametrize(
    ("make", "brightness"),
    [
        (partial(square_ast, 192, "sum"), 1),
        (partial(square_ast, 384, "mean"), 1 / 3),
        (partial(square_ast, 768, "sum"), 1),
        *((partial(cnn, backbone), 1 / 3) for backbone in TORCHVISION if backbone != "efficientnet_b6"),
        pytest.param(partial(cnn, "efficientnet_b6"), 1 / 3, marks=pytest.mark.slow),
    ],
)
def test_networks_from_imagenet_see_a_grey_picture_as_the_libraries_networks_do(make, brightness, monkeypatch):
    torch.manual_seed(0)
    net, deit, offered = make(), partial(timm.create_model, depth=2, img_size=96), []

    def give(theirs, trained):
        assert trained
        offered.append(theirs)
        for norm in [module for module in theirs.modules() if isinstance(module, nn.BatchNorm2d)]:
            norm.momentum = 1.0  # of the statistics of the next batch
        theirs(torch.randn(4, 3, 96, 96))
        return theirs.eval()

    monkeypatch.setattr(timm, "create_model", lambda name, pretrained: give(deit(name), pretrained))
    for name, cnn_of in TORCHVISION.items():
        monkeypatch.setitem(TORCHVISION, name, lambda weights, cnn_of=cnn_of: give(cnn_of(), weights == "DEFAULT"))
    head = [value.clone() for value in net.head.parameters()]
    load(net, of_older_code(imagenet(net)))
    assert unchanged(net.head, head)
    grey, (theirs,), net = torch.randn(2, 1, 96, 96), offered, net.eval()
    rgb = brightness * grey.expand(2, 3, 96, 96)
    if isinstance(net, AST):
        expected = net.head(theirs.forward_features(rgb)[:, :2].mean(dim=1))
    else:
        theirs.classifier = nn.Identity()
        expected = nn.functional.linear(theirs(rgb), net.head.weight, net.head.bias)
    torch.testing.assert_close(net(grey.transpose(2, 3)), expected, rtol=1e-3, atol=1e-3)


def test_psla_starts_from_efficientnet_pytorch_s_file_but_for_the_stem():
    net, other = psla(), psla()
    before = [value.clone() for value in (net.features[0][0].weight, *net.head.parameters())]
    weights = {key.removeprefix("effnet."): value for key, value in to_official(other).items() if "effnet" in key}
    load(net, weights | {"_fc.weight": torch.ones(3), "_conv_stem.weight": torch.ones(32, 3, 3, 3)})
    assert all(map(torch.equal, (net.features[0][0].weight, *net.head.parameters()), before))
    assert all(map(torch.equal, net.features[1:].parameters(), other.features[1:].parameters()))


def test_a_failed_download_is_an_error_that_names_init(monkeypatch):
    def fail(*_, **__):
        raise URLError("no network")

    nets = ast(dim=192), psla(), cnn("efficientnet_b0")
    for owner, name in ((timm, "create_model"), (torch.hub, "load_state_dict_from_url")):
        monkeypatch.setattr(owner, name, fail)
    monkeypatch.setitem(TORCHVISION, "efficientnet_b0", fail)
    for net in nets:
        with pytest.raises(ValueError, match=r"could not be downloaded \(.*no network.*\); .*set init=FILE"):
            imagenet(net)


@pytest.mark.parametrize(
    ("make", "given"),
    [(ast, nn.Module.state_dict), (ast, to_official), (cnn, nn.Module.state_dict), (psla, to_official)],
)
def test_weights_start_another_length_and_another_number_of_classes(make, given):
    parent, net = make(), make(classes=3, **({"frames": 100} if make is ast else {}))
    head, expected = [value.clone() for value in net.head.parameters()], parent.state_dict()
    if make is ast:
        expected["positions"] = adapt_positions(expected["positions"], (12, 19), (12, 9))
    load(net, given(parent))
    assert unchanged(net.head, head)
    assert all(torch.equal(value, expected[key]) for key, value in net.state_dict().items() if "head." not in key)


@pytest.mark.parametrize(
    ("load_them", "message"),
    [
        (lambda: load(psla(heads=2), to_official(psla(heads=3))), r"attention\.(att|cla)\.2\.weight: unknown"),
        (lambda: load(ast(1024), to_official(ast(1024, stride=16))), r"512 patches do not make 12 rows; another model"),
        # 85 columns are what 1024 frames make at a stride of 12; cut to 50 they would be positions of other times.
        (lambda: load(ast(512), to_official(ast(1024, time_stride=12))), r"85 columns are those of a stride of 12 "),
        (lambda: load(cnn(), to_official(psla())), "never released"),
        (lambda: load(ast(), PICTURE | {"blocks.2.x": torch.ones(1)}), r"blocks\.2\.x: unknown"),
        (lambda: imagenet(ast()), r"model\.ast\.dim=48, only of \[192, 384, 768\]"),
        (lambda: imagenet(cnn()), r"model\.cnn\.backbone=small"),
    ],
)
def test_what_does_not_fit_is_named(load_them, message):
    with pytest.raises(ValueError, match=message), torch.device("meta"):
        load_them()
