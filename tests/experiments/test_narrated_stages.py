"""Everything at Once's stages; and what stages on narrated videos start from, own weights and the authors'."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from experiments.avlnet import method as avlnet
from experiments.everything_at_once import method as everything
from experiments.everything_at_once.objective import PairWeights
from experiments.mcn import method as mcn
from tests.experiments import test_avlnet_parity as avlnet_parity
from tests.experiments import test_everything_at_once_parity as everything_parity
from tests.experiments import test_mcn_parity as mcn_parity
from tests.experiments.narrated_tiny import (
    CLIPS,
    EVERYTHING,
    LENGTHS,
    WHOLE,
    avlnet_stage,
    batch_of,
    chosen,
    cut_off,
    everything_stage,
    mcn_stage,
    spec,
    with_noise,
    word2vec,
)
from tests.experiments.supervised_tiny import falling, trained

pytestmark = pytest.mark.filterwarnings("ignore:You are trying to")  # log without a Trainer
PAIRS = ("t_v", "t_a", "v_a", "t_av", "v_at", "a_vt")


# --- Everything at Once: training ---------------------------------------------------------------------------------


def test_the_loss_is_the_weighted_mean_of_six_pairs_and_every_pair_is_logged():
    stage = everything_stage(weights=PairWeights())
    terms = stage.losses(batch_of())
    assert terms.keys() == {*PAIRS, "loss"}
    expected = (terms["t_v"] + 0.1 * sum(terms[name] for name in PAIRS[1:])) / 1.5
    torch.testing.assert_close(terms["loss"], expected)
    assert trained(stage, [batch_of()]).callback_metrics.keys() == {f"loss/{name}" for name in terms}
    assert everything.TrainOptions() == everything.TrainOptions(0.05, PairWeights(1.0, 0.1, 0.1, 0.1, 0.1, 0.1))
    assert everything.Train.similarity == "cosine"


@pytest.mark.parametrize("pair", PAIRS)
def test_a_pair_is_compared_by_cosine_over_tau_among_the_clips_that_have_it(pair):
    stage, batch = everything_stage(tau=0.3).eval(), batch_of()
    one, other = pair.split("_")
    kept = torch.stack([batch[LENGTHS[modality]] > 0 for modality in one + other]).all(0)
    embedding = stage.predict_step(batch, 0)["embedding"]
    x, y = (F.normalize(embedding[side][kept], dim=1) for side in (one, other))
    score, own = x @ y.T / 0.3, torch.arange(len(x))
    expected = F.cross_entropy(score, own) + F.cross_entropy(score.T, own)
    assert kept.nonzero()[:, 0].tolist() != WHOLE or len(pair) == 4
    torch.testing.assert_close(stage.losses(batch)[pair], expected)


NEVER_LEARNED = ["net.masking_token"]
"""It stands only where no term counts, as in the official code."""


def test_every_parameter_learns_and_training_a_batch_lowers_its_loss():
    stage = everything_stage()
    stage.training_step(batch_of(), 0).backward()
    assert all(p.grad is not None for p in stage.parameters())  # or DistributedDataParallel would complain
    assert [key for key, p in stage.named_parameters() if not p.grad.any()] == NEVER_LEARNED
    before, after = falling(everything_stage(), batch_of(complete=True), 20)
    assert after < 0.7 * before


@torch.no_grad()
@pytest.mark.parametrize("modality", "avt")
def test_what_stands_in_the_place_of_what_is_missing_changes_nothing(modality):
    """As in evaluation, as batch norms see all clips of a batch."""
    stage, batch = everything_stage().eval(), batch_of()
    before, after = stage.losses(batch), stage.losses(with_noise(batch, modality))
    assert all(torch.equal(value, after[name]) for name, value in before.items())


@torch.no_grad()
def test_words_are_found_by_what_is_seen_and_heard_together():
    stage, batch = everything_stage().eval(), batch_of(complete=True)
    before = stage.predict_step(batch, 0)["embedding"]
    assert before.keys() == {"a", "v", "t", "av", "at", "vt", "avt"}
    after = stage.predict_step({**batch, "audio": batch["audio"].flip(0)}, 0)["embedding"]
    for name, embedding in before.items():
        assert torch.equal(embedding, after[name]) == ("a" not in name)


@torch.no_grad()
def test_a_stage_of_two_modalities_reads_no_third():
    stage, batch = everything_stage(modality="av").eval(), batch_of(complete=True)
    batch = {key: value for key, value in batch.items() if not key.startswith("text")}
    assert stage.predict_step(batch, 0)["embedding"].keys() == {"a", "v", "av"}


# --- the mode in which a network is trained -----------------------------------------------------------------------


def statistics(stage):
    norms = [module for module in stage.modules() if isinstance(module, nn.BatchNorm1d)]
    assert norms
    return [value.clone() for norm in norms for value in (norm.running_mean, norm.running_var)]


NARRATED = {
    "avlnet": avlnet_stage,
    "tri": partial(avlnet_stage, "TriSum"),
    "fused": partial(avlnet_stage, "Fused"),
    "mcn": mcn_stage,
    "everything_at_once": everything_stage,
}


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("name", NARRATED)
def test_in_the_mode_eval_batch_norms_are_frozen_and_all_weights_learn(name, mode):
    """`model.eval()` in the authors' trainers; a gradient step sees no module in training."""
    stage = NARRATED[name](mode=mode)
    before, weights = statistics(stage), {key: p.detach().clone() for key, p in stage.named_parameters()}
    trained(stage, [batch_of(seed=i) for i in range(2)], max_epochs=2)
    moved = [not torch.equal(one, other) for one, other in zip(before, statistics(stage), strict=True)]
    assert all(moved) if mode == "train" else not any(moved)
    still = [key for key, p in stage.named_parameters() if torch.equal(p, weights[key])]
    assert still == (NEVER_LEARNED if name == "everything_at_once" else [])


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_in_the_mode_eval_the_padding_of_sound_is_not_pooled(mode):
    """Half of the batch's frames are padding, of which the loss of a step of training must not know."""
    batch = batch_of(complete=True)
    batch["audio_length"] = torch.full_like(batch["audio_length"], 32)
    batch["audio"][:, :, 32:] = 0.0
    longer = {**batch, "audio": F.pad(batch["audio"], (0, 0, 0, 256))}
    losses = []
    for each in (batch, longer):
        stage = avlnet_stage(mode=mode)
        losses.append(trained(stage, [each]).callback_metrics["loss/loss"])
    assert torch.isclose(*losses, rtol=1e-4) == (mode == "eval")


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_a_training_that_was_cut_off_ends_as_if_it_had_not_been(mode, tmp_path):
    whole, fresh = everything_stage(mode=mode), everything_stage(mode=mode)
    cut_off(whole, fresh, [batch_of(seed=i) for i in range(4)], tmp_path)
    assert all(torch.equal(value, fresh.state_dict()[key]) for key, value in whole.state_dict().items())


# --- Everything at Once: late fusion and localisation -------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("depth", [0, 1])
def test_late_fusion_is_the_mean_of_two_and_what_a_network_without_blocks_does(depth):
    model, batch = replace(EVERYTHING, depth=depth), batch_of(complete=True)
    late = everything_stage("LateFusion", model).eval().predict_step(batch, 0)["embedding"]
    fused = everything_stage("Train", model).eval().predict_step(batch, 0)["embedding"]
    assert late.keys() == {"a", "v", "t", "av", "at", "vt"}
    for name, embedding in late.items():
        torch.testing.assert_close(embedding, torch.stack([fused[modality] for modality in name]).mean(0))
        apart = (embedding - fused[name]).abs().max()
        assert apart > 1e-3 if depth and len(name) == 2 else apart < 1e-6


NAMES = [[3, 1], [5], [2, 7, 9, 4], [8]]


@torch.no_grad()
@pytest.mark.parametrize("modality", ["av", "v"])
def test_steps_are_found_by_the_cosine_with_their_names(modality):
    stage = everything_stage("Localise", tau=0.1, modality=modality, class_text=NAMES).eval()
    batch = batch_of()
    read = {key: value for key, value in batch.items() if not key.startswith("text")}
    logits = stage.predict_step(read, 0)["logits"]
    own = everything_stage(modality=modality).eval().predict_step(read, 0)["embedding"][modality]
    words = everything_stage(modality="t").eval()
    assert logits.keys() == {modality} and logits[modality].shape == (CLIPS, len(NAMES))
    for name, logit_B in zip(NAMES, logits[modality].T, strict=True):
        said = {"text": torch.tensor([name]), "text_length": torch.tensor([len(name)])}
        name_1D = words.predict_step(said, 0)["embedding"]["t"]
        torch.testing.assert_close(logit_B, F.cosine_similarity(own, name_1D) / 0.1)


# --- what stages start from ---------------------------------------------------------------------------------------

TINY = {
    **{f"avlnet {name}": (avlnet_stage, name) for name in ("AVLnet", "Tri", "TriSum", "Fused")},
    **{f"mcn {name}": (mcn_stage, name) for name in ("Train", "Localise")},
    **{f"everything_at_once {name}": (everything_stage, name) for name in ("Train", "LateFusion", "Localise")},
}


@pytest.mark.parametrize("name", TINY)
def test_own_weights_are_loaded_and_learned_words_with_them(name):
    make, stage_name = TINY[name]
    stage, other = make(stage_name), make(stage_name)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(1.0)
    other.load_parent(stage.state_dict())
    assert all(torch.equal(value, other.state_dict()[key]) for key, value in stage.state_dict().items())
    assert ("words.learned.weight" in stage.state_dict()) == (name != "avlnet AVLnet")


@pytest.mark.parametrize("name", TINY)
def test_own_weights_that_lack_something_or_have_more_are_an_error_that_names_it(name):
    make, stage_name = TINY[name]
    stage = make(stage_name)
    weights = stage.state_dict()
    keys = list(weights)
    for key in {keys[0], keys[-1]}:
        with pytest.raises(ValueError, match=f"{key.split('.', 1)[1]}: missing".replace(".", r"\.")):
            stage.load_parent({other: value for other, value in weights.items() if other != key})
    with pytest.raises(ValueError, match=r"more\.weight: unknown"):
        stage.load_parent({**weights, "net.more.weight": torch.zeros(1)})


def official(name, folder):
    """A stage of the recorded runs' size, whose words have vectors in a file, and the authors' weights of it."""
    method, stage_name = name.split()
    if method == "avlnet":
        stage_class = getattr(avlnet, stage_name)
        net = avlnet_parity.network(stage_class.text, "eval")
        options, weights = avlnet.Options(), avlnet_parity.released(stage_class.text)
    elif method == "mcn":
        stage_class, net = getattr(mcn, stage_name), mcn_parity.network()
        options, weights = mcn.TrainOptions(), mcn_parity.released()
    else:
        stage_class, net = getattr(everything, stage_name), everything_parity.network()
        options, weights = everything.TrainOptions(), everything_parity.released()
    text = word2vec(folder, net.config.word_dim)
    return stage_class(spec(net.config, options, text=text)), net.state_dict(), weights


@pytest.mark.parametrize("name", TINY)
def test_the_authors_weights_fill_a_stage_whose_words_are_word2vec_s(name, tmp_path):
    stage, expected, weights = official(name, tmp_path)
    stage.load_parent(weights)
    assert stage.state_dict().keys() == {f"net.{key}" for key in expected}
    assert all(torch.equal(value, stage.net.state_dict()[key]) for key, value in expected.items())
    if stage.words is not None:
        vectors_BLD = stage.word_vectors({"text": torch.tensor([[2, 4, 0]])})
        assert vectors_BLD[0, :, :2].tolist() == [[2.0, 3.0], [4.0, 5.0], [0.0, 0.0]]
        assert vectors_BLD.shape[2] == stage.spec.model.word_dim


@pytest.mark.parametrize("name", TINY)
def test_a_key_of_the_authors_that_has_no_place_is_named(name, tmp_path):
    stage, _, weights = official(name, tmp_path)
    with pytest.raises(ValueError, match=r"GU_speech\.fc\.weight: unknown"):
        stage.load_parent({**weights, "GU_speech.fc.weight": torch.zeros(1)})


@pytest.mark.parametrize("name", [name for name in TINY if name != "avlnet AVLnet"])
def test_learned_words_have_no_place_in_a_stage_with_word2vec_s_and_the_other_way_round(name, tmp_path):
    make, stage_name = TINY[name]
    learned = make(stage_name)
    frozen = type(learned)(replace(learned.spec, text=word2vec(tmp_path)))
    with pytest.raises(ValueError, match=r"learned\.weight: unknown"):
        frozen.load_parent(learned.state_dict())
    with pytest.raises(ValueError, match=r"learned\.weight: missing"):
        learned.load_parent(frozen.state_dict())


@torch.no_grad()
def test_clips_of_different_length_are_as_if_they_were_alone():
    """In evaluation, where a stage must not care which clips are measured together."""
    batch = batch_of(complete=True)
    for make in (avlnet_stage, mcn_stage, everything_stage):
        stage = make().eval()
        whole = stage.predict_step(batch, 0)["embedding"]
        for clip in (0, 3):
            alone = stage.predict_step(chosen(batch, [clip]), 0)["embedding"]
            for name, embedding in whole.items():
                torch.testing.assert_close(embedding[clip], alone[name][0], rtol=1e-4, atol=1e-5)
