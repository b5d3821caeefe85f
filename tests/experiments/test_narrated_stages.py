"""What the stages of AVLnet, MCN and Everything at Once all do: in the mode in which they train, on clips that lack a
modality, and where they are measured."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.experiments.every_stage import trained
from tests.experiments.narrated_tiny import CLIPS, LENGTHS, VALUES, WHOLE, WITHOUT, batch_of, chosen, tiny, with_noise

pytestmark = pytest.mark.filterwarnings("ignore:You are trying to")  # log without a Trainer
PAIRS = ("t_v", "t_a", "v_a", "t_av", "v_at", "a_vt")
TERMS = {
    "avlnet AVLnet": {"loss": "av"},
    "avlnet Tri": {"av": "av", "at": "at", "tv": "tv"},
    "avlnet TriSum": {"loss": "avt"},
    "avlnet Fused": {"loss": "avt"},
    "mcn Train": {
        **{f"mms_{pair}": pair for pair in ("at", "av", "tv")},
        "cluster": "avt",
        **{f"reconstruction_{modality}": modality for modality in "avt"},
    },
    "everything_at_once Train": {pair: pair.replace("_", "") for pair in PAIRS},
}
"""Stage -> each term and what a clip must have to take part in it."""
NEVER_LEARNED = {"everything_at_once Train": ["net.masking_token"]}
"""It stands only where no term counts, as in the official code."""
every_stage = pytest.mark.parametrize("name", TERMS)


# --- training -----------------------------------------------------------------------------------------------------


def statistics(stage):
    norms = [module for module in stage.modules() if isinstance(module, nn.BatchNorm1d)]
    return [value.clone() for norm in norms for value in (norm.running_mean, norm.running_var)]


@pytest.mark.parametrize("mode", ["train", "eval"])
@every_stage
def test_in_the_mode_eval_batch_norms_are_frozen_and_padding_is_not_pooled_though_all_weights_learn(name, mode):
    """`model.eval()` in the authors' trainers. Every term is logged."""
    stage = tiny(name, mode=mode)
    before, weights = statistics(stage), {key: p.detach().clone() for key, p in stage.named_parameters()}
    logged = trained(stage, [batch_of(seed=i) for i in range(2)], max_epochs=2).callback_metrics
    assert {module.training for module in stage.net.modules()} == {mode == "train"}
    moved = [not torch.equal(one, other) for one, other in zip(before, statistics(stage), strict=True)]
    assert moved and all(moved) if mode == "train" else not any(moved)
    still = [key for key, p in stage.named_parameters() if torch.equal(p, weights[key])]
    assert still == NEVER_LEARNED.get(name, [])
    assert logged.keys() == {f"loss/{term}" for term in TERMS[name].keys() | {"loss"}}


# --- what a clip lacks, as in evaluation, as batch norms see all clips of a batch ---------------------------------


@torch.no_grad()
@every_stage
def test_a_clip_that_lacks_something_takes_no_part_where_it_is_needed(name):
    alone_too = {"clips_per_video": 1} if name.startswith("mcn") else {}

    def losses(batch):
        return tiny(name, **alone_too).eval().losses(batch)

    batch = batch_of()
    found, complete = losses(batch), losses(batch_of(complete=True))
    assert found.keys() == TERMS[name].keys() | {"loss"}
    for term, needed in TERMS[name].items():
        kept = [clip for clip in range(CLIPS) if WITHOUT.get(clip, "") not in set(needed)]
        alone = losses(chosen(batch, kept))[term]
        assert len(kept) < CLIPS and abs(complete[term] - alone) > 1e-3
        torch.testing.assert_close(found[term], alone)


@pytest.mark.parametrize("modality", "avt")
@every_stage
def test_what_stands_in_the_place_of_what_is_missing_changes_and_teaches_nothing(name, modality):
    gradients = []
    for batch in (batch_of(), with_noise(batch_of(), modality)):
        stage = tiny(name).eval()
        for key in ("audio", "video_feat"):
            batch[key].requires_grad_()
        stage.losses(batch)["loss"].backward()
        gradients.append({key: p.grad for key, p in stage.named_parameters()})
        for other in "av":
            lacking, gradient = batch[LENGTHS[other]] == 0, batch[VALUES[other]].grad
            assert lacking.any() and not gradient[lacking].any() and gradient[WHOLE].any()
    for key, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][key], gradient)


@every_stage
def test_a_batch_in_which_nothing_is_complete_has_a_loss_of_0_and_finite_gradients(name):
    """But for MCN's clusters, which cannot be found in it."""
    stage, batch = tiny(name, **{"cluster_weight": 0.0} if name.startswith("mcn") else {}), batch_of()
    for length in LENGTHS.values():
        batch[length].zero_()
    loss = stage.losses(batch)["loss"]
    loss.backward()
    assert loss == 0 and all(p.grad.isfinite().all() for p in stage.parameters())


# --- what is measured ---------------------------------------------------------------------------------------------

MEASURED = [
    ("avlnet AVLnet", "av", "a v"),
    ("avlnet Tri", "avt", "a v t av"),
    ("avlnet TriSum", "avt", "a v t av"),
    ("avlnet Fused", "avt", "at v"),
    ("mcn Train", "avt", "a v t av"),
    ("mcn Train", "vt", "v t"),
    ("mcn Train", "av", "a v av"),
    ("everything_at_once Train", "avt", "a v t av at vt avt"),
    ("everything_at_once Train", "av", "a v av"),
    ("everything_at_once LateFusion", "avt", "a v t av at vt"),
]
"""Stage, what it reads, and its embeddings."""


def read(batch, modalities):
    """What a stage of these modalities gets."""
    unread = {key for m in VALUES if m not in modalities for key in (VALUES[m], LENGTHS[m])}
    return {key: value for key, value in batch.items() if key not in unread}


@torch.no_grad()
@pytest.mark.parametrize(("name", "modalities", "expected"), MEASURED)
def test_an_embedding_depends_on_its_own_modalities_of_its_own_clip_alone(name, modalities, expected):
    stage, batch = tiny(name, modality=modalities).eval(), read(batch_of(complete=True), modalities)
    found = stage.predict_step(batch, 0)["embedding"]
    assert set(found) == set(expected.split())
    for changed in modalities:
        after = stage.predict_step({**batch, VALUES[changed]: batch[VALUES[changed]].flip(0)}, 0)["embedding"]
        for key, embedding in found.items():
            assert torch.equal(embedding, after[key]) == (changed not in key), (key, changed)
    for clip in (0, 3):  # which are shorter than others
        alone = stage.predict_step(chosen(batch, [clip]), 0)["embedding"]
        for key, embedding in found.items():
            torch.testing.assert_close(embedding[clip], alone[key][0], rtol=1e-4, atol=1e-5)
    if "av" in found and not name.startswith("everything"):
        torch.testing.assert_close(found["av"], found["a"] + found["v"])


@torch.no_grad()
@pytest.mark.parametrize("modality", ["av", "v"])
@pytest.mark.parametrize("method", ["mcn", "everything_at_once"])
def test_steps_are_found_by_the_similarity_of_what_is_seen_and_heard_with_their_names(method, modality):
    names = [[3, 1], [5], [2, 7, 9, 4], [8]]
    stage = tiny(f"{method} Localise", modality=modality, class_text=names).eval()
    batch = read(batch_of(), modality)
    logits = stage.predict_step(batch, 0)["logits"]
    padded = [name + [0] * (stage.spec.text.length - len(name)) for name in names]
    said = {"text": torch.tensor(padded), "text_length": torch.tensor([len(name) for name in names])}
    own_BD, name_CD = (
        tiny(f"{method} Train", modality=each).eval().predict_step(values, 0)["embedding"][each]
        for each, values in ((modality, batch), ("t", said))
    )
    if stage.similarity == "cosine":
        own_BD, name_CD = F.normalize(own_BD, dim=1) / stage.spec.options.tau, F.normalize(name_CD, dim=1)
    assert stage.similarity == {"mcn": "dot"}.get(method, "cosine") and logits.keys() == {modality}
    torch.testing.assert_close(logits[modality], own_BD @ name_CD.T)
