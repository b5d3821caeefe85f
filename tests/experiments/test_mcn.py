"""What is MCN's own in its stages: joint clusters of three modalities, and decoders whose targets learn, too.

Embeddings and losses are compared with the authors' in `recorded/mcn.py`; the clusters by themselves are in
`test_mcn_clustering.py`; what MCN does as AVLnet and Everything at Once do stands in `test_narrated_stages.py`.
"""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from experiments.mcn import method
from tests.experiments.every_stage import trained
from tests.experiments.narrated_golden import WORD2VEC
from tests.experiments.narrated_tiny import MCN, VIDEO_DIMS, WHOLE, WORDS, batch_of, mcn_stage, spec
from tests.experiments.recorded.mcn import NETWORK, released, stage

pytestmark = pytest.mark.filterwarnings("ignore:You are trying to")  # log without a Trainer


def spied(monkeypatch, made):
    """What the clusters are asked with from now on."""
    calls, update = [], made.joint.update
    monkeypatch.setattr(made.joint, "update", lambda *asked: (calls.append(asked), update(*asked))[1])
    return calls


def test_a_clip_has_one_cluster_which_the_mean_of_its_three_embeddings_tells(monkeypatch):
    made, batch = mcn_stage().eval(), batch_of()
    calls = spied(monkeypatch, made)
    made.losses_at(batch, 3, 1)
    ((mean_BD, *rest, whole_B),) = calls
    torch.testing.assert_close(mean_BD, torch.stack([made.embed(batch, m) for m in "avt"]).mean(0))
    assert not mean_BD.requires_grad and rest == [2, 3, 1]  # clips per video, step, epoch
    assert whole_B.nonzero()[:, 0].tolist() == WHOLE


def test_steps_and_epochs_of_training_are_those_of_the_trainer(monkeypatch):
    made = mcn_stage(steps_per_epoch=3)
    calls = spied(monkeypatch, made)
    trained(made, [batch_of(seed=i) for i in range(3)], max_epochs=2)
    assert [call[2:4] for call in calls] == [(0, 0), (1, 0), (2, 0), (0, 1), (1, 1), (2, 1)]


def test_clusters_are_not_found_in_parts_of_a_batch():
    made = mcn_stage()
    made.trainer = SimpleNamespace(accumulate_grad_batches=2)
    with pytest.raises(ValueError, match=r"trainer\.device_batch must be 0"):
        made.on_train_start()


def test_weights_hold_neither_centroids_nor_memory():
    made = mcn_stage()
    before = made.state_dict().keys()
    made.losses_at(batch_of(), 0, 0)
    assert len(made.joint.memory_MD) and len(made.joint.centroid_KD)
    assert made.state_dict().keys() == before and all(key.startswith(("net.", "words.")) for key in before)


@torch.no_grad()
def test_a_checkpoint_has_the_memory_and_the_centroids():
    """The memory is full, and so clustered, at step 4."""
    made, fresh, checkpoint = mcn_stage().eval(), mcn_stage().eval(), {}
    for step in range(4):
        made.losses_at(batch_of(seed=step), step, 0)
    made.on_save_checkpoint(checkpoint)
    fresh.on_load_checkpoint(checkpoint)
    assert len(made.joint.memory_MD) == 8
    assert torch.equal(*(each.losses_at(batch_of(seed=4), 4, 0)["cluster"] for each in (made, fresh)))


@torch.no_grad()
def test_every_term_can_be_switched_off_and_counts_by_its_weight():
    batch, usual = batch_of(), mcn_stage().eval().losses_at(batch_of(), 0, 0)
    parts = sum(usual[f"reconstruction_{modality}"] for modality in "avt")
    assert parts > 0.1 and usual["cluster"] > 0.1
    for weight in (0.0, 2.0):
        made = mcn_stage(cluster_weight=weight).eval()
        found = made.losses_at(batch, 0, 0)
        assert ("cluster" in found) == bool(len(made.joint.memory_MD)) == (weight > 0)
        torch.testing.assert_close(found["loss"] - usual["loss"], (weight - 1) * usual["cluster"])
        found = mcn_stage(reconstruction_weight=50 * weight).eval().losses_at(batch, 0, 0)
        torch.testing.assert_close(found["loss"] - usual["loss"], (weight - 1) * parts, rtol=1e-4, atol=1e-5)
    without = mcn_stage(model=replace(MCN, reconstruction=0)).losses_at(batch, 0, 0)
    assert without.keys() == {name for name in usual if not name.startswith("reconstruction")}


def test_what_decoders_give_back_learns_from_them_as_well():
    """With decoders that give nothing, so that there is no other way for a gradient to take."""
    made = mcn_stage()
    with torch.no_grad():
        for parameter in made.net.decoders.parameters():
            parameter.zero_()
    terms = made.losses_at(batch_of(), 0, 0)
    sum(terms[f"reconstruction_{modality}"] for modality in "avt").backward()
    for layer in (made.net.audio_branch.davenet.conv1, made.net.text_branch.pool.fc, made.words.learned):
        assert layer.weight.grad.any()
    for layer in (made.net.audio_branch.projection, made.net.video_unit.fc):
        assert layer.weight.grad is None or not layer.weight.grad.any()


@pytest.mark.parametrize("key", ["projection_head.0.weight", "module.classification.weight", "classification2.weight"])
def test_a_file_of_a_variant_with_a_cluster_head_is_an_error_that_says_so(key):
    with pytest.raises(ValueError, match=f"cluster head.*{key.removeprefix('module.')}"):
        stage().load_parent({**released(), key: torch.zeros(1)})


def test_a_network_without_decoders_names_those_that_a_file_has():
    made = method.Train(spec(replace(NETWORK, reconstruction=0), method.TrainOptions(), text=WORD2VEC))
    with pytest.raises(ValueError, match=r"decoders\.a\.0\.weight: unknown"):
        made.load_parent(released())


@torch.no_grad()
def test_a_clip_is_of_the_class_whose_name_is_most_like_the_mean_of_its_pictures():
    names = [[3, 1], [5], [2, 7, 9, 4]]
    made, batch = mcn_stage("Recognise", modality="v", class_text=names).eval(), batch_of(complete=True)
    (logits_BC,) = made.predict_step(batch, 0)["logits"].values()
    lengths = batch["video_feat_length"].tolist()
    means_BD = torch.stack([own[:n].mean(0) for own, n in zip(batch["video_feat"], lengths, strict=True)])
    pictures_BD = made.net.video_unit(
        torch.cat([F.normalize(part, dim=1) for part in means_BD.split(VIDEO_DIMS, 1)], 1)
    )
    for place, name in enumerate(names):
        padded = torch.tensor([name + [0] * (WORDS - len(name))])
        text_1D = made.net.text(made.words(padded))
        torch.testing.assert_close(logits_BC[:, place], (pictures_BD @ text_1D.T)[:, 0])
