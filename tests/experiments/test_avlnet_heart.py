"""The ideas without which it would not be AVLnet; each test fails when its idea is broken."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from experiments.avlnet.method import AVLnet, Options
from tests.experiments.narrated_tiny import (
    CLIPS,
    DAVENET,
    LENGTHS,
    MELS,
    VALUES,
    VIDEO_DIMS,
    WHOLE,
    WITHOUT,
    avlnet_stage,
    batch_of,
    chosen,
    slots,
    with_noise,
)
from tests.experiments.supervised_tiny import falling, trained

pytestmark = pytest.mark.filterwarnings("ignore:You are trying to")  # log without a Trainer
STAGES = ("AVLnet", "Tri", "TriSum", "Fused")
TERMS = {"AVLnet": {"loss": "av"}, "Tri": {"av": "av", "at": "at", "tv": "tv"}, "TriSum": {"loss": "avt"},
         "Fused": {"loss": "avt"}}  # fmt: skip
"""Stage -> each term and what a clip must have to take part in it."""


def mms(x_BD, y_BD, margin=0.001):
    """Masked margin softmax of a whole batch, from its definition."""
    score_BB = x_BD @ y_BD.T - margin * torch.eye(len(x_BD))
    return -(score_BB.log_softmax(1).diag().mean() + score_BB.log_softmax(0).diag().mean())


def without_text(batch):
    return {key: value for key, value in batch.items() if not key.startswith("text")}


# --- 1: the encoder of sound learns, the features are given -------------------------------------------------------


@pytest.mark.parametrize("name", STAGES)
def test_every_parameter_learns_and_the_features_are_left_as_they_are(name):
    stage, batch = avlnet_stage(name), batch_of()
    features = batch["video_feat"].clone()
    stage.training_step(batch, 0).backward()
    idle = [key for key, parameter in stage.named_parameters() if parameter.grad is None or not parameter.grad.any()]
    assert idle == []
    assert sum(key.endswith("davenet.conv1.weight") for key, _ in stage.named_parameters()) == 1
    assert torch.equal(batch["video_feat"], features) and not batch["video_feat"].requires_grad


def test_training_a_batch_lowers_its_loss():
    for name in STAGES:
        before, after = falling(avlnet_stage(name), batch_of(complete=True), 20)
        assert after < 0.6 * before, name


# --- 2: context gating on both sides ------------------------------------------------------------------------------


def test_pictures_go_through_a_gated_unit_that_is_linear_while_its_gate_is_open():
    stage, batch = avlnet_stage().eval(), batch_of(complete=True)
    unit, gated = stage.net.video_unit, stage.embed(batch, "v")
    with torch.no_grad():
        unit.gate.fc.weight.zero_()
        unit.gate.fc.bias.fill_(20.0)
    most_BD = batch["video_feat"].masked_fill(~slots(batch, "v")[:, :, None], -torch.inf).amax(1)
    clip_BD = torch.cat([F.normalize(kind, dim=1) for kind in most_BD.split(VIDEO_DIMS, dim=1)], dim=1)
    found = stage.embed(batch, "v")
    torch.testing.assert_close(found, unit.fc(clip_BD))
    assert (found - gated).abs().max() > 0.1


@pytest.mark.parametrize("name", ["AVLnet", "Tri"])
def test_sound_is_gated_before_its_numbers_become_many(name):
    branch = avlnet_stage(name).net.audio_branch
    assert branch.gated.gate.fc.weight.shape == (DAVENET.widths[-1],) * 2
    assert isinstance(branch.projection, nn.Linear) and branch.projection.out_features > DAVENET.widths[-1]


# --- 3: masked margin softmax of dot products ---------------------------------------------------------------------


@pytest.mark.parametrize("name", STAGES)
def test_the_loss_is_masked_margin_softmax_in_both_directions(name):
    stage, batch = avlnet_stage(name), batch_of(complete=True)
    x = {m: stage.embed(batch, m) for m in {"AVLnet": ("a", "v"), "Fused": ("at", "v")}.get(name, ("a", "v", "t"))}
    expected = {
        "AVLnet": lambda: mms(x["a"], x["v"]),
        "Tri": lambda: mms(x["a"], x["v"]) + mms(x["a"], x["t"]) + mms(x["t"], x["v"]),
        "TriSum": lambda: mms(x["t"], x["a"] + x["v"]),
        "Fused": lambda: mms(x["at"], x["v"]),
    }[name]()
    torch.testing.assert_close(stage.losses(batch)["loss"], expected)


def test_the_length_of_an_embedding_counts_and_so_does_the_margin():
    stage, batch = avlnet_stage().eval(), batch_of()
    before = stage.losses(batch)["loss"]
    stage.spec.options.margin = 0.5
    assert stage.losses(batch)["loss"] > before + 0.1
    stage.spec.options.margin = 0.001
    with torch.no_grad():
        for parameter in stage.net.audio_branch.projection.parameters():
            parameter.mul_(2.0)
    assert abs(stage.losses(batch)["loss"] - before) > 0.1
    assert Options().margin == 0.001 and AVLnet.similarity == "dot"


# --- 4: clips of one video are each other's negatives -------------------------------------------------------------


def test_every_clip_of_the_batch_is_compared_with_every_other_also_of_its_own_video():
    stage, batch = avlnet_stage(clips_per_video=4).eval(), batch_of(complete=True)
    audio, video = stage.embed(batch, "a"), stage.embed(batch, "v")
    loss = stage.losses(batch)["loss"]
    torch.testing.assert_close(loss, mms(audio, video))
    within = torch.stack([mms(audio[i : i + 4], video[i : i + 4]) for i in (0, 4)]).mean()
    across = torch.stack([mms(audio[i::4], video[i::4]) for i in range(4)]).mean()
    assert loss > within + 0.1 and loss > across + 0.1


# --- 5: AVLnet is without text ------------------------------------------------------------------------------------


def test_avlnet_needs_no_words_and_does_not_look_at_them():
    stage = avlnet_stage(text=None, modality="av")
    assert stage.words is None and not any("text" in key or "word" in key for key in stage.state_dict())
    batch = batch_of()
    other = {**batch, "text": batch["text"].flip(0), "text_length": batch["text_length"].flip(0)}
    losses = [stage.losses(x)["loss"] for x in (batch, without_text(batch), other)]
    assert losses[0] == losses[1] == losses[2]
    assert stage.predict_step(without_text(batch), 0)["embedding"].keys() == {"a", "v"}


@pytest.mark.parametrize("name", STAGES[1:])
def test_a_stage_that_reads_words_says_which_setting_names_its_tokenizer(name):
    with pytest.raises(ValueError, match=r"data\.inputs\.text"):
        avlnet_stage(name, text=None)


# --- 6: only evaluation knows how long the sound is ---------------------------------------------------------------


def test_padding_of_sound_counts_in_training_and_hardly_in_evaluation():
    batch = batch_of(complete=True)
    batch["audio"], batch["audio_length"] = batch["audio"][:, :, :48], torch.full((CLIPS,), 48)
    padded = {**batch, "audio": torch.cat((batch["audio"], torch.zeros(CLIPS, 1, 2000, MELS)), dim=2)}
    moved = {}
    for training in (True, False):
        stage = avlnet_stage().train(training)
        for module in stage.modules():
            if isinstance(module, nn.BatchNorm1d):
                module.eval()  # the statistics of a batch would change with the padding, too
        one, other = stage.embed(batch, "a"), stage.embed(padded, "a")
        moved[training] = ((one - other).norm() / one.norm()).item()
    assert moved[True] > 0.3 and moved[False] < 0.1


# --- 7: three kinds of queries ------------------------------------------------------------------------------------


def test_tri_finds_the_sum_of_sound_and_pictures_by_words_that_ignore_them():
    stage, batch = avlnet_stage("Tri").eval(), batch_of(complete=True)
    before = stage.predict_step(batch, 0)["embedding"]
    assert before.keys() == {"a", "v", "t", "av"}
    assert torch.equal(before["av"], before["a"] + before["v"])
    after = stage.predict_step({**batch, "audio": batch["audio"].flip(0)}, 0)["embedding"]
    assert torch.equal(after["t"], before["t"]) and torch.equal(after["v"], before["v"])
    assert (after["a"] - before["a"]).abs().max() > 0.1 and (after["av"] - before["av"]).abs().max() > 0.1


@pytest.mark.parametrize("changed", ["a", "t"])
def test_fused_asks_with_sound_and_words_together(changed):
    stage, batch = avlnet_stage("Fused").eval(), batch_of(complete=True)
    before = stage.predict_step(batch, 0)["embedding"]
    assert before.keys() == {"at", "v"}
    after = stage.predict_step({**batch, VALUES[changed]: batch[VALUES[changed]].flip(0)}, 0)["embedding"]
    assert (after["at"] - before["at"]).abs().max() > 0.1 and torch.equal(after["v"], before["v"])


def test_what_is_measured_is_what_was_trained():
    """With batch norms and pooling as in evaluation on both sides."""
    batch = batch_of(complete=True)
    for name, (query, gallery) in {"AVLnet": "av", "TriSum": ("t", "av"), "Fused": ("at", "v")}.items():
        stage = avlnet_stage(name).eval()
        embedding = stage.predict_step(batch, 0)["embedding"]
        torch.testing.assert_close(stage.losses(batch)["loss"], mms(embedding[query], embedding[gallery]))


# --- what a clip lacks --------------------------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("name", STAGES)
def test_a_clip_that_lacks_something_takes_no_part_where_it_is_needed(name):
    """As in evaluation, as batch norms see all clips of a batch."""
    stage, batch = avlnet_stage(name).eval(), batch_of()
    losses, everything = stage.losses(batch), stage.losses(batch_of(complete=True))
    assert losses.keys() == TERMS[name].keys() | {"loss"}
    for term, needed in TERMS[name].items():
        kept = [clip for clip in range(CLIPS) if WITHOUT.get(clip, "") not in set(needed)]
        assert len(kept) < CLIPS
        alone = stage.losses(chosen(batch, kept))[term]
        torch.testing.assert_close(losses[term], alone)
        assert abs(everything[term] - alone) > 1e-3


@pytest.mark.parametrize("modality", "avt")
@pytest.mark.parametrize("name", STAGES)
def test_what_stands_in_the_place_of_what_is_missing_changes_and_teaches_nothing(name, modality):
    gradients = []
    for batch in (batch_of(), with_noise(batch_of(), modality)):
        stage = avlnet_stage(name).eval()
        for key in ("audio", "video_feat"):
            batch[key].requires_grad_()
        stage.losses(batch)["loss"].backward()
        gradients.append({key: p.grad for key, p in stage.named_parameters()})
        for other in "av":
            lacking = batch[LENGTHS[other]] == 0
            gradient = batch[VALUES[other]].grad
            assert lacking.any() and not gradient[lacking].any() and gradient[WHOLE].any()
    for key, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][key], gradient)


@pytest.mark.parametrize("name", STAGES)
def test_a_batch_in_which_nothing_is_complete_has_a_loss_of_0_and_finite_gradients(name):
    stage, batch = avlnet_stage(name), batch_of()
    batch["audio_length"].zero_()
    batch["text_length"].zero_()
    loss = stage.losses(batch)["loss"]
    loss.backward()
    assert loss == 0 and all(parameter.grad.isfinite().all() for parameter in stage.parameters())


# --- logging ------------------------------------------------------------------------------------------------------


def test_every_term_is_logged():
    for name in ("AVLnet", "Tri"):
        logged = trained(avlnet_stage(name), [batch_of()]).callback_metrics
        assert logged.keys() == {f"loss/{term}" for term in TERMS[name].keys() | {"loss"}}
