"""MBT from an image ViT, against numbers of the authors' own surgery (`tests/golden/mbt_scenic_init.json`)."""

from __future__ import annotations

import json
import re
from functools import partial
from pathlib import Path

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from datamodules.types import AudioInputs, Inputs, VideoInputs
from experiments.common.weights import load_strict
from experiments.mbt.checkpoints import from_image_vit, from_scenic, is_image_vit, is_scenic
from experiments.mbt.model import MBT, MBTConfig
from tests.experiments.test_mbt_parity import drawn, recorded, scenic_weights

GOLDEN = json.loads((Path(__file__).parent.parent / "golden" / "mbt_scenic_init.json").read_text())
BOTH = GOLDEN["both"]
INPUTS = Inputs(AudioInputs(frames=800), VideoInputs(frames=4))
VIT = {
    "cls_token": (1, 1, 8),
    "pos_embed": (1, 197, 8),
    "patch_embed.proj.weight": (8, 3, 16, 16),
    "patch_embed.proj.bias": (8,),
    "norm.weight": (8,),
    "norm.bias": (8,),
}


def mbt(modality: str = "av", inputs: Inputs = INPUTS, **config) -> MBT:
    sizes = {"dim": 8, "depth": 2, "heads": 2, "mlp_ratio": 2.0, "tubelet": 2, "fusion_layer": 1} | config
    return MBT(MBTConfig(**sizes), inputs, modality, num_classes=7)


def image_vit() -> dict[str, Tensor]:
    """The recorded run's ViT: its block i is all i + 1."""
    blocks = mbt("v").blocks["v"].state_dict()
    weights = {f"blocks.{key}": torch.full_like(value, int(key[0]) + 1) for key, value in blocks.items()}
    return weights | {key: drawn(key, shape) for key, shape in VIT.items()}


def started(modality: str = "av", inputs: Inputs = INPUTS, **config) -> MBT:
    model = mbt(modality, inputs, **config)
    load_strict(model, from_image_vit(image_vit(), model), new=("head",))
    return model


def close(ours: Tensor, golden: list, tolerance: float = 1e-5) -> None:
    golden = torch.tensor(golden)
    assert ours.shape == golden.shape and (ours - golden).abs().max() < tolerance


# --- the authors' surgery -----------------------------------------------------------------------------------------


def test_spectrogram_positions_are_zoomed_to_50_by_8_as_by_the_authors_code():
    golden, positions = BOTH["audio_positions"], started().tokens["a"].positions
    assert [1, *positions.shape] == golden["shape"] == [1, 401, 8]
    close(positions[golden["rows"]], golden["values"])
    close(positions.sum(dim=1), golden["row_sums"])


def test_video_positions_are_tiled_over_time_as_by_the_authors_code():
    golden, positions = BOTH["video_positions"], started().tokens["v"].positions
    assert [1, *positions.shape] == golden["shape"] == [1, 393, 8]
    close(positions[golden["rows"]], golden["values"])
    assert torch.equal(positions[1:197], positions[197:])
    assert [1, *started(tubelet=1).tokens["v"].positions.shape] == GOLDEN["video_tubelet_1"]["shape"]


def test_bottlenecks_are_the_position_of_cls_and_the_zoomed_grid_as_by_the_authors_code():
    close(started(bottlenecks=4).bottleneck, BOTH["bottleneck"])
    close(started(bottlenecks=6).bottleneck, GOLDEN["bottleneck_6"])
    close(started(bottlenecks=16).bottleneck, GOLDEN["bottleneck_16"])
    close(started(extra_bottleneck=False).bottleneck, BOTH["bottleneck"][1:])


def test_bottlenecks_that_make_no_grid_are_an_error_as_in_the_authors_code():
    assert GOLDEN["bottleneck_5"] == "AssertionError"
    with pytest.raises(ValueError, match="floor.sqrt.B.* rows, which 5 has not"):
        started(bottlenecks=5)


@pytest.mark.parametrize(
    ("tubelet", "sums"),
    [
        (1, GOLDEN["video_tubelet_1"]["sum_of_each_frame"]),
        (2, BOTH["kernel_video"]["sum_of_each_frame"]),
        (3, GOLDEN["video_3_frames"]["sum_of_each_frame"]),
    ],
)
def test_only_the_middle_frame_of_the_video_kernel_is_not_zero(tubelet, sums):
    model = started("v", Inputs(None, VideoInputs(frames=2 * tubelet)), tubelet=tubelet)
    close(model.tokens["v"].patch_embed.weight.sum(dim=(0, 1, 3, 4)), sums, 1e-4)
    assert sum(value != 0 for value in sums) == 1


def test_kernels_are_those_of_the_authors_surgery():
    model = started()
    close(model.tokens["v"].patch_embed.weight[..., 3, 5].permute(2, 1, 0), BOTH["kernel_video"]["pixels"])
    close(model.tokens["a"].patch_embed.weight[:, 0, 3, 5], torch.tensor(BOTH["kernel_audio"]["pixel"]).sum(0).tolist())


def test_cls_of_the_spectrogram_starts_from_the_vit_only_when_alone_as_by_the_authors_code():
    model = started()
    close(model.tokens["v"].cls_token, BOTH["cls"])
    close(model.tokens["a"].cls_token, BOTH["clsspectrogram"])
    assert not any(BOTH["clsspectrogram"]) and all(BOTH["cls"])
    close(started("a").tokens["a"].cls_token, GOLDEN["audio_only_cls"])


def test_both_streams_start_from_the_same_blocks_in_weights_of_their_own():
    model = started()
    close(model.norm.weight, BOTH["norm"])
    assert BOTH["head_sum"] == 0 and not model.head.weight.any()
    for key, mean in BOTH["blocks"].items():
        index, suffix = re.fullmatch(r"Transformer/encoderblock_(\d)(_spectrogram)?/.+", key).groups()
        assert (model.blocks["a" if suffix else "v"][int(index)].norm1.weight == mean).all()
    ours = zip(model.blocks["a"].parameters(), model.blocks["v"].parameters(), strict=True)
    assert all(torch.equal(a, v) and a.data_ptr() != v.data_ptr() for a, v in ours)
    assert (started(share_encoder=True).blocks["shared"][1].norm1.weight == 2).all()


# --- timm's ViT ---------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_a_picture_gives_the_tokens_of_timms_vit_it_started_from():
    """Also a log-mel that is a picture of three equal channels, for our kernel of one."""
    torch.manual_seed(0)
    gelu = partial(nn.GELU, approximate="tanh")
    vit = VisionTransformer(img_size=32, embed_dim=8, depth=2, num_heads=2, num_classes=3, act_layer=gelu).eval()
    for parameter in vit.parameters():
        nn.init.normal_(parameter, std=0.3)
    assert is_image_vit(vit.state_dict())
    inputs = Inputs(AudioInputs(frames=32, mel_bins=32), VideoInputs(frames=1, size=32))
    picture = torch.randn(2, 3, 32, 32)
    for modality, batch, image in (
        ("v", {"video": picture[:, :, None]}, picture),
        ("a", {"audio": picture[:, :1]}, picture[:, :1].expand(-1, 3, -1, -1)),
    ):
        model = mbt(modality, inputs, mlp_ratio=4.0, tubelet=1).eval()
        load_strict(model, from_image_vit(vit.state_dict(), model), new=("head",))
        assert (model.encode(batch)[modality] - vit.forward_features(image)).abs().max() < 1e-5


def test_what_an_image_vit_does_not_have_or_lacks_is_named():
    weights = {key: value for key, value in image_vit().items() if key != "pos_embed"}
    with pytest.raises(ValueError, match=r"pos_embed: missing(.|\n)*fc_norm.weight: unknown"):
        from_image_vit(weights | {"fc_norm.weight": torch.ones(8), "head.weight": torch.ones(3, 8)}, mbt())
    with pytest.raises(ValueError, match=r"blocks.a.2.attn.qkv.weight: missing"):
        model = mbt(depth=3)
        load_strict(model, from_image_vit(image_vit(), model), new=("head",))


# --- the authors' checkpoints -------------------------------------------------------------------------------------


def test_keys_tell_whose_weights_they_are():
    assert is_image_vit(image_vit()) and not is_scenic(image_vit())
    official = scenic_weights("bottleneck_2", depth=4)
    assert is_scenic(official) and not is_image_vit(official)
    assert not is_scenic(mbt().state_dict()) and not is_image_vit(mbt().state_dict())


def test_a_scenic_checkpoint_of_arrays_loads_as_one_of_tensors():
    model, tensors = recorded("bottleneck_2"), scenic_weights("bottleneck_2", depth=4)
    arrays = from_scenic({key: value.numpy() for key, value in tensors.items()}, model)
    assert arrays.keys() == model.state_dict().keys()
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in arrays.items())


def test_a_scenic_checkpoint_of_both_modalities_starts_the_model_of_one():
    model, both = recorded("audio"), recorded("bottleneck_2")
    weights = from_scenic(scenic_weights("bottleneck_2", depth=4), model)
    load_strict(model, weights, unused=("tokens.v", "blocks.v"))
    assert torch.equal(model.blocks["a"][3].attn.qkv.weight, both.blocks["a"][3].attn.qkv.weight)
    assert torch.equal(model.tokens["a"].cls_token, both.tokens["a"].cls_token)


def test_a_scenic_key_without_a_place_or_without_its_companions_is_named():
    model, weights = recorded("bottleneck_2"), scenic_weights("bottleneck_2", depth=4)
    lone = "Transformer/encoderblock_1_spectrogram/MultiHeadDotProductAttention_0/key/kernel"
    wrong = {key: value for key, value in weights.items() if key != lone} | {"pre_logits/kernel": torch.ones(2)}
    with pytest.raises(ValueError, match=r"pre_logits/kernel: unknown(.|\n)*blocks.a.1.attn.k.weight: missing"):
        from_scenic(wrong, model)
    with pytest.raises(ValueError, match="tokens.a.cls_token: missing"):
        load_strict(model, from_scenic({k: v for k, v in weights.items() if k != "clsspectrogram"}, model))
    with pytest.raises(ValueError, match="blocks.a.0.norm1.weight: missing"):  # theirs has shared blocks
        load_strict(model, from_scenic(scenic_weights("bottleneck_2_shared", depth=4), model))
