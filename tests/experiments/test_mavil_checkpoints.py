from __future__ import annotations

import pytest
import torch

from experiments.mavil.checkpoints import from_image_mae, from_official, is_image_mae, is_official, to_official
from tests.experiments.mavil_tiny import distill, finetune, pretrain, random_batch, tiny_config, tiny_inputs


def official(stage, modality="av"):
    """The stage's weights as the authors' file would hold them, position tables included."""
    weights = to_official(stage.state_dict(), modality)
    weights["pos_embed"] = stage.trunk.audio.positions[None]
    weights["pos_embed_v"] = stage.trunk.video.positions[None]
    return weights


def test_keys_are_those_of_the_authors_checkpoints():
    keys = set(official(finetune("av")))
    parts = {".".join(part for part in key.split(".") if not part.isdigit()) for key in keys}
    block = {
        f"{a}.{b}"
        for a in ("norm1", "norm2", "attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
        for b in ("weight", "bias")
    }
    expected = {"cls_token", "cls_token_v", "pos_embed", "pos_embed_v"}
    expected |= {f"{stack}.{name}" for stack in ("blocks", "blocks_v", "blocks_av") for name in block}
    modules = ("patch_embed.proj", "patch_embed_v.proj", "fc_norm_av", "head_av")
    expected |= {f"{module}.{name}" for module in modules for name in ("weight", "bias")}
    assert parts == expected
    assert {key.split(".")[1] for key in keys if key.startswith("blocks_av.")} == {"0", "1", "2"}


def test_there_and_back_is_the_same_model():
    stage, other = finetune("av"), finetune("av")
    for parameter in stage.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    other.load_parent(official(stage))
    assert all(torch.equal(value, stage.state_dict()[key]) for key, value in other.state_dict().items())


def test_a_pretrained_official_file_starts_every_stage():
    weights = official(pretrain())
    weights |= {"norm.weight": torch.ones(32), "norm_v.bias": torch.ones(32), "mask_token_v": torch.ones(1, 1, 8)}
    weights["decoder_blocks.0.anything"] = torch.ones(3)
    for stage in (pretrain(), distill(), finetune("a"), finetune("v"), finetune("av")):
        stage.load_parent(weights)
        assert stage.losses(random_batch())["loss"].isfinite()


def test_classifier_of_the_asked_modality_is_taken():
    weights = official(finetune("av"))
    for suffix, fill in (("a", 1.0), ("v", 2.0)):
        weights |= {f"fc_norm_{suffix}.{x}": torch.full((32,), fill) for x in ("weight", "bias")}
        weights |= {f"head_{suffix}.weight": torch.full((5, 32), fill), f"head_{suffix}.bias": torch.full((5,), fill)}
    for modality, fill in (("a", 1.0), ("v", 2.0)):
        stage = finetune(modality)
        stage.load_parent(weights)
        assert (stage.head.weight == fill).all() and (stage.norm.bias == fill).all()


def test_unknown_and_missing_keys_are_named():
    weights = official(finetune("av"))
    with pytest.raises(ValueError, match=r"blocks_x\.0\.weight: unknown"):
        from_official({**weights, "blocks_x.0.weight": torch.zeros(1)}, "av", {})
    del weights["blocks_v.1.attn.qkv.bias"]
    with pytest.raises(ValueError, match=r"trunk\.video\.blocks\.1\.attn\.qkv\.bias: missing"):
        finetune("av").load_parent(weights)


@pytest.mark.parametrize(
    ("option", "value", "key"),
    [("audio_positions", "2d_transposed", "pos_embed"), ("video_positions", "tiled", "pos_embed_v")],
)
def test_other_position_tables_are_an_error_that_names_the_option(option, value, key):
    weights, other = official(pretrain()), official(pretrain(tiny_config(**{option: value})))
    if option == "audio_positions":  # 8 x 8 patches are square: take a table of another grid, of the same length
        other[key] = weights[key].roll(1, 1)
    weights[key] = other[key]
    with pytest.raises(ValueError, match=rf"{key}: differs .* model\.{option}"):
        finetune("av").load_parent(weights)
    finetune("v" if option == "audio_positions" else "a").load_parent(weights)  # does not look at it


def image_mae(dim=32, depth=2):
    """An image MAE in its authors' layout."""
    encoder = pretrain(tiny_config(dim=dim, depth=depth)).trunk.audio
    weights = {f"blocks.{k}": torch.randn_like(v) for k, v in encoder.blocks.state_dict().items()}
    weights["cls_token"], weights["pos_embed"] = torch.randn(1, 1, dim), torch.randn(1, 17, dim)
    weights["patch_embed.proj.weight"], weights["patch_embed.proj.bias"] = torch.randn(dim, 3, 16, 16), torch.randn(dim)
    return weights | {"norm.weight": torch.randn(dim), "norm.bias": torch.randn(dim)}


def with_decoder(weights, dim=32, depth=1):
    """The same as the file of the whole image MAE, which predicts the 768 numbers of a patch of one picture."""
    decoder = pretrain(tiny_config(decoder_dim=dim, decoder_depth=depth)).video_decoder
    return weights | {
        "mask_token": torch.randn(1, 1, dim),
        "decoder_embed.weight": torch.randn(dim, 32),
        "decoder_embed.bias": torch.randn(dim),
        "decoder_pos_embed": torch.randn(1, 17, dim),
        **{f"decoder_blocks.{k}": torch.randn_like(v) for k, v in decoder.blocks.state_dict().items()},
        "decoder_norm.weight": torch.randn(dim),
        "decoder_norm.bias": torch.randn(dim),
        "decoder_pred.weight": torch.randn(768, dim),
        "decoder_pred.bias": torch.randn(768),
    }


def test_image_mae_starts_the_video_encoder_and_every_fusion_block():
    weights, stage, fresh = image_mae(), pretrain(), pretrain()
    assert is_image_mae(weights) and not is_official(weights)
    stage.load_parent(weights)
    assert torch.equal(stage.trunk.video.cls_token, weights["cls_token"][0, 0])
    for tap in range(2):  # repeated over the tubelet, not divided
        assert torch.equal(stage.trunk.video.patch_embed.weight[:, :, tap], weights["patch_embed.proj.weight"])
    for block in range(2):
        own = stage.trunk.fusion.blocks[block].attn.qkv.weight
        assert torch.equal(own, weights["blocks.1.attn.qkv.weight"])
        assert torch.equal(stage.trunk.video.blocks[block].mlp.fc1.bias, weights[f"blocks.{block}.mlp.fc1.bias"])
    for key, value in stage.trunk.audio.state_dict().items():
        assert torch.equal(value, fresh.trunk.audio.state_dict()[key])


def test_image_mae_of_another_size_is_an_error():
    with pytest.raises(ValueError, match=r"trunk\.video\.blocks\.2\.norm1\.weight: unknown"):
        pretrain().load_parent(image_mae(depth=3))
    assert "trunk.fusion.blocks.0.norm1.weight" in from_image_mae(image_mae(), fusion_depth=1, tubelet=2)


def test_an_image_mae_s_decoder_starts_that_of_the_video_but_for_its_last_layer():
    weights, stage, fresh = with_decoder(image_mae()), pretrain(), pretrain()
    stage.load_parent(weights)
    decoder, before = stage.video_decoder.state_dict(), fresh.video_decoder.state_dict()
    for ours, theirs in (("norm_in.bias", "norm.bias"), ("embed.weight", "decoder_embed.weight")):
        assert torch.equal(decoder[ours], weights[theirs])
    for ours, theirs in (("blocks.0.mlp.fc1.weight",) * 2, ("norm.weight",) * 2):
        assert torch.equal(decoder[ours], weights[f"decoder_{theirs}"])
    assert torch.equal(decoder["mask_token"], weights["mask_token"].flatten())
    changed = {key for key, value in decoder.items() if not torch.equal(value, before[key])}
    assert set(decoder) - changed == {"predict.weight", "predict.bias"}
    assert all(torch.equal(v, fresh.audio_decoder.state_dict()[k]) for k, v in stage.audio_decoder.state_dict().items())


def test_an_image_mae_s_decoder_of_another_size_is_an_error():
    with pytest.raises(ValueError, match=r"video_decoder\.embed\.weight: shape \[64, 32\], not \[32, 32\]"):
        pretrain().load_parent(with_decoder(image_mae(), dim=64))


def test_a_key_that_no_image_mae_has_is_named():
    with pytest.raises(ValueError, match=r"rope\.freqs: unknown\n  decoder_x\.bias: unknown"):
        pretrain().load_parent(image_mae() | {"rope.freqs": torch.ones(1), "decoder_x.bias": torch.ones(1)})


@pytest.mark.parametrize("frames", [64, 256])
@pytest.mark.parametrize("audio_positions", ["2d", "2d_transposed"])
def test_a_file_of_longer_or_shorter_clips_fits_by_the_table_of_their_length(frames, audio_positions):
    """As ESC-50's clips of 5 s start from what AudioSet's of 10 s were pretrained with."""
    config, others = tiny_config(audio_positions=audio_positions), tiny_inputs()
    others.audio.frames, others.video.frames = frames, 8
    weights = official(pretrain(config, others))
    stage = finetune("av", config)
    assert weights["pos_embed"].shape[1:] != stage.trunk.audio.positions.shape
    stage.load_parent(weights)
    weights["pos_embed"] = weights["pos_embed"].roll(1, 1)
    with pytest.raises(ValueError, match=r"pos_embed: differs"):
        stage.load_parent(weights)
