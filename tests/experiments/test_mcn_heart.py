"""The ideas without which it would not be MCN, in its stages; those of the clusters are in `test_mcn_clustering.py`."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from experiments.mcn.method import Train, TrainOptions
from tests.experiments.narrated_tiny import (
    CLIPS,
    LENGTHS,
    MCN,
    VALUES,
    WHOLE,
    WITHOUT,
    batch_of,
    chosen,
    cut_off,
    mcn_stage,
    with_noise,
)
from tests.experiments.supervised_tiny import falling, trained

pytestmark = pytest.mark.filterwarnings("ignore:You are trying to")  # log without a Trainer
TERMS = {
    "mms_at": "at", "mms_av": "av", "mms_tv": "tv", "cluster": "avt",
    "reconstruction_a": "a", "reconstruction_v": "v", "reconstruction_t": "t",
}  # fmt: skip
"""Each term and what a clip must have to take part in it."""


def remembered(monkeypatch, stage):
    """What the clusters are asked with, and what they answer, from now on."""
    calls, update = [], stage.joint.update

    def spy(*args):
        calls.append((*args, update(*args)))
        return calls[-1][-1]

    monkeypatch.setattr(stage.joint, "update", spy)
    return calls


def embedded(stage, batch):
    return {modality: stage.embed(batch, modality) for modality in "avt"}


# --- 1: the clusters are of the mean of the three modalities ------------------------------------------------------


def test_a_clip_has_one_cluster_which_the_mean_of_its_three_embeddings_tells(monkeypatch):
    stage, batch = mcn_stage().eval(), batch_of()
    calls = remembered(monkeypatch, stage)
    stage.losses_at(batch, 3, 1)
    ((mean_BD, clips_per_video, step, epoch, valid_B, label_B),) = calls
    torch.testing.assert_close(mean_BD, torch.stack(list(embedded(stage, batch).values())).mean(0))
    assert not mean_BD.requires_grad and label_B.shape == (CLIPS,)
    assert (clips_per_video, step, epoch) == (2, 3, 1) and valid_B.nonzero()[:, 0].tolist() == WHOLE


# --- 2: centroids are the targets ---------------------------------------------------------------------------------


def test_each_modality_finds_the_centroid_of_its_clip_by_dot_products(monkeypatch):
    stage, batch = mcn_stage().eval(), batch_of()
    calls = remembered(monkeypatch, stage)
    found, x = stage.losses_at(batch, 0, 0)["cluster"], embedded(stage, batch)
    label, centroid_KD = calls[0][-1][WHOLE], stage.joint.centroid_KD
    margin = 0.001 * F.one_hot(label, len(centroid_KD))
    each = [F.cross_entropy(x[modality][WHOLE] @ centroid_KD.T - margin, label) for modality in "avt"]
    torch.testing.assert_close(found, sum(each) / 3)


def test_weights_hold_neither_centroids_nor_memory():
    stage = mcn_stage()
    stage.losses_at(batch_of(), 0, 0)
    assert len(stage.joint.memory_MD) and len(stage.joint.centroid_KD)
    assert all(key.startswith(("net.", "words.")) for key in stage.state_dict())
    assert stage.state_dict().keys() == mcn_stage().state_dict().keys()


# --- 3: three losses together -------------------------------------------------------------------------------------


def test_the_loss_is_the_sum_of_all_terms_and_every_term_is_logged():
    stage = mcn_stage()
    terms = stage.losses_at(batch_of(), 0, 0)
    assert terms.keys() == TERMS.keys() | {"loss"}
    torch.testing.assert_close(terms["loss"], sum(terms[name] for name in TERMS))
    logged = trained(mcn_stage(), [batch_of()]).callback_metrics
    assert logged.keys() == {f"loss/{name}" for name in terms}


@torch.no_grad()
def test_every_term_can_be_switched_off_and_counts_by_its_weight():
    batch, usual = batch_of(), mcn_stage().eval().losses_at(batch_of(), 0, 0)
    for weight in (0.0, 2.0):
        found = mcn_stage(cluster_weight=weight).eval().losses_at(batch, 0, 0)
        assert ("cluster" in found) == (weight > 0)
        torch.testing.assert_close(found["loss"] - usual["loss"], (weight - 1) * usual["cluster"])
        found = mcn_stage(reconstruction_weight=50 * weight).eval().losses_at(batch, 0, 0)
        parts = sum(usual[f"reconstruction_{modality}"] for modality in "avt")
        torch.testing.assert_close(found["loss"] - usual["loss"], (weight - 1) * parts, rtol=1e-4, atol=1e-5)
    assert parts > 0.1 and usual["cluster"] > 0.1


def test_without_clusters_no_clip_is_remembered():
    stage = mcn_stage(cluster_weight=0.0)
    stage.losses_at(batch_of(), 0, 0)
    assert len(stage.joint.memory_MD) == 0


def test_a_network_without_decoders_has_no_terms_of_theirs():
    terms = mcn_stage(model=replace(MCN, reconstruction=0)).losses_at(batch_of(), 0, 0)
    assert terms.keys() == {name for name in TERMS if not name.startswith("reconstruction")} | {"loss"}


def test_defaults_are_those_of_the_released_command():
    assert TrainOptions() == TrainOptions(0.001, 1.0, 50.0, 256, 20, 20) and Train.similarity == "dot"


def test_every_parameter_learns_and_training_a_batch_lowers_its_loss():
    stage = mcn_stage()
    stage.losses_at(batch_of(), 0, 0)["loss"].backward()
    assert [key for key, p in stage.named_parameters() if p.grad is None or not p.grad.any()] == []
    before, after = falling(mcn_stage(), batch_of(complete=True), 20)
    assert after < 0.7 * before


def test_what_decoders_give_back_learns_from_them_as_well():
    """With decoders that give nothing, so that there is no other way for a gradient to take."""
    stage = mcn_stage()
    with torch.no_grad():
        for parameter in stage.net.decoders.parameters():
            parameter.zero_()
    terms = stage.losses_at(batch_of(), 0, 0)
    sum(terms[f"reconstruction_{modality}"] for modality in "avt").backward()
    for layer in (stage.net.audio_branch.davenet.conv1, stage.net.text_branch.pool.fc, stage.words.learned):
        assert layer.weight.grad.any()
    assert stage.net.video_unit.fc.weight.grad is None or not stage.net.video_unit.fc.weight.grad.any()


# --- 4: a memory of past batches ----------------------------------------------------------------------------------


def test_steps_and_epochs_of_training_are_those_of_the_trainer(monkeypatch):
    stage = mcn_stage(fields={"steps_per_epoch": 3})
    calls = remembered(monkeypatch, stage)
    trained(stage, [batch_of(seed=i) for i in range(3)], max_epochs=2)
    assert [call[2:4] for call in calls] == [(0, 0), (1, 0), (2, 0), (0, 1), (1, 1), (2, 1)]


def test_the_memory_holds_the_first_of_two_clips_of_each_video_without_a_gradient():
    stage, batch = mcn_stage().eval(), batch_of()
    stage.losses_at(batch, 0, 0)
    mean_BD = torch.stack(list(embedded(stage, batch).values())).mean(0)
    first = [clip for clip in WHOLE if clip % 2 == 0]
    torch.testing.assert_close(stage.joint.memory_MD, mean_BD[first].detach())
    assert not stage.joint.memory_MD.requires_grad


def test_a_checkpoint_has_the_memory_and_the_centroids_without_which_the_next_step_is_another():
    stage, checkpoint, file = mcn_stage().eval(), {}, io.BytesIO()
    for step in range(3):
        stage.losses_at(batch_of(seed=step), step, 0)
    stage.on_save_checkpoint(checkpoint)
    expected = stage.losses_at(batch_of(seed=3), 3, 0)["cluster"]  # this does not change what is saved
    torch.save(checkpoint, file)
    file.seek(0)
    fresh, forgetful = mcn_stage().eval(), mcn_stage().eval()
    fresh.on_load_checkpoint(torch.load(file, weights_only=True))
    assert torch.equal(fresh.losses_at(batch_of(seed=3), 3, 0)["cluster"], expected)
    assert abs(forgetful.losses_at(batch_of(seed=3), 3, 0)["cluster"] - expected) > 1e-3


def test_a_training_that_was_cut_off_ends_as_if_it_had_not_been(tmp_path):
    whole, fresh = mcn_stage(), mcn_stage()
    cut_off(whole, fresh, [batch_of(seed=i) for i in range(6)], tmp_path)
    assert all(torch.equal(value, fresh.state_dict()[key]) for key, value in whole.state_dict().items())
    assert all(torch.equal(value, fresh.joint.state()[key]) for key, value in whole.joint.state().items())


# --- 5: what is measured ------------------------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize(
    ("modality", "expected"), [("avt", {"a", "v", "t", "av"}), ("vt", {"v", "t"}), ("av", {"a", "v", "av"})]
)
def test_a_clip_is_found_by_the_sum_of_sound_and_pictures(modality, expected):
    stage, batch = mcn_stage(fields={"modality": modality}).eval(), batch_of(complete=True)
    read = {key: value for key, value in batch.items() if not any(
        key in (VALUES[m], LENGTHS[m]) for m in set("avt") - set(modality)
    )}  # fmt: skip
    found, x = stage.predict_step(read, 0)["embedding"], embedded(stage, batch)
    assert found.keys() == expected
    for name, embedding in found.items():
        torch.testing.assert_close(embedding, sum(x[m] for m in name))


@torch.no_grad()
@pytest.mark.parametrize("modality", ["av", "v"])
def test_steps_are_found_by_dot_products_with_their_names(modality):
    names = [[3, 1], [5], [2, 7, 9, 4], [8]]
    stage = mcn_stage("Localise", fields={"modality": modality, "class_text": names}).eval()
    batch = batch_of(complete=True)
    logits = stage.predict_step({k: v for k, v in batch.items() if not k.startswith("text")}, 0)["logits"]
    padded = torch.nn.utils.rnn.pad_sequence([torch.tensor(name) for name in names], batch_first=True)
    padded = F.pad(padded, (0, batch["text"].shape[1] - padded.shape[1]))  # rows of padding count in the maximum
    name_CD = stage.embed({"text": padded}, "t")
    own_BD = sum(stage.embed(batch, m) for m in modality)
    assert logits.keys() == {modality} and logits[modality].shape == (CLIPS, len(names))
    torch.testing.assert_close(logits[modality], own_BD @ name_CD.T)


# --- what a clip lacks --------------------------------------------------------------------------------------------


@torch.no_grad()
def test_a_clip_that_lacks_something_takes_no_part_where_it_is_needed():
    """As in evaluation, as batch norms see all clips of a batch."""

    def losses(batch):
        return mcn_stage(fields={"clips_per_video": 1}).eval().losses_at(batch, 0, 0)

    batch = batch_of()
    found, everything = losses(batch), losses(batch_of(complete=True))
    for term, needed in TERMS.items():
        kept = [clip for clip in range(CLIPS) if WITHOUT.get(clip, "") not in set(needed)]
        alone = losses(chosen(batch, kept))[term]
        torch.testing.assert_close(found[term], alone)
        assert abs(everything[term] - alone) > 1e-3


@pytest.mark.parametrize("modality", "avt")
def test_what_stands_in_the_place_of_what_is_missing_changes_and_teaches_nothing(modality):
    gradients = []
    for batch in (batch_of(), with_noise(batch_of(), modality)):
        stage = mcn_stage().eval()
        for key in ("audio", "video_feat"):
            batch[key].requires_grad_()
        sum(stage.losses_at(batch, step, 0)["loss"] for step in range(2)).backward()
        gradients.append({key: p.grad for key, p in stage.named_parameters()})
        for other in "av":
            lacking, gradient = batch[LENGTHS[other]] == 0, batch[VALUES[other]].grad
            assert lacking.any() and not gradient[lacking].any() and gradient[WHOLE].any()
    for key, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][key], gradient)


# --- 6: clusters draw what belongs together to each other ---------------------------------------------------------


def test_the_loss_of_clusters_alone_draws_a_clip_s_modalities_to_their_centroid():
    stage, batch = mcn_stage(reconstruction_weight=0.0).eval(), batch_of(complete=True)
    optimizer, losses = torch.optim.Adam(stage.parameters(), 3e-3), []
    for step in range(15):
        terms = stage.losses_at(batch, step, 0)
        optimizer.zero_grad()
        terms["cluster"].backward()
        optimizer.step()
        losses.append(terms["cluster"].item())
    assert losses[-1] < 0.5 * losses[0]
