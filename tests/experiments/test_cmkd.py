"""The ideas without which it would not be CMKD; each test fails when its idea is broken."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn

from bench.contract.cases import Case, composed, made_up_batch, spec
from datamodules.types import AudioInputs, Inputs
from experiments.cmkd.method import FAMILY, Distill, DistillOptions, Train, TrainOptions
from experiments.cmkd.model import PSLA, AttentionHead, CNNConfig, PSLAConfig
from experiments.common.losses.classification import classification_loss
from experiments.common.losses.distillation import distillation_loss
from tests.experiments.every_stage import trained
from tests.experiments.recorded.cmkd import audio
from tests.experiments.recorded.cmkd import stage as recorded

CASE = Case("cmkd", "distill_ast_audioset20k")
SPEC, BATCH = spec(CASE.config, CASE.stage), made_up_batch(CASE)
exact = partial(torch.testing.assert_close, rtol=0, atol=0)
both_ways = pytest.mark.parametrize(("network", "teacher"), [("ast", "cnn"), ("cnn", "ast")])


def student(network: str, teacher: str, multilabel: bool = True, **options) -> Distill:
    """With a teacher of random weights."""
    torch.manual_seed(0)
    theirs = Train(replace(SPEC, options=TrainOptions(teacher), multilabel=multilabel))
    stage = Distill(replace(theirs.spec, options=DistillOptions(network, **options)))
    stage.load_teacher(theirs.spec, theirs.state_dict())
    return stage


@both_ways
@pytest.mark.parametrize("multilabel", [True, False])
def test_the_loss_is_lambda_of_the_labels_and_the_rest_of_the_teacher_s_answers_to_the_same_batch(
    network, teacher, multilabel
):
    stage = student(network, teacher, multilabel, ground_truth=0.3, temperature=2.5, label_smoothing=0.1)
    student_BC, teacher_BC = stage.net(BATCH["audio"]), stage.teacher(BATCH["audio"])
    labels = classification_loss(student_BC, BATCH["label"], multilabel, 0.1)
    answers = distillation_loss(student_BC, teacher_BC / 2.5, multilabel)  # times neither tau nor its square
    expected = {"loss": 0.3 * labels + 0.7 * answers, "ground_truth": labels, "distillation": answers}
    torch.testing.assert_close(stage.losses(BATCH), expected)


@both_ways
@pytest.mark.filterwarnings("ignore")
def test_the_teacher_is_frozen_its_batch_norm_included_and_no_part_of_the_student(network, teacher):
    stage = student(network, teacher)
    before = deepcopy(stage.teacher.state_dict())
    trained(stage, [BATCH, BATCH])
    exact(stage.teacher.state_dict(), before)
    assert all(p.grad is None and not p.requires_grad for p in stage.teacher.parameters())
    alone = Distill(stage.spec)
    assert stage.state_dict().keys() == alone.state_dict().keys() == Train(stage.spec).state_dict().keys()
    with pytest.raises(RuntimeError, match="needs a teacher"):
        alone.training_step(BATCH, 0)


@pytest.mark.parametrize(
    ("network", "change", "message"),
    [
        ("ast", {"options": TrainOptions("ast")}, "same_family"),
        ("cnn", {"options": TrainOptions("psla")}, "same_family"),
        ("ast", {"inputs": Inputs(AudioInputs(frames=256, mel_bins=64, mean=0.0), None)}, "the teacher was trained on"),
        ("ast", {"num_classes": 6}, "6 classes"),
    ],
)
def test_a_teacher_of_the_same_family_other_inputs_or_other_classes_is_refused(network, change, message):
    stage, theirs = student(network, "cnn" if network == "ast" else "ast"), replace(SPEC, options=TrainOptions("cnn"))
    with pytest.raises(ValueError, match=message):
        stage.load_teacher(replace(theirs, **change), {})
    student(network, network, same_family=True)


@pytest.mark.parametrize("variant", ["", "same_family"])
def test_in_the_configuration_teachers_are_of_the_other_family_but_for_the_control(variant):
    stages = composed("cmkd", variant, "paper").stages
    students = {name: stage for name, stage in stages.items() if stage.teacher}
    assert {stage.options.network for stage in students.values()} == {"ast", "cnn"}  # both directions
    for name, stage in students.items():
        teacher = stages[stage.teacher]
        same = FAMILY[teacher.options.network] == FAMILY[stage.options.network]
        assert same == stage.options.same_family == (bool(variant) and "audioset20k" in name), name
        assert teacher.data.inputs.audio == stage.data.inputs.audio, name
        assert (teacher.dataset, teacher.train) == (stage.dataset, stage.train), name


def test_attention_pooling_is_of_any_cnn_and_starts_at_no_prior():
    model = replace(SPEC.model, cnn=CNNConfig("small", "attention"))
    stage = Train(replace(SPEC, model=model, options=TrainOptions("cnn", prior=0.05)))
    stage.losses(BATCH)["loss"].backward()
    assert all(p.grad is not None and p.grad.any() for p in stage.net.parameters())
    assert stage.eval().predict_step(BATCH, 0).keys() == {"probabilities"}


@torch.no_grad()
def test_probabilities_of_psla_are_clamped_in_the_loss_alone():
    """`validate` ranks the head's numbers as they are; `train` clamps them to 1e-7 .. 1 - 1e-7."""
    assert AttentionHead(2, 1, heads=4).weight_H.tolist() == [0.25] * 4  # where they start
    psla, batch = deepcopy(recorded("psla", 1056)), {"audio": audio(1056), "label": torch.eye(2, 527)}
    found = psla.predict_step(batch, 0)["probabilities"]["a"]
    psla.net.head.weight_H *= 2
    ranked = psla.predict_step(batch, 0)["probabilities"]["a"]
    torch.testing.assert_close(ranked, 2 * found)
    assert (ranked > 1).float().mean() > 0.3
    clamped = nn.functional.binary_cross_entropy(ranked.clamp(1e-7, 1 - 1e-7), batch["label"])
    torch.testing.assert_close(psla.losses(batch)["loss"], clamped, rtol=1e-4, atol=1e-6)


def test_norms_have_the_authors_epsilons():
    net = Train(SPEC).net
    assert {norm.eps for norm in net.blocks.modules() if isinstance(norm, nn.LayerNorm)} == {1e-6}
    assert (net.norm.eps, net.head[0].eps) == (1e-6, 1e-5)
    with torch.device("meta"):
        assert {n.eps for n in PSLA(PSLAConfig(), 5).modules() if isinstance(n, nn.BatchNorm2d)} == {1e-3}


def of_cnn(**changes) -> dict:
    return {"options": TrainOptions("cnn"), "model": replace(SPEC.model, cnn=CNNConfig(**changes))}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"modality": "av"}, "modality=av"),
        ({"options": TrainOptions("ast", strides=[12])}, r"options\.strides=\[12\]: give AST's stride in mel bins and"),
        ({"options": TrainOptions("cnn", strides=[12, 12])}, r"options\.strides=\[12, 12\]: give AST's"),
        ({"options": TrainOptions("vit")}, "ast, cnn and psla, not vit"),
        (of_cnn(backbone="resnet"), "cnn.backbone is one of efficientnet_b0, .* not resnet"),
        (of_cnn(backbone="small", pooling="max"), "cnn.pooling is mean or attention, not max"),
        ({"inputs": Inputs(AudioInputs(frames=12), None)}, "audio.frames must be at least the patch size 16, not 12"),
        ({"inputs": Inputs(AudioInputs(mel_bins=10), None)}, "audio.mel_bins must be at least the patch size 16"),
    ],
)
def test_a_wrong_setting_is_named(changes, message):
    with pytest.raises(ValueError, match=message):
        Train(replace(SPEC, **changes))
