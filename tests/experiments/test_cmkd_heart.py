"""The ideas without which it would not be CMKD; each test fails when its idea is broken."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import expit, log_expit, log_softmax, softmax

from bench.config.compose import compose
from datamodules.base import Features
from datamodules.types import AudioInputs, AugmentConfig, Inputs
from experiments.cmkd.method import FAMILY, Distill, Train, TrainOptions, network
from experiments.common.losses.distillation import distillation_loss
from tests.experiments.supervised_tiny import (
    CLASSES,
    CMKD_INPUTS,
    CMKD_MODEL,
    cmkd_batch,
    cmkd_distill,
    cmkd_train,
    falling,
    spec,
    trained,
)

pytestmark = pytest.mark.filterwarnings("ignore:You are trying to")  # log without a Trainer
DIRECTIONS = [("ast", "cnn"), ("cnn", "ast")]
both_kinds = pytest.mark.parametrize("multilabel", [True, False], ids=["several labels", "one label"])
both_ways = pytest.mark.parametrize(("student", "teacher"), DIRECTIONS, ids=["cnn to ast", "ast to cnn"])


def answers(stage: Distill, batch) -> tuple[dict, torch.Tensor, torch.Tensor]:
    """The terms of a training step, and the student's and the teacher's logits in it."""
    seen = {}
    hooks = [
        net.register_forward_hook(lambda *call, name=name: seen.update({name: call[2]}))
        for name, net in (("student", stage.net), ("teacher", stage.teacher))
    ]
    terms = stage.losses(batch)
    for hook in hooks:
        hook.remove()
    return terms, seen["student"], seen["teacher"]


def copied(state):
    return {key: value.clone() for key, value in state.items()}


def changed(before, after) -> list[str]:
    assert before.keys() == after.keys()
    return [key for key, value in after.items() if not torch.equal(value, before[key])]


# --- consistent teaching ------------------------------------------------------------------------------------------


@both_ways
def test_the_teacher_looks_at_the_very_tensor_that_the_student_looks_at(student, teacher):
    stage, batch, seen = cmkd_distill(student, teacher), cmkd_batch(), []
    for net in (stage.net, stage.teacher):
        net.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    stage.training_step(batch, 0)
    assert len(seen) == 2 and seen[0] is seen[1] is batch["audio"]


def test_another_augmentation_of_the_student_s_clip_is_another_target():
    inputs = Inputs(AudioInputs(frames=100, mel_bins=64), None)
    features = Features(inputs, AugmentConfig(mixup=1.0, freq_mask=24, time_mask=40, noise=0.1, shift=10))
    waveform = torch.randn(4, 16240, generator=torch.Generator().manual_seed(0))
    label = cmkd_batch(multilabel=False)["label"]

    def batch_of(key):
        raw = {
            "clip_id": ["same"] * 4,
            "key": torch.arange(4) + key,
            "waveform": waveform.clone(),
            "waveform_length": torch.full((4,), 16240),
            "label": label.clone(),
        }
        partner = {**raw, "key": raw["key"] + 5000, "waveform": waveform.flip(0), "label": label.flip(0)}
        return features({**raw, "partner": partner, "partner_place": torch.arange(4)}, train=True)

    stage = cmkd_distill()
    one, again, other = (batch_of(key) for key in (1, 1, 1001))
    (_, _, target), (_, _, target_again), (_, _, target_other) = (answers(stage, b) for b in (one, again, other))
    assert torch.equal(target, target_again)
    assert ((target - target_other).abs().amax(dim=1) > 1e-2).all()
    clean = features({**one, "waveform": waveform, "waveform_length": torch.full((4,), 16240)}, train=False)
    with torch.no_grad():
        assert ((target - stage.teacher(clean["audio"])).abs().amax(dim=1) > 1e-2).all()  # nor of the clean clip


# --- the teacher is frozen and no part of the student -------------------------------------------------------------


@both_ways
@pytest.mark.filterwarnings("ignore")
def test_the_teacher_is_bit_identical_after_training_its_batch_norm_included(student, teacher):
    stage = cmkd_distill(student, teacher)
    teacher_before, student_before = copied(stage.teacher.state_dict()), copied(stage.net.state_dict())
    trained(stage, [cmkd_batch(seed=seed) for seed in range(4)])
    assert changed(teacher_before, stage.teacher.state_dict()) == []
    assert not stage.teacher.training
    moved = changed(student_before, stage.net.state_dict())
    assert moved and all("running" not in key or key in moved for key in student_before)


@both_ways
def test_no_gradient_goes_to_or_through_the_teacher(student, teacher):
    stage, batch = cmkd_distill(student, teacher, ground_truth=0.0), cmkd_batch()
    batch["audio"].requires_grad_()
    terms, _, teacher_BC = answers(stage, batch)
    terms["loss"].backward()
    assert not teacher_BC.requires_grad
    assert all(p.grad is None and not p.requires_grad for p in stage.teacher.parameters())
    assert all(p.grad is not None and p.grad.any() for p in stage.net.parameters())


@both_ways
@pytest.mark.filterwarnings("ignore")
def test_checkpoint_and_optimiser_are_those_of_a_student_without_teacher(student, teacher):
    stage, alone = cmkd_distill(student, teacher), cmkd_train(student)
    assert stage.state_dict().keys() == alone.state_dict().keys()
    assert [n for n, _ in stage.named_parameters()] == [n for n, _ in alone.named_parameters()]
    teachers = {id(p) for p in stage.teacher.parameters()}
    trainer = trained(stage, [cmkd_batch()])
    optimised = {id(p) for group in trainer.optimizers[0].param_groups for p in group["params"]}
    assert optimised == {id(p) for p in stage.parameters()} and not teachers & optimised
    saved = trainer._checkpoint_connector.dump_checkpoint()
    assert saved["state_dict"].keys() == alone.state_dict().keys()
    assert not any("teacher" in key for key in saved["state_dict"])


def test_a_student_is_measured_without_its_teacher():
    stage, batch = cmkd_distill().eval(), cmkd_batch()
    alone = Distill(stage.spec).eval()
    alone.load_state_dict(stage.state_dict())
    logits = alone.predict_step(batch, 0)["logits"]
    assert logits.keys() == {"a"} and torch.equal(logits["a"], stage.net(batch["audio"]))


def test_a_student_without_a_teacher_cannot_train():
    with pytest.raises(RuntimeError, match="needs a teacher"):
        Distill(cmkd_distill().spec).training_step(cmkd_batch(), 0)


def test_a_student_of_one_round_can_be_the_teacher_of_the_next():
    first, second = cmkd_distill("ast", "cnn"), cmkd_distill("cnn", "ast")
    second.load_teacher(first.spec, first.state_dict())
    assert changed(first.net.state_dict(), second.teacher.state_dict()) == []
    torch.nn.init.zeros_(first.net.cls_token)  # it is a copy
    assert second.teacher.cls_token.any()


# --- the loss -----------------------------------------------------------------------------------------------------


def kl_by_hand(student_BC, teacher_BC, multilabel) -> float:
    """sum p log(p / q) in float64: a distribution over the classes of a clip, or one of each class."""
    student_BC, teacher_BC = (z.detach().double().numpy() for z in (student_BC, teacher_BC))
    if not multilabel:
        teacher_log, student_log = log_softmax(teacher_BC, axis=1), log_softmax(student_BC, axis=1)
        return float((np.exp(teacher_log) * (teacher_log - student_log)).sum(axis=1).mean())
    p = expit(teacher_BC)
    yes, no = (log_expit(sign * teacher_BC) - log_expit(sign * student_BC) for sign in (1, -1))
    return float((p * yes + (1 - p) * no).mean())


def ground_truth_by_hand(logits_BC, label_BC, multilabel, smoothing) -> float:
    z, y = logits_BC.detach().double().numpy(), label_BC.double().numpy()
    y = (1 - smoothing) * y + smoothing / CLASSES
    if not multilabel:
        return float(-(y * log_softmax(z, axis=1)).sum(axis=1).mean())
    return float(-(y * log_expit(z) + (1 - y) * log_expit(-z)).mean())


@both_kinds
@pytest.mark.parametrize("network", ["ast", "cnn"])
def test_who_answers_as_the_teacher_does_has_nothing_to_learn_from_it(network, multilabel):
    for temperature, nothing in ((1.0, True), (2.5, False)):
        stage = cmkd_distill(network, network, multilabel, same_family=True, temperature=temperature).eval()
        stage.net.load_state_dict(stage.teacher.state_dict())
        terms, student_BC, teacher_BC = answers(stage, cmkd_batch(multilabel=multilabel))
        assert torch.equal(student_BC, teacher_BC)
        assert (abs(terms["distillation"].item()) < 1e-6) == nothing  # tau is not of the student's logits


@both_kinds
@pytest.mark.parametrize("temperature", [1.0, 2.5])
@pytest.mark.parametrize("ground_truth", [0.0, 0.3, 0.5, 1.0])
def test_the_loss_is_lambda_of_the_labels_and_the_rest_of_the_teacher_s(multilabel, temperature, ground_truth):
    options = {"temperature": temperature, "ground_truth": ground_truth, "label_smoothing": 0.1}
    stage, batch = cmkd_distill("ast", "cnn", multilabel, **options), cmkd_batch(multilabel=multilabel)
    terms, student_BC, teacher_BC = answers(stage, batch)
    labels = ground_truth_by_hand(student_BC, batch["label"], multilabel, 0.1)
    distillation = kl_by_hand(student_BC, teacher_BC / temperature, multilabel)  # neither times tau nor its square
    assert distillation > 0.01
    assert terms["ground_truth"].item() == pytest.approx(labels, abs=1e-5)
    assert terms["distillation"].item() == pytest.approx(distillation, abs=1e-5)
    expected = ground_truth * labels + (1 - ground_truth) * distillation
    assert terms["loss"].item() == pytest.approx(expected, abs=1e-5)


@both_kinds
def test_with_lambda_1_it_is_plain_training(multilabel):
    student, batch = cmkd_distill("ast", "cnn", multilabel, ground_truth=1.0), cmkd_batch(multilabel=multilabel)
    plain = cmkd_train("ast", multilabel)
    plain.load_state_dict(student.state_dict())
    loss, expected = student.training_step(batch, 0), plain.training_step(batch, 0)
    assert torch.equal(loss, expected)
    gradients = [torch.autograd.grad(each, list(s.parameters())) for each, s in ((loss, student), (expected, plain))]
    for ours, theirs in zip(*gradients, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-7)


@both_kinds
@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_the_teacher_s_gradient_is_that_of_classification_with_its_answers_as_labels(multilabel, temperature):
    stage = cmkd_distill("ast", "cnn", multilabel, ground_truth=0.0, temperature=temperature)
    terms, student_BC, teacher_BC = answers(stage, cmkd_batch(multilabel=multilabel))
    (gradient_BC,) = torch.autograd.grad(terms["loss"], student_BC)
    student_BC, teacher_BC = (z.detach().double().numpy() for z in (student_BC, teacher_BC))
    if multilabel:
        expected_BC = (expit(student_BC) - expit(teacher_BC / temperature)) / student_BC.size
    else:
        expected_BC = (softmax(student_BC, axis=1) - softmax(teacher_BC / temperature, axis=1)) / len(student_BC)
    assert np.abs(expected_BC).max() > 1e-2
    assert np.abs(gradient_BC.numpy() - expected_BC).max() < 1e-6


@both_kinds
def test_smoothing_is_of_the_labels_alone(multilabel):
    batch = cmkd_batch(multilabel=multilabel)
    sharp, smooth = (answers(cmkd_distill("ast", "cnn", multilabel, label_smoothing=s), batch)[0] for s in (0.0, 0.4))
    assert torch.equal(sharp["distillation"], smooth["distillation"])
    assert abs(sharp["ground_truth"] - smooth["ground_truth"]) > 1e-2


@both_kinds
def test_the_loss_stays_finite_in_half_precision_and_for_certain_teachers(multilabel):
    certain = torch.tensor([[200.0, -200.0, 0.0], [-200.0, 200.0, 0.0]], dtype=torch.bfloat16)
    student = torch.tensor([[-90.0, 90.0, 1.0], [1.0, 2.0, 3.0]], dtype=torch.bfloat16, requires_grad=True)
    loss = distillation_loss(student, certain, multilabel)
    loss.backward()
    assert loss.dtype == torch.float32 and loss.item() == pytest.approx(
        kl_by_hand(student.float(), certain.float(), multilabel), rel=1e-5
    )
    assert student.grad.isfinite().all()


# --- across families ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("student", "teacher"), [("ast", "ast"), ("cnn", "cnn"), ("cnn", "psla")])
def test_a_teacher_of_the_student_s_own_family_is_refused_unless_asked_for(student, teacher):
    stage = cmkd_distill(student, "ast" if student == "cnn" else "cnn")
    theirs = cmkd_train(student)
    theirs.spec.options.network = teacher
    with pytest.raises(ValueError, match="same_family"):
        stage.load_teacher(theirs.spec, theirs.state_dict())


def test_a_teacher_of_its_own_family_teaches_where_it_is_asked_for():
    assert cmkd_distill("ast", "ast", same_family=True).training_step(cmkd_batch(), 0).isfinite()


@pytest.mark.parametrize(
    "audio",
    [
        AudioInputs(frames=120, mel_bins=64),
        AudioInputs(frames=100, mel_bins=32),
        AudioInputs(frames=100, mel_bins=64, mean=0.0),
        AudioInputs(frames=100, mel_bins=64, scale=1.0),
    ],
)
def test_a_teacher_that_saw_other_inputs_is_refused(audio):
    theirs = cmkd_train("cnn", inputs=Inputs(audio, None))
    with pytest.raises(ValueError, match="the teacher was trained on"):
        cmkd_distill().load_teacher(theirs.spec, theirs.state_dict())


def test_a_teacher_of_other_classes_is_refused():
    theirs = cmkd_train("cnn", num_classes=CLASSES + 1)
    with pytest.raises(ValueError, match=f"{CLASSES + 1} classes"):
        cmkd_distill().load_teacher(theirs.spec, theirs.state_dict())


@pytest.mark.parametrize("modality", ["v", "av"])
def test_only_sound_is_looked_at(modality):
    stage = cmkd_train("ast")
    with pytest.raises(ValueError, match="modality"):
        Train(spec(CMKD_MODEL, stage.spec.options, CMKD_INPUTS, modality, True))


def test_strides_of_a_stage_are_two_and_of_an_ast():
    for options in (TrainOptions("ast", strides=[12]), TrainOptions("cnn", strides=[12, 12])):
        with pytest.raises(ValueError, match=r"options\.strides=\[.*give AST's stride in mel bins and that in frames"):
            network(spec(CMKD_MODEL, options, CMKD_INPUTS, "a", True))


@pytest.mark.parametrize("preset", ["paper", "tiny"])
@pytest.mark.parametrize("variant", [[], ["variant=same_family"]], ids=["", "same_family"])
def test_in_the_configuration_teachers_are_of_the_other_family_but_for_the_control(preset, variant):
    stages = compose("cmkd", [f"preset={preset}", "data_root=none", *variant]).stages
    students = {name: stage for name, stage in stages.items() if stage.teacher}
    assert {stage.options.network for stage in students.values()} == {"ast", "cnn"}  # both directions
    for name, stage in students.items():
        teacher = stages[stage.teacher]
        same = FAMILY[teacher.options.network] == FAMILY[stage.options.network]
        assert same == stage.options.same_family == (bool(variant) and "audioset20k" in name), name
        assert teacher.data.inputs.audio == stage.data.inputs.audio, name
        assert (teacher.dataset, teacher.train, teacher.fold) == (stage.dataset, stage.train, stage.fold), name


# --- both directions learn ----------------------------------------------------------------------------------------


@both_ways
@both_kinds
def test_both_directions_learn(student, teacher, multilabel):
    stage, batch = cmkd_distill(student, teacher, multilabel), cmkd_batch(8, multilabel=multilabel)
    before = stage.losses(batch)["distillation"].item()
    first, last = falling(stage, batch, 25)
    assert last < 0.75 * first
    assert stage.losses(batch)["distillation"].item() < 0.75 * before
