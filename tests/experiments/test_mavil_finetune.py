from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from timm.layers import DropPath

from datamodules.types import Inputs
from experiments.common.optim import OptimConfig
from experiments.common.stage import StageSpec
from experiments.mavil.downstream import Finetune, FinetuneOptions, Retrieve, RetrieveOptions
from tests.experiments.mavil_tiny import (
    distill,
    finetune,
    pretrain,
    random_batch,
    spec,
    tiny_config,
    tiny_inputs,
)

# --- weights from pretraining ------------------------------------------------------------------------------------


@pytest.mark.parametrize("parent", [pretrain, distill])
@pytest.mark.parametrize("modality", ["a", "v", "av"])
def test_trunk_is_the_parents_and_the_third_fusion_block_and_the_head_are_new(parent, modality):
    weights, fresh, loaded = parent().state_dict(), finetune(modality), finetune(modality)
    loaded.load_parent(weights)
    for key, value in loaded.state_dict().items():
        is_new = key.startswith(("trunk.fusion.blocks.2.", "norm.", "head."))
        assert is_new != (key in weights)
        assert torch.equal(value, fresh.state_dict()[key] if is_new else weights[key])


def test_weights_that_do_not_fit_are_named():
    weights = pretrain().state_dict()
    del weights["trunk.fusion.blocks.1.attn.qkv.bias"]
    weights["trunk.audio.surprise"] = torch.zeros(1)
    weights["trunk.video.patch_embed.weight"] = torch.zeros(1)
    with pytest.raises(ValueError) as error:
        finetune("av").load_parent(weights)
    for part in ("fusion.blocks.1.attn.qkv.bias: missing", "audio.surprise: unknown", "patch_embed.weight: shape [1]"):
        assert part in str(error.value)


def test_a_fine_tuned_model_goes_on_with_its_classifier():
    first, second = finetune("av"), finetune("av")
    torch.nn.init.normal_(first.head.weight)
    second.load_parent(first.state_dict())
    assert torch.equal(first.head.weight, second.head.weight)


# --- the network -------------------------------------------------------------------------------------------------


def test_logits_are_of_the_mean_tokens_of_both_modalities_side_by_side():
    stage, batch = finetune("av").eval(), random_batch()
    audio, video = stage.trunk(batch["audio"], batch["video"])
    features = torch.cat([audio[:, 1:].mean(1), video[:, 1:].mean(1)], dim=1)
    expected = F.linear(F.layer_norm(features, [64], eps=1e-6), stage.head.weight, stage.head.bias)
    assert torch.allclose(stage.predict_step(batch, 0)["logits"]["av"], expected, atol=1e-6)


def test_drop_path_reaches_only_the_audio_encoder_and_rises_linearly():
    stage = finetune("av", tiny_config(depth=3), drop_path=0.1)
    rates = {n: m.drop_prob for n, m in stage.named_modules() if isinstance(m, DropPath)}
    assert {n.rsplit(".", 1)[0]: round(rate, 6) for n, rate in rates.items()} == {
        "trunk.audio.blocks.1": 0.05,
        "trunk.audio.blocks.2": 0.1,
    }


def test_head_starts_almost_at_zero():
    stage = Finetune(StageSpec(tiny_config(), FinetuneOptions(), tiny_inputs(), num_classes=500))
    assert stage.head.weight.std().item() == pytest.approx(2e-5, rel=0.05)
    assert not stage.head.bias.any()


def test_patches_are_masked_in_training_only():
    stage, batch, seen = finetune("av", mask_v=0.5), random_batch(), []
    stage.trunk.fusion.blocks.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[1]))
    stage.train().logits(batch)
    stage.eval().logits(batch)
    # 8 x 8 audio patches keep 6 rows and 6 columns, 32 video patches keep 16.
    assert seen == [1 + 36 + 1 + 16, 1 + 64 + 1 + 32]


# --- the loss ----------------------------------------------------------------------------------------------------


def test_several_labels_a_clip_are_scored_by_binary_cross_entropy():
    stage, batch = finetune("a", mask_t=0.0, mask_f=0.0), random_batch()
    batch["label"] = torch.rand_like(batch["label"])  # as after mixup
    p = stage.logits(batch).sigmoid()
    expected = -(batch["label"] * p.log() + (1 - batch["label"]) * (1 - p).log()).mean()
    assert stage.losses(batch)["loss"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_one_label_a_clip_is_scored_by_cross_entropy_with_mixed_labels_and_smoothing():
    stage, batch = finetune("a", multilabel=False, mask_t=0.0, mask_f=0.0, label_smoothing=0.1), random_batch()
    torch.nn.init.normal_(stage.head.weight)
    batch["label"] = 0.7 * batch["label"] + 0.3 * batch["label"].roll(1, 0)
    smooth = 0.9 * batch["label"] + 0.1 / 5
    expected = -(smooth * stage.logits(batch).log_softmax(1)).sum(1).mean()
    assert stage.losses(batch)["loss"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_label_smoothing_of_several_labels_is_an_error():
    with pytest.raises(ValueError, match="label_smoothing"):
        finetune("a", multilabel=True, label_smoothing=0.1)


# --- layer-wise learning rates -----------------------------------------------------------------------------------

NAMES = {
    "trunk.audio.cls_token": 0,
    "trunk.video.patch_embed.weight": 0,
    "trunk.audio.blocks.0.norm1.weight": 1,
    "trunk.video.blocks.11.mlp.fc2.bias": 12,
    "norm.weight": 13,
    "head.bias": 13,
}


@pytest.mark.parametrize(("choice", "fusion"), [("official", [1, 2, 3]), ("top", [13, 13, 13])])
def test_layers_are_numbered_as_in_the_published_code_or_with_fusion_on_top(choice, fusion):
    with torch.device("meta"):
        stage = finetune("av", tiny_config(depth=12), layer_decay_fusion=choice)
    fusion_names = {f"trunk.fusion.blocks.{i}.attn.qkv.weight": layer for i, layer in enumerate(fusion)}
    names = dict(stage.named_parameters())
    for name, layer in {**NAMES, **fusion_names}.items():
        assert name in names and stage.layer_of(name) == (layer, 13), name


def test_each_layer_learns_at_its_rate():
    stage = finetune("av")
    stage.spec.optim = OptimConfig(base_lr=1.0, layer_decay=0.75)
    groups = stage.configure_optimizers()["optimizer"].param_groups
    rate = {id(p): group["lr"] for group in groups for p in group["params"]}
    peak = stage.spec.batch_size / 256
    for name, steps_below in (
        ("head.weight", 0),
        ("trunk.audio.blocks.1.mlp.fc1.weight", 1),
        ("trunk.video.cls_token", 3),
    ):
        assert rate[id(stage.get_parameter(name))] == pytest.approx(peak * 0.75**steps_below)


# --- retrieval ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("parent", [pretrain, distill, lambda: finetune("av")])
def test_retrieval_compares_the_mean_tokens_of_the_unimodal_encoders(parent):
    weights, batch = parent(), random_batch()
    stage = Retrieve(spec(RetrieveOptions())).eval()
    stage.load_parent(weights.state_dict())
    embedding = stage.predict_step(batch, 0)["embedding"]
    assert torch.allclose(embedding["a"], weights.trunk.audio(batch["audio"])[:, 1:].mean(1), atol=1e-6)
    assert torch.allclose(embedding["v"], weights.trunk.video(batch["video"])[:, 1:].mean(1), atol=1e-6)


def test_retrieval_needs_both_modalities():
    with pytest.raises(ValueError, match=r"data\.inputs\.audio is null"):
        Retrieve(spec(RetrieveOptions(), inputs=Inputs(audio=None)))
