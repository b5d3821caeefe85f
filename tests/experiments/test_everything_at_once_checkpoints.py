from __future__ import annotations

import pytest
import torch

from datamodules.weight_files import read_checkpoint
from experiments.everything_at_once.checkpoints import from_official, is_official, load
from experiments.everything_at_once.model import EverythingAtOnce, EverythingAtOnceConfig
from tests.experiments.test_everything_at_once_parity import GOLDEN, network, released

FULL = GOLDEN["full_size"]["keys"]
UNUSED = ("module.fusion.norm.", "module.davenet.batchnorm1.")


def full_size() -> dict[str, torch.Tensor]:
    """The authors' state dict of the paper's network, without numbers."""
    return {key: torch.empty(shape, device="meta") for key, shape in FULL.items()}


def on_meta(**changes) -> EverythingAtOnce:
    with torch.device("meta"):
        return EverythingAtOnce(EverythingAtOnceConfig(**changes))


def test_the_released_file_fills_the_paper_s_network():
    weights, net = full_size(), on_meta()
    assert len(weights) == 188 and is_official(weights)
    shapes = {key: value.shape for key, value in net.state_dict().items()}
    assert {key: value.shape for key, value in from_official(weights).items()} == shapes
    load(net, weights)


def test_only_what_the_authors_class_never_uses_is_left_out():
    weights = released()
    taken = {value.data_ptr() for value in from_official(weights).values()}
    assert {key for key, value in weights.items() if value.data_ptr() not in taken} == {
        key for key in weights if key.startswith(UNUSED)
    }


def test_weights_out_of_data_parallel_and_not_are_the_same():
    weights = released()
    plain = {key.removeprefix("module."): value for key, value in weights.items()}
    assert is_official(weights) and is_official(plain)
    ours, others = from_official(weights), from_official(plain)
    assert ours.keys() == others.keys() and all(torch.equal(value, others[key]) for key, value in ours.items())


def test_latest_model_pth_is_read_as_the_authors_write_it(tmp_path):
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(2))])
    torch.save(
        {
            "arch": "EverythingAtOnceModel", "epoch": 14, "step": 99, "state_dict": released(),
            "optimizer": optimizer.state_dict(), "monitor_best": 0, "config": {"arch": {"args": {"depth": 1}}},
        },
        tmp_path / "latest_model.pth",
    )  # fmt: skip
    net, expected = EverythingAtOnce(network().config), network().state_dict()
    load(net, read_checkpoint(str(tmp_path / "latest_model.pth")))
    assert all(torch.equal(value, expected[key]) for key, value in net.state_dict().items())


def test_own_weights_are_loaded_as_they_are():
    net, own = EverythingAtOnce(network().config), network().state_dict()
    assert not is_official(own)
    load(net, own)
    assert all(torch.equal(value, own[key]) for key, value in net.state_dict().items())


@pytest.mark.parametrize(
    "key",
    [
        "fusion.cls_token",
        "video_pos_embed",
        "proj.fc.weight",
        "fusion_text.blocks.0.norm1.weight",
        "davenet.conv7.weight",
    ],
)
def test_a_key_of_another_variant_is_named(key):
    with pytest.raises(ValueError, match=rf"{key.replace('.', '[.]')}: unknown"):
        load(network(), {**released(), f"module.{key}": torch.zeros(1)})


def test_a_key_that_is_missing_is_named():
    weights = released()
    for key in ("fusion.blocks.1.attn.qkv.weight", "davenet.layer5.0.bn2.running_var", "text_norm_layer.bias"):
        del weights[f"module.{key}"]
    with pytest.raises(ValueError) as error:
        load(network(), weights)
    for key in ("blocks.1.attn.qkv.weight", "audio_encoder.stages.4.0.bn2.running_var", "token_projection.t.1.bias"):
        assert f"{key}: missing" in str(error.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"video_dims": [1024]}, r"token_projection\.v\.0\.fc\.weight: shape \[4096, 4096\], not \[4096, 1024\]"),
        ({"depth": 2}, r"blocks\.1\.norm1\.weight: missing"),
        ({"depth": 0}, r"blocks\.0\.norm1\.weight: unknown"),
    ],
)
def test_a_file_of_another_size_is_an_error(changes, message):
    with pytest.raises(ValueError, match=message):
        load(on_meta(**changes), full_size())


def test_a_file_with_s3d_s_features_fits_a_network_of_their_width():
    weights = full_size() | {"video_token_proj.fc.weight": torch.empty(4096, 1024, device="meta")}
    load(on_meta(video_dims=[1024]), weights)
