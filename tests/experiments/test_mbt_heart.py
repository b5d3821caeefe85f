"""How MBT is trained and measured; each test fails when its idea is broken."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import log_expit, log_softmax

from experiments.common.losses.mixup import mixed_with_reverse
from tests.experiments.supervised_tiny import CLASSES, falling, mbt_batch, mbt_train, trained

pytestmark = pytest.mark.filterwarnings("ignore:You are trying to")  # log without a Trainer
both_kinds = pytest.mark.parametrize("multilabel", [True, False], ids=["several labels", "one label"])
NAME = {"a": "audio", "v": "video"}


def loss_by_hand(logits_BC, label_BC, multilabel, smoothing) -> float:
    """Binary cross-entropy summed over classes, or cross-entropy; averaged over clips, in float64."""
    z, y = logits_BC.detach().double().numpy(), label_BC.double().numpy()
    y = (1 - smoothing) * y + smoothing / CLASSES
    per_class = y * log_expit(z) + (1 - y) * log_expit(-z) if multilabel else y * log_softmax(z, axis=1)
    return float(-per_class.sum(axis=1).mean())


def mixed_by_hand(values, share):
    """`share` of clip i and the rest of clip B - 1 - i."""
    last = len(values) - 1
    return torch.stack([share * values[i] + (1 - share) * values[last - i] for i in range(len(values))])


# --- each modality's CLS is trained alone -------------------------------------------------------------------------


@both_kinds
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("shares", [{"a": 1.0, "v": 1.0}, {"a": 0.3, "v": 0.3}, {"a": 0.3, "v": 0.8}])
def test_the_loss_is_the_mean_of_each_modality_s_own(monkeypatch, multilabel, smoothing, shares):
    stage, batch = mbt_train(multilabel=multilabel, label_smoothing=smoothing), mbt_batch(5, multilabel=multilabel)
    monkeypatch.setattr(stage, "weights_of_mixing", lambda: shares)
    terms = stage.losses(batch)

    mixed = {NAME[m]: mixed_by_hand(batch[NAME[m]], share) for m, share in shares.items()}
    logits = stage.net(mixed)
    expected = {
        m: loss_by_hand(logits[m], mixed_by_hand(batch["label"], shares[m]), multilabel, smoothing) for m in "av"
    }
    assert abs(expected["a"] - expected["v"]) > 1e-2
    for modality, value in expected.items():
        assert terms[modality].item() == pytest.approx(value, abs=1e-4)
    assert terms["loss"].item() == pytest.approx((expected["a"] + expected["v"]) / 2, abs=1e-4)


def test_the_mean_logits_are_not_what_is_trained():
    """Two answers that cancel each other are right on the average, and wrong each for itself."""
    stage = mbt_train(multilabel=False, mixup_alpha=0.0, label_smoothing=0.0)
    label = torch.eye(CLASSES)
    right, wrong = 20 * label, -10 * label
    stage.net.forward = lambda batch: {"a": right, "v": wrong}
    terms = stage.losses({"audio": torch.zeros(CLASSES), "video": torch.zeros(CLASSES), "label": label})
    assert terms["a"].item() < 1e-3 and terms["v"].item() > 10
    assert terms["loss"].item() == pytest.approx(terms["v"].item() / 2, abs=1e-3)


def test_a_clip_of_several_labels_costs_the_sum_over_classes():
    stage = mbt_train(multilabel=True, mixup_alpha=0.0, label_smoothing=0.0)
    torch.nn.init.zeros_(stage.net.head.weight)  # every class is one half
    assert stage.losses(mbt_batch())["loss"].item() == pytest.approx(CLASSES * np.log(2), abs=1e-5)


@pytest.mark.parametrize("modality", ["a", "v", "av"])
def test_a_step_trains_every_parameter(modality):
    stage = mbt_train(modality)
    stage.training_step(mbt_batch(), 0).backward()
    assert [name for name, p in stage.named_parameters() if p.grad is None or not p.grad.any()] == []


@both_kinds
@pytest.mark.parametrize("modality", ["a", "v", "av"])
def test_it_learns(modality, multilabel):
    stage = mbt_train(modality, multilabel, mixup_alpha=0.0, label_smoothing=0.0)
    first, last = falling(stage, mbt_batch(8, multilabel=multilabel), 40)
    assert last < 0.5 * first


# --- mix-up -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [4, 5])
def test_the_partner_is_the_clip_at_the_mirrored_place(count):
    mixed = mixed_with_reverse(torch.eye(count), 0.7)
    assert torch.allclose(mixed, mixed_by_hand(torch.eye(count), 0.7))
    assert mixed[0, 0].item() == pytest.approx(0.7) and mixed[0, -1].item() == pytest.approx(0.3)
    values = torch.randn(count, 3, 2)
    assert torch.equal(mixed_with_reverse(values, 1.0), values)


def seen_in_training(stage, batch, monkeypatch):
    """(what the network looks at, the labels of each modality in its order) during one step."""
    inputs, labels, real = [], [], stage.label_loss
    hook = stage.net.register_forward_pre_hook(lambda _, args: inputs.append(dict(args[0])))
    with monkeypatch.context() as patch:
        patch.setattr(stage, "label_loss", lambda z, y: labels.append(y) or real(z, y))
        stage.training_step(batch, 0)
    hook.remove()
    return inputs[0], dict(zip(stage.spec.modality, labels, strict=True))


@pytest.mark.parametrize("modality_mixup", [False, True])
def test_what_a_modality_is_mixed_by_its_labels_are_mixed_by(monkeypatch, modality_mixup):
    stage = mbt_train(mixup_alpha=2.0, modality_mixup=modality_mixup, multilabel=False)
    batch = {**mbt_batch(4, multilabel=False), "label": torch.eye(4, CLASSES)}
    originals = {key: value.clone() for key, value in batch.items() if isinstance(value, torch.Tensor)}
    looked, labels = seen_in_training(stage, batch, monkeypatch)
    shares = {}
    for modality, label_BC in labels.items():
        own = label_BC.diagonal()
        assert torch.equal(own, own[:1].expand(4)) and 0 < own[0] < 1  # one lambda for all clips
        shares[modality] = own[0].item()
        assert torch.allclose(label_BC, mixed_by_hand(originals["label"], shares[modality]), atol=1e-6)
        expected = mixed_by_hand(originals[NAME[modality]], shares[modality])
        assert torch.allclose(looked[NAME[modality]], expected, atol=1e-5)
    assert (abs(shares["a"] - shares["v"]) > 1e-3) == modality_mixup
    assert torch.equal(labels["a"], labels["v"]) != modality_mixup
    assert all(torch.equal(batch[key], value) for key, value in originals.items())  # the batch stays as it was


@pytest.mark.parametrize("alpha", [0.3, 0.5, 2.0])
@pytest.mark.parametrize("modality_mixup", [False, True])
def test_lambda_is_of_beta_alpha_alpha_and_of_each_modality_only_where_asked(alpha, modality_mixup):
    stage = mbt_train(mixup_alpha=alpha, modality_mixup=modality_mixup)
    torch.manual_seed(0)
    drawn = torch.tensor([[w["a"], w["v"]] for w in (stage.weights_of_mixing() for _ in range(3000))])
    for column in drawn.T:
        assert column.mean().item() == pytest.approx(0.5, abs=0.04)
        assert column.var().item() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.1)
        assert len(column.unique()) > 2000  # a new one in every step
    together = torch.corrcoef(drawn.T)[0, 1].item()
    assert together == pytest.approx(0.0 if modality_mixup else 1.0, abs=0.1)
    assert torch.equal(drawn[:, 0], drawn[:, 1]) != modality_mixup


def test_no_mixup_leaves_the_batch_alone(monkeypatch):
    stage, batch = mbt_train(mixup_alpha=0.0, modality_mixup=True), mbt_batch()
    looked, labels = seen_in_training(stage, batch, monkeypatch)
    for modality in "av":
        assert torch.equal(looked[NAME[modality]], batch[NAME[modality]])
        assert torch.equal(labels[modality], batch["label"])


# --- what is measured ---------------------------------------------------------------------------------------------


def test_measured_are_the_mean_logits_of_both_unmixed():
    stage, batch = mbt_train(mixup_alpha=2.0, modality_mixup=True).eval(), mbt_batch()
    outputs = stage.predict_step(batch, 0)["logits"]
    streams = stage.net(batch)
    assert outputs.keys() == {"av"} and not torch.allclose(streams["a"], streams["v"], atol=1e-2)
    assert torch.allclose(outputs["av"], (streams["a"] + streams["v"]) / 2, atol=1e-6)
    assert torch.equal(stage.predict_step(batch, 0)["logits"]["av"], outputs["av"])
    alone = stage.predict_step({**batch, "audio": batch["audio"][:1], "video": batch["video"][:1]}, 0)
    assert torch.allclose(alone["logits"]["av"], outputs["av"][:1], atol=1e-5)  # whatever else is in the batch


# --- one modality alone -------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("modality", "absent"), [("a", "v"), ("v", "a")])
def test_a_stage_of_one_modality_has_nothing_of_the_other_and_does_not_look_at_it(modality, absent):
    stage, both = mbt_train(modality, modality_mixup=True), mbt_train("av")
    names = {name for name, _ in stage.named_parameters()}
    assert names == {
        name for name, _ in both.named_parameters() if f".{absent}." not in name and "bottleneck" not in name
    }
    batch = {key: value for key, value in mbt_batch().items() if key != NAME[absent]}
    assert stage.losses(batch).keys() == {"loss", modality}
    trainer = trained(stage, [batch])
    assert {"loss/loss", f"loss/{modality}"} <= trainer.callback_metrics.keys()
    logits = stage.eval().predict_step(batch, 0)["logits"]
    assert logits.keys() == {modality} and torch.equal(logits[modality], stage.net(batch)[modality])
