"""The ideas without which it would not be MAViL; each test fails when its idea is broken."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
import yaml

from datamodules.types import Inputs
from experiments.common.networks.masking import masked_mse
from experiments.mavil import method
from experiments.mavil.model import pool
from tests.experiments.mavil_tiny import distill, finetune, pretrain, random_batch, tiny_config, tiny_inputs


def lengths(stage, batch):
    """Tokens that enter each stack during one pass over the objective."""
    seen = {"audio": [], "video": [], "fusion": []}
    for name, part in stage.trunk.named_children():
        part.blocks.register_forward_pre_hook(lambda _, inputs, name=name: seen[name].append(inputs[0].shape[1]))
    stage.losses(batch)
    return seen


def contrasted(stage, batch, monkeypatch):
    """The pairs of embeddings that the objective contrasts, in order: inter, intra of audio, intra of video."""
    pairs = []
    real = method.symmetric_info_nce

    def record(x, y, tau):
        pairs.append((x, y))
        return real(x, y, tau)

    with monkeypatch.context() as patch:
        patch.setattr(method, "symmetric_info_nce", record)
        stage.losses(batch)
    return pairs


def changed(batch, **tensors):
    return {**batch, **tensors}


# --- only visible patches enter the encoders ---------------------------------------------------------------------


def test_at_full_size_103_audio_and_157_video_tokens_enter_the_encoders():
    model = tiny_config(dim=16, depth=1, heads=1, decoder_dim=16, decoder_depth=1, decoder_heads=1)
    seen = lengths(pretrain(model, Inputs()), random_batch(2, Inputs()))
    assert seen == {"audio": [103, 103], "video": [157, 157], "fusion": [103 + 157]}


def test_a_masked_patch_changes_the_target_and_no_encoder_output(monkeypatch):
    stage, batch = pretrain(), random_batch()
    (a1, v1), (a2, v2) = stage.masking(batch, 1), stage.masking(batch, 2)
    audio, video = batch["audio"].clone(), batch["video"].clone()
    for clip in range(4):
        patch = int((a1.masked_BL & a2.masked_BL)[clip].nonzero()[0])
        row, column = 16 * (patch // 8), 16 * (patch % 8)
        audio[clip, :, row : row + 16, column : column + 16] = torch.randn(16, 16)
        patch = int((v1.masked_BL & v2.masked_BL)[clip].nonzero()[0])
        time, row, column = 2 * (patch // 16), 16 * (patch // 4 % 4), 16 * (patch % 4)
        video[clip, :, time : time + 2, row : row + 16, column : column + 16] = torch.randn(3, 2, 16, 16)
    altered = changed(batch, audio=audio, video=video)

    before, after = contrasted(stage, batch, monkeypatch), contrasted(stage, altered, monkeypatch)
    for pair, other in zip(before, after, strict=True):
        assert torch.equal(pair[0], other[0]) and torch.equal(pair[1], other[1])
    for target, other in zip(stage.targets(batch), stage.targets(altered), strict=True):
        assert (target != other).any(dim=2).sum(dim=1).tolist() == [1] * 4
    assert stage.losses(batch)["audio"] != stage.losses(altered)["audio"]
    assert stage.losses(batch)["video"] != stage.losses(altered)["video"]


def test_only_masked_patches_are_in_the_reconstruction_loss():
    stage, batch = pretrain(use_inter=False, use_intra=False), random_batch()
    mask, _ = stage.masking(batch, 1)
    prediction, target = torch.randn(2, 4, 64, 256)
    errors = [
        (prediction[clip, patch] - target[clip, patch]).square().mean()
        for clip, patch in mask.masked_BL.nonzero().tolist()
    ]
    expected = torch.stack(errors).mean().item()
    assert masked_mse(prediction, target, mask.masked_BL).item() == pytest.approx(expected)
    prediction[~mask.masked_BL] += 100
    assert masked_mse(prediction, target, mask.masked_BL).item() == pytest.approx(expected)


# --- fusion is the only way from one modality to the other's decoder ---------------------------------------------


@pytest.mark.parametrize("make", [pretrain, distill])
@pytest.mark.parametrize("depth", [0, 2])
def test_gradient_crosses_the_modalities_only_through_fusion_blocks(make, depth):
    stage, batch = make(tiny_config(fusion_depth=depth)), random_batch()
    for term, other in (("audio", stage.trunk.video), ("video", stage.trunk.audio)):
        gradients = torch.autograd.grad(stage.losses(batch)[term], list(other.parameters()), allow_unused=True)
        crossed = any(g is not None and g.any() for g in gradients)
        assert crossed == (depth > 0)


# --- inter-modal contrast on masked embeddings from before the fusion --------------------------------------------


def test_contrast_compares_the_mean_visible_tokens_of_the_encoders(monkeypatch):
    stage, batch = pretrain(), random_batch()
    (inter, *_) = contrasted(stage, batch, monkeypatch)
    mask_a, mask_v = stage.masking(batch, 1)
    a = stage.trunk.audio(batch["audio"], mask_a.keep_BK)
    v = stage.trunk.video(batch["video"], mask_v.keep_BK)
    assert torch.equal(inter[0], a[:, 1:].mean(1)) and torch.equal(inter[1], v[:, 1:].mean(1))


def test_audio_embedding_is_bit_identical_when_the_video_changes(monkeypatch):
    stage, batch = pretrain(), random_batch()
    other = changed(batch, video=batch["video"].flip(0))
    (a, v), (a_other, v_other) = contrasted(stage, batch, monkeypatch)[0], contrasted(stage, other, monkeypatch)[0]
    assert torch.equal(a, a_other) and not torch.equal(v, v_other)


def test_contrast_starts_at_the_log_of_the_batch_with_a_large_temperature():
    terms = pretrain(tau=1e3).losses(random_batch(8))
    assert terms["inter"].item() == pytest.approx(math.log(8), abs=1e-2)
    assert terms["intra"].item() == pytest.approx(math.log(8), abs=1e-2)


# --- intra-modal contrast between two independent masks ----------------------------------------------------------


def test_views_agree_with_identical_masks_and_differ_with_their_own(monkeypatch):
    stage, batch = pretrain().eval(), random_batch()
    for x, y in contrasted(stage, batch, monkeypatch)[1:]:
        assert (torch.cosine_similarity(x, y) < 1 - 1e-6).all()
    same = stage.masking
    monkeypatch.setattr(stage, "masking", lambda batch, view: same(batch, view=1))
    for x, y in contrasted(stage, batch, monkeypatch)[1:]:
        assert torch.cosine_similarity(x, y).tolist() == pytest.approx([1.0] * 4, abs=1e-6)


def test_masks_of_views_modalities_clips_and_epochs_are_all_different():
    stage = pretrain(tiny_config(), tiny_inputs())
    batch, epoch_2 = random_batch(), changed(random_batch(), key=random_batch()["key"] + 77)
    masks = [stage.masking(b, view) for b in (batch, epoch_2) for view in (1, 2)]
    audio = torch.cat([a.masked_BL for a, _ in masks])
    video = torch.cat([v.masked_BL for _, v in masks])
    assert len(audio.unique(dim=0)) == len(video.unique(dim=0)) == 16
    assert not any(torch.equal(a[:32], v) for a, v in zip(audio, video, strict=True))


# --- stage 2: the target is the teacher's joint representation of the complete pair ------------------------------


def test_target_of_the_audio_changes_when_only_the_video_changes():
    batch = random_batch()
    other = changed(batch, video=batch["video"].flip(0))
    fused, alone = distill(), distill(target="uni_teacher")
    assert not torch.allclose(fused.targets(batch)[0], fused.targets(other)[0], atol=1e-4)
    assert torch.equal(alone.targets(batch)[0], alone.targets(other)[0])


def test_target_is_of_the_complete_pair_whatever_the_student_sees():
    stage, batch = distill(), random_batch()
    for target, other in zip(stage.targets(batch), stage.targets(changed(batch, key=batch["key"] + 9)), strict=True):
        assert torch.equal(target, other)
    patch = int(stage.masking(batch, 1)[0].masked_BL[0].nonzero()[0])  # hidden from the student, seen by the teacher
    audio = batch["audio"].clone()
    audio[0, :, 16 * (patch // 8) :][:, :16, 16 * (patch % 8) :][..., :16] += 1.0
    assert not torch.equal(stage.targets(batch)[0][0], stage.targets(changed(batch, audio=audio))[0][0])


def test_targets_are_the_teachers_normalised_tokens_without_cls():
    stage, batch = distill(norm_target=False), random_batch()
    audio, video = stage.teacher(batch["audio"], batch["video"])
    assert torch.equal(stage.targets(batch)[0], audio[:, 1:]) and torch.equal(stage.targets(batch)[1], video[:, 1:])
    for target in distill().targets(batch):
        assert target.mean(-1).abs().max() < 1e-5
        assert (target.var(-1, unbiased=False) - 1).abs().max() < 1e-2


def test_at_full_size_targets_and_predictions_are_512_and_784_by_768():
    model = tiny_config(dim=768, depth=1, heads=12, fusion_depth=1)
    stage, batch = distill(model, Inputs()), random_batch(1, Inputs())
    assert [tuple(t.shape) for t in stage.targets(batch)] == [(1, 512, 768), (1, 784, 768)]
    assert stage.audio_decoder.predict.out_features == stage.video_decoder.predict.out_features == 768
    raw = pretrain(model, Inputs())
    assert (raw.audio_decoder.predict.out_features, raw.video_decoder.predict.out_features) == (256, 1536)


def test_teacher_is_frozen_and_no_part_of_the_student():
    stage, batch = distill().train(), random_batch()
    assert not stage.teacher.training and not any(p.requires_grad for p in stage.teacher.parameters())
    assert all(not t.requires_grad for t in stage.targets(batch))
    teachers = {id(p) for p in stage.teacher.parameters()}
    assert not teachers & {id(p) for p in stage.parameters()}
    assert stage.state_dict().keys() == pretrain().state_dict().keys()

    before = {key: value.clone() for key, value in stage.teacher.state_dict().items()}
    student = stage.trunk.audio.cls_token.detach().clone()
    optimizer = stage.configure_optimizers()["optimizer"]
    for _ in range(2):
        optimizer.zero_grad()
        stage.losses(batch)["loss"].backward()
        optimizer.step()
    assert all(torch.equal(value, before[key]) for key, value in stage.teacher.state_dict().items())
    assert not torch.equal(student, stage.trunk.audio.cls_token)


# --- the student is a new network; rounds follow each other ------------------------------------------------------


def test_student_starts_afresh_unless_asked_otherwise():
    afresh, copied = distill(), distill(student_init="teacher")
    assert not torch.equal(afresh.trunk.audio.cls_token, afresh.teacher.audio.cls_token)
    assert torch.equal(copied.trunk.audio.cls_token, copied.teacher.audio.cls_token)


def test_student_of_one_round_is_the_teacher_of_the_next():
    first, second = distill(), distill()
    torch.nn.init.normal_(first.trunk.audio.cls_token)  # what it has learned
    second.load_parent(first.state_dict())
    theirs = first.trunk.state_dict()
    assert all(torch.equal(value, theirs[key]) for key, value in second.teacher.state_dict().items())
    assert not torch.equal(second.trunk.audio.cls_token, second.teacher.audio.cls_token)


def test_distilling_without_a_teacher_says_so():
    stage = method.Distill(distill().spec)
    with pytest.raises(RuntimeError, match="needs a teacher"):
        stage.losses(random_batch())


def test_rounds_are_stages_of_the_config_each_after_the_one_before():
    stages = yaml.safe_load((Path(method.__file__).parent / "config.yaml").read_text())["stages"]
    rounds = {name: stage["after"] for name, stage in stages.items() if stage["module"] == "Distill"}
    assert rounds == {"pretrain_2": "pretrain", "pretrain_3": "pretrain_2", "pretrain_4": "pretrain_3"}


# --- the uni-modal encoders are useful alone ---------------------------------------------------------------------


@pytest.mark.parametrize(("modality", "absent"), [("a", "video"), ("v", "audio")])
def test_unimodal_finetuning_never_builds_the_other_branch(modality, absent):
    stage = finetune(modality)
    stage.load_parent(pretrain().state_dict())
    assert not [n for n, _ in stage.named_parameters() if absent in n or "fusion" in n]
    batch = {k: v for k, v in random_batch().items() if k != absent}
    stage.losses(batch)["loss"].backward()
    assert stage.eval().predict_step(batch, 0)["logits"].keys() == {modality}


def test_swapping_the_videos_of_two_clips_changes_fused_logits_and_not_those_of_audio():
    batch = random_batch()
    swapped = changed(batch, video=batch["video"][[1, 0, 2, 3]])
    for modality, differs in (("av", True), ("a", False)):
        stage = finetune(modality).eval()
        torch.nn.init.normal_(stage.head.weight)
        logits, other = (stage.predict_step(b, 0)["logits"][modality] for b in (batch, swapped))
        assert torch.equal(logits[:2], other[:2]) != differs
        assert torch.allclose(logits[2:], other[2:], atol=1e-5)


# --- what the objective starts with ------------------------------------------------------------------------------


def test_reconstruction_starts_at_the_variance_of_the_targets():
    stage, batch = pretrain(), random_batch()
    for decoder in (stage.audio_decoder, stage.video_decoder):
        torch.nn.init.zeros_(decoder.predict.weight)
    terms = stage.losses(batch)
    assert terms["audio"].item() == pytest.approx(255 / 256, abs=1e-4)
    assert terms["video"].item() == pytest.approx(1535 / 1536, abs=1e-4)


def test_independent_predictions_of_unit_variance_cost_two(monkeypatch):
    stage, batch = pretrain(), random_batch(16)
    monkeypatch.setattr(stage.audio_decoder, "forward", lambda tokens, keep: torch.randn(16, 64, 256))
    assert stage.losses(batch)["audio"].item() == pytest.approx(2.0, abs=0.05)


def test_constant_patches_have_target_zero():
    target, _ = pretrain().targets(changed(random_batch(), audio=torch.full((4, 1, 128, 128), 3.0)))
    assert target.abs().max() < 1e-3


def test_the_loss_is_the_weighted_sum_of_its_terms():
    terms = pretrain(alpha=0.3, beta=0.07).losses(random_batch())
    expected = terms["audio"] + terms["video"] + 0.3 * terms["inter"] + 0.07 * terms["intra"]
    assert terms["loss"].item() == pytest.approx(expected.item())
    assert pretrain(use_inter=False, use_intra=False).losses(random_batch()).keys() == {"loss", "audio", "video"}


def test_inter_modal_contrast_learns_what_sound_and_picture_share():
    """Four kinds of clip, each with its own texture of sound and its own colour: soon told apart."""
    stage = pretrain()
    optimizer = torch.optim.AdamW(stage.parameters(), lr=3e-3)
    textures = torch.stack([torch.ones(16), torch.tensor([1.0, -1.0]).repeat(8), torch.linspace(-1, 1, 16)])
    colours = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1]])
    generator, inter = torch.Generator().manual_seed(0), []
    for step in range(60):
        batch, kind = random_batch(16, seed=step), torch.randint(3, (16,), generator=generator)
        batch["audio"] += 3 * textures[kind].repeat(1, 8)[:, None, :, None]
        batch["video"] += 3 * colours[kind][:, :, None, None, None]
        optimizer.zero_grad()
        terms = stage.losses(batch)
        terms["loss"].backward()
        optimizer.step()
        inter.append(terms["inter"].item())
    # Clips of one kind cannot be told apart, so that about ln(16 / 3) = 1.7 remains.
    assert inter[0] > math.log(16) - 0.3 and max(inter[-5:]) < math.log(16) - 0.6


def test_pool_leaves_cls_out():
    tokens = torch.randn(2, 5, 3)
    assert torch.equal(pool(tokens), pool(torch.cat([torch.randn(2, 1, 3), tokens[:, 1:]], dim=1)))
