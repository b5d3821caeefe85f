"""MCN's clusters where the authors' steps (`recorded/mcn.py`) do not reach, above all clips that lack a modality.

Two processes are in `test_mcn_ddp.py`.
"""

from __future__ import annotations

import pytest
import torch

from experiments.mcn.clustering import JointClusters, kmeans

DIM, PER_VIDEO, CLIPS, BATCHES = 5, 4, 16, 3
ROOM = BATCHES * CLIPS // 2


def joint(clusters=3):
    return JointClusters(clusters, DIM, BATCHES, refit_every=1, seed=0)


def batches(count):
    return torch.randn(count, CLIPS, DIM, generator=torch.Generator().manual_seed(0))


def test_k_means_ends_at_the_tolerance_or_the_last_iteration():
    x = torch.randn(60, DIM, generator=torch.Generator().manual_seed(0))
    assert not torch.equal(kmeans(x, x[:5])[0], kmeans(x, x[:5], iterations=1)[0])
    assert torch.equal(kmeans(x, x[:5], tolerance=1e9)[0], kmeans(x, x[:5], iterations=1)[0])


def test_the_memory_is_clustered_with_the_batch_only_once_it_is_full():
    clusters = joint()
    for step, fused in enumerate(batches(BATCHES + 1)):
        before, memory = clusters.centroid_KD, clusters.memory_MD
        clusters.update(fused, PER_VIDEO, step, 0)
        clustered = torch.cat((memory, fused)) if len(memory) == ROOM else fused
        assert step == 0 or torch.equal(clusters.centroid_KD, kmeans(clustered, before)[0])
    assert len(clustered) == ROOM + CLIPS


def test_single_clips_of_videos_are_all_remembered():
    clusters = joint()
    clusters.update(batches(1)[0], 1, 0, 0)
    assert len(clusters.memory_MD) == CLIPS and not clusters.memory_MD.requires_grad


def test_clips_without_all_modalities_are_neither_clustered_nor_remembered():
    valid = torch.ones(CLIPS, dtype=torch.bool)
    valid[[0, 3, 5, 10]] = False
    one, other = joint(), joint()
    for step, fused in enumerate(batches(2 * BATCHES)):
        labels = one.update(fused, PER_VIDEO, step, 0, valid)
        damaged = fused.masked_fill(~valid[:, None], 1e6)
        assert torch.equal(labels[valid], other.update(damaged, PER_VIDEO, step, 0, valid)[valid])
        assert torch.equal(one.centroid_KD, other.centroid_KD) and torch.equal(one.memory_MD, other.memory_MD)
    assert len(one.memory_MD) == ROOM and one.memory_MD.abs().max() < 100


def test_later_steps_do_not_write_into_a_state_that_was_taken():
    clusters, steps = joint(), batches(BATCHES + 2)
    for step, fused in enumerate(steps[:-1]):
        clusters.update(fused, PER_VIDEO, step, 0)
    state = clusters.state()
    before = {name: value.clone() for name, value in state.items()}
    clusters.update(steps[-1], PER_VIDEO, BATCHES + 1, 0)
    assert all(torch.equal(state[name], value) for name, value in before.items())


def test_fewer_clips_than_clusters_are_an_error():
    with pytest.raises(ValueError, match="16 clips cannot make 17 clusters"):
        joint(clusters=17).update(batches(1)[0], PER_VIDEO, 0, 0)
