"""What is XKD's own: who teaches whom, what aligning does, what the refinement keeps, and whose weights are shared.

Networks, losses, gradients and a step of the teacher are compared with the authors' in `recorded/xkd.py`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from bench.contract.cases import CPU, Case, built, made_up_batch
from datamodules.weight_files import read_checkpoint
from experiments.common.losses.discrepancy import gaussian_mmd
from experiments.common.networks import vit
from experiments.xkd import downstream, method
from experiments.xkd.model import cross_weights, refined
from tests.experiments.every_stage import trained
from tests.experiments.recorded.xkd import INPUTS, SHARED, batch, released, stage

pytestmark = pytest.mark.filterwarnings("ignore:You are trying to")  # log without a Trainer


def gradients_of(term: torch.Tensor, made: method.Pretrain) -> set[str]:
    """The parts of the student that a term reaches, as `encoder.a`."""
    named = {name: p for name, p in made.named_parameters() if p.requires_grad}
    found = torch.autograd.grad(term, list(named.values()), retain_graph=True, allow_unused=True)
    reached = (name for name, gradient in zip(named, found, strict=True) if gradient is not None and gradient.any())
    return {".".join(name.removeprefix("student.").split(".")[:2]) for name in reached}


@pytest.mark.parametrize(("teacher", "student"), ["av", "va"])
def test_a_teacher_teaches_the_other_modality_alone(teacher, student):
    made = stage()
    terms = made.losses(batch())
    assert gradients_of(terms[f"distil_from_{teacher}"], made) == {f"encoder.{student}", f"head.{student}"}


def test_what_a_student_shall_answer_is_a_distribution_without_gradient():
    made = stage()
    made.student.requires_grad_(False)
    scores = torch.randn(3, 32, requires_grad=True)
    target = made.target["a"](scores, 0.07)
    assert not target.requires_grad
    torch.testing.assert_close(target.sum(1), torch.ones(3))
    assert target.max() > (scores / 0.1).softmax(1).max() * 0.9  # sharpened


def test_alignment_reaches_both_students_and_lowers_the_discrepancy_that_it_names():
    made = stage(align=1.0, distil=0.0, reconstruct=0.0, clip=0.0)
    terms = made.losses(batch())
    assert gradients_of(terms["align_student"], made) == {f"{part}.{m}" for part in ("encoder", "head") for m in "av"}
    assert not terms["align_teacher"].requires_grad
    optimizer = torch.optim.SGD([p for p in made.parameters() if p.requires_grad], lr=0.5)
    for _ in range(20):
        optimizer.zero_grad()
        found = made.losses(batch())
        found["loss"].backward()
        optimizer.step()
    assert found["align_student"] < 0.8 * terms["align_student"]


def test_two_sets_of_the_same_vectors_have_no_discrepancy_and_shifted_ones_have():
    x = torch.randn(16, 8)
    assert gaussian_mmd(x, x.flip(0)).abs() < 1e-6 < 0.1 < gaussian_mmd(x, x + 2)


def test_refined_features_are_as_long_as_plain_ones_and_the_same_where_attention_is_uniform():
    patches, own, other = torch.randn(3, 10, 8), torch.rand(3, 2, 10), torch.rand(3, 2, 7)
    found, plain = refined(patches, cross_weights(own, other)), patches.mean(1)
    torch.testing.assert_close(found.norm(dim=1), plain.norm(dim=1))
    assert (found - plain).abs().max() > 0.01
    even = torch.full_like(own, 0.1)
    torch.testing.assert_close(refined(patches, cross_weights(even, torch.full_like(other, 1 / 7))), plain)


def test_one_pass_of_the_masked_view_serves_reconstruction_and_distillation():
    made, seen = stage(), Counter()
    for m in "av":
        made.student.encoder[m].norm.register_forward_hook(lambda *call, m=m: seen.update([(m, call[2].shape[1])]))
    made.losses(batch())
    assert seen == {("v", 4): 1, ("v", 5): 1, ("a", 4): 1, ("a", 9): 1}  # CLS and 3 of 18 or 3 of 16; 4 and 8 of local


@pytest.mark.parametrize(("view", "patches"), [("global", {"v": 18, "a": 16}), ("local", {"v": 4, "a": 8})])
def test_the_teacher_sees_the_whole_clip_or_the_first_local_view(view, patches):
    made, clips = stage(teacher_view=view), batch(3)
    seen = {}
    for m in "av":
        made.net.encoder[m].norm.register_forward_hook(lambda *call, m=m: seen.update({m: call[2].shape[1] - 1}))
    before = made.losses(clips)["align_teacher"]
    assert seen == patches
    changed = {"global": "video", "local": "video_local"}[view]
    other = made.losses(clips | {changed: clips[changed] + torch.randn_like(clips[changed])})["align_teacher"]
    assert other != before
    last = clips["video_local"].clone()
    last[:, 1:] += 1
    assert made.losses(clips | {"video_local": last})["align_teacher"] == before


@pytest.mark.parametrize(("variant", "student", "teacher"), [("xkd", 0, 0), ("mas", 1, 0), ("mats", 1, 1)])
def test_shared_bodies_are_the_same_tensors_and_the_rest_is_each_modality_s_own(variant, student, teacher):
    made = stage(variant)
    for network, shared in ((made.student, student), (made.net, teacher)):
        a, v = network.encoder["a"], network.encoder["v"]
        for mine, other in zip(a.blocks.parameters(), v.blocks.parameters(), strict=True):
            assert (mine is other) == bool(shared)
        assert a.norm is not v.norm and a.positions is not v.positions and network.head["a"] is not network.head["v"]


def test_the_teacher_starts_as_the_student_and_follows_it_after_each_step():
    made = method.Pretrain(replace(stage().spec, steps_per_epoch=2, epochs=1, batch_size=3))
    student = {name: value.clone() for name, value in made.student.state_dict().items()}
    assert all(torch.equal(value, student[name]) for name, value in made.net.state_dict().items())
    momenta = []
    follow = made.teacher_follows
    made.teacher_follows = lambda momentum: (momenta.append(momentum), follow(momentum))
    trained(made, [batch() | {"label": torch.zeros(3, 1)} for _ in range(2)])
    assert momenta == pytest.approx([0.997, 0.9985])
    weight = "encoder.a.blocks.0.mlp.fc1.weight"
    start, now, mean = student[weight], made.student.state_dict()[weight], made.net.state_dict()[weight]
    assert 0 < (mean - start).abs().max() < 0.01 * (now - start).abs().max()


def test_a_temperature_goes_from_its_first_to_its_last_over_its_epochs():
    made = stage(audio_temperature=[0.04, 0.06], temperature_epochs=3)
    found = []
    for epoch in range(5):
        made.trainer = SimpleNamespace(current_epoch=epoch, global_step=0)
        found.append(made.temperature("a"))
    assert found == pytest.approx([0.04, 0.05, 0.06, 0.06, 0.06])


@pytest.mark.parametrize("modality", ["a", "v", "av"])
@pytest.mark.parametrize("network", ["teacher", "student"])
def test_judges_take_the_encoders_that_are_asked_for(modality, network):
    made, options = stage(), method.JudgedSVM(network=network)
    spec = replace(made.spec, options=options, modality=modality, num_classes=4)
    judge = method.SVM(spec)
    judge.load_parent(made.state_dict())
    for m in modality:
        theirs = {"teacher": made.net, "student": made.student}[network].encoder[m].state_dict()
        assert all(torch.equal(value, theirs[name]) for name, value in judge.net.encoder[m].state_dict().items())
    features = judge.embed(batch())
    assert features.shape == (3, 24 * len(modality))
    if modality == "av":
        torch.testing.assert_close(features.norm(dim=1), torch.full((3,), 2**0.5))


@pytest.mark.parametrize(("modality", "theirs"), [("a", "aud_teacher"), ("v", "vid_teacher")])
def test_an_encoder_that_the_authors_released_is_measured(modality, theirs):
    prefix = f"{theirs}.backbone."
    file = {key.removeprefix(prefix): value for key, value in released().items() if key.startswith(prefix)}
    judge = method.SVM(replace(stage().spec, options=method.JudgedSVM(), modality=modality, num_classes=4))
    judge.load_parent(file)
    mine = stage().net.encoder[modality].state_dict()
    assert all(torch.equal(value, mine[name]) for name, value in judge.net.encoder[modality].state_dict().items())
    with pytest.raises(ValueError, match="missing"):
        method.SVM(replace(judge.spec, modality={"a": "v", "v": "a"}[modality])).load_parent(file)


@pytest.mark.parametrize("variant", SHARED)
def test_a_checkpoint_of_the_authors_trainer_is_gone_on_from(variant, tmp_path):
    """As their `save_checkpoint` writes it, in training on several GPUs."""
    made, file = stage(variant), tmp_path / "checkpoint.pth.tar"
    expected = {name: value.clone() for name, value in made.state_dict().items()}
    for value in made.state_dict().values():
        value.zero_()
    optimizer, scaler = torch.optim.AdamW(made.student.parameters()), torch.amp.GradScaler("cpu")
    weights = {f"module.{key}": value for key, value in released(variant).items()}
    torch.save({"optimizer": optimizer.state_dict(), "model": weights, "epoch": 800, "amp": scaler.state_dict()}, file)
    made.load_parent(read_checkpoint(str(file)))
    assert [name for name, value in made.state_dict().items() if not torch.equal(value, expected[name])] == []


def test_attention_is_computed_where_the_teacher_is_refined_alone(monkeypatch):
    asked, computed = Counter(), vit.cls_attention
    monkeypatch.setattr(vit, "cls_attention", lambda *of: asked.update(["asked"]) or computed(*of))
    for refine, times in ((True, 2), (False, 0)):
        asked.clear()
        stage(refine=refine).losses(batch())
        assert asked.total() == times


@torch.no_grad()
def test_positions_are_resized_for_larger_pictures_and_fine_tuning_has_lower_rates_below():
    made = stage()
    inputs = replace(INPUTS, video=replace(INPUTS.video, size=96))
    spec = replace(made.spec, options=method.FinetuneOptions(), modality="v", num_classes=4, inputs=inputs)
    finetune = method.Finetune(spec)
    finetune.load_parent(made.state_dict())
    clips = torch.nn.functional.interpolate(batch()["video"], size=(8, 96, 96))
    larger = made.net.encoder["v"](clips)  # which resizes at each call
    torch.testing.assert_close(finetune.net.encoder["v"](clips), larger)
    assert finetune.logits({"video": clips}).shape == (3, 4)
    layers = {name: finetune.layer_of(name) for name, _ in finetune.named_parameters()}
    assert layers["net.encoder.v.positions"] == layers["net.encoder.v.patch_embed.weight"] == (0, 3)
    assert layers["net.encoder.v.blocks.1.attn.proj.weight"] == (2, 3)
    assert layers["net.encoder.v.norm.bias"] == layers["head.weight"] == (3, 3)


def test_fine_tuning_is_by_the_labels_of_what_it_has_mixed(monkeypatch):
    made, asked = stage(), []
    options = method.FinetuneOptions(mixup=0.6, cutmix=0.5)
    finetune = method.Finetune(replace(made.spec, options=options, modality="v", num_classes=4))
    clips, label = batch()["video"], torch.eye(4)[:3]
    mixed = clips.flip(0), label.roll(1, 1)
    monkeypatch.setattr(downstream, "mixed_or_cut", lambda *given: (asked.append(given), mixed)[1])
    loss = finetune.losses({"video": clips, "label": label})["loss"]
    torch.testing.assert_close(loss, finetune.label_loss(finetune.logits({"video": mixed[0]}), mixed[1]))
    ((video, labels, *alphas),) = asked
    assert video is clips and labels is label and alphas == [0.6, 0.5]


def test_inputs_that_do_not_divide_into_patches_are_an_error():
    spec = replace(stage().spec, inputs=replace(INPUTS, audio=replace(INPUTS.audio, frames=60)))
    with pytest.raises(ValueError, match=r"data\.inputs: a of \(16, 60\) does not divide into patches of \(4, 16\)"):
        method.Pretrain(spec)


def test_views_are_cut_as_the_paper_has_them():
    case = Case("xkd", "pretrain")
    clips = made_up_batch(case)
    made = built(case, CPU)
    assert {m: [tuple(x.shape[1:]) for x in method.seen_of(clips, m)] for m in "av"} == {
        "a": [(1, 40, 112), (1, 40, 32)],
        "v": [(3, 4, 64, 64), (3, 2, 48, 48)],
    }
    assert made.student.encoder["v"].length == 128
