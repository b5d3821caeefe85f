"""MBT from an image ViT, against numbers of the authors' own surgery (`tests/golden/mbt_scenic_init.json`), and from
their files, whose names `test_mbt_parity.py` holds to their class."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from torch import Tensor

from datamodules.types import AudioInputs, Inputs, VideoInputs
from experiments.common.weights import load_strict
from experiments.mbt.checkpoints import from_scenic, load
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
    "head.weight": (3, 8),
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
    load(model, image_vit())
    return model


def close(ours: Tensor, golden: list, tolerance: float = 1e-5) -> None:
    golden = torch.tensor(golden)
    assert ours.shape == golden.shape and (ours - golden).abs().max() < tolerance


# --- the authors' surgery -----------------------------------------------------------------------------------------


def test_positions_are_zoomed_to_50_by_8_and_tiled_over_time_as_by_the_authors_code():
    model = started()
    for modality, name in (("a", "audio_positions"), ("v", "video_positions")):
        golden, positions = BOTH[name], model.tokens[modality].positions
        assert [1, *positions.shape] == golden["shape"]
        close(positions[golden["rows"]], golden["values"])
    close(model.tokens["a"].positions.sum(dim=1), BOTH["audio_positions"]["row_sums"])
    video = model.tokens["v"].positions
    assert torch.equal(video[1:197], video[197:])
    assert [1, *started(tubelet=1).tokens["v"].positions.shape] == GOLDEN["video_tubelet_1"]["shape"]


@pytest.mark.parametrize(("bottlenecks", "name"), [(4, "both"), (6, "bottleneck_6"), (16, "bottleneck_16")])
def test_bottlenecks_are_the_position_of_cls_and_the_zoomed_grid_as_by_the_authors_code(bottlenecks, name):
    golden = BOTH["bottleneck"] if name == "both" else GOLDEN[name]
    close(started(bottlenecks=bottlenecks).bottleneck, golden)
    close(started(bottlenecks=bottlenecks, extra_bottleneck=False).bottleneck, golden[1:])


def test_bottlenecks_that_make_no_grid_are_an_error_as_in_the_authors_code():
    assert GOLDEN["bottleneck_5"] == "AssertionError"
    with pytest.raises(ValueError, match="floor.sqrt.B.* rows, which 5 has not"):
        started(bottlenecks=5)


@pytest.mark.parametrize("tubelet", [1, 2, 3])
def test_only_the_middle_frame_of_the_video_kernel_is_not_zero(tubelet):
    golden = [GOLDEN["video_tubelet_1"], BOTH["kernel_video"], GOLDEN["video_3_frames"]][tubelet - 1]
    model = started("v", Inputs(None, VideoInputs(frames=2 * tubelet)), tubelet=tubelet)
    close(model.tokens["v"].patch_embed.weight.sum(dim=(0, 1, 3, 4)), golden["sum_of_each_frame"], 1e-4)


def test_streams_start_from_the_same_weights_of_their_own_but_for_the_cls_of_sound_as_by_the_authors_code():
    model = started()
    close(model.tokens["v"].patch_embed.weight[..., 3, 5].permute(2, 1, 0), BOTH["kernel_video"]["pixels"])
    close(model.tokens["a"].patch_embed.weight[:, 0, 3, 5], torch.tensor(BOTH["kernel_audio"]["pixel"]).sum(0).tolist())
    close(model.tokens["v"].cls_token, BOTH["cls"])
    close(model.tokens["a"].cls_token, BOTH["clsspectrogram"])
    close(started("a").tokens["a"].cls_token, GOLDEN["audio_only_cls"])
    close(model.norm.weight, BOTH["norm"])
    assert BOTH["head_sum"] == 0 and not model.head.weight.any()
    for key, mean in BOTH["blocks"].items():
        index, suffix = re.fullmatch(r"Transformer/encoderblock_(\d)(_spectrogram)?/.+", key).groups()
        assert (model.blocks["a" if suffix else "v"][int(index)].norm1.weight == mean).all()
    assert (started(share_encoder=True).blocks["shared"][1].norm1.weight == 2).all()


def test_what_an_image_vit_does_not_have_or_lacks_is_named():
    weights = {key: value for key, value in image_vit().items() if key != "norm.bias"}
    with pytest.raises(ValueError, match=r"norm.bias: missing"):
        load(mbt(), weights)
    del weights["pos_embed"]
    with pytest.raises(ValueError, match=r"pos_embed: missing(.|\n)*fc_norm.weight: unknown"):
        load(mbt(), weights | {"fc_norm.weight": torch.ones(8)})


# --- the authors' checkpoints -------------------------------------------------------------------------------------


def test_a_scenic_checkpoint_of_arrays_of_both_modalities_starts_the_model_of_one():
    model, both = recorded("audio"), recorded("bottleneck_2").state_dict()
    arrays = {key: value.numpy() for key, value in scenic_weights("bottleneck_2", depth=4).items()}
    load_strict(model, from_scenic(arrays, model), unused=("tokens.v", "blocks.v"))
    assert all(torch.equal(value, both[key]) for key, value in model.state_dict().items())


def test_a_scenic_key_without_a_place_or_without_its_companions_is_named():
    model, weights = recorded("bottleneck_2"), scenic_weights("bottleneck_2", depth=4)
    lone = "Transformer/encoderblock_1_spectrogram/MultiHeadDotProductAttention_0/key/kernel"
    wrong = {key: value for key, value in weights.items() if key != lone} | {"pre_logits/kernel": torch.ones(2)}
    with pytest.raises(ValueError, match=r"pre_logits/kernel: unknown(.|\n)*blocks.a.1.attn.k.weight: missing"):
        load(model, wrong)
    with pytest.raises(ValueError, match="tokens.a.cls_token: missing"):
        load(model, {key: value for key, value in weights.items() if key != "clsspectrogram"})
    with pytest.raises(ValueError, match="blocks.a.0.norm1.weight: missing"):  # theirs has shared blocks
        load(model, scenic_weights("bottleneck_2_shared", depth=4))
