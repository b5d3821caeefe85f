from __future__ import annotations

import math

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from bench.contract.ranks import RANKS, on_two_ranks
from experiments.mcn.clustering import JointClusters, cluster_contrast, kmeans, nearest

DIM, PER_VIDEO, CLIPS, BATCHES = 5, 4, 16, 3
ROOM = BATCHES * CLIPS // 2


def joint(clusters=3, queue_batches=BATCHES, refit_every=2, seed=0):
    return JointClusters(clusters, DIM, queue_batches, refit_every, seed)


def batches(count, seed=0):
    return torch.randn(count, CLIPS, DIM, generator=torch.Generator().manual_seed(seed))


def written_out(x, centroids, labels, margin):
    """The loss term by term, as in the paper's equation with the code's margin."""
    total = 0.0
    for i, label in enumerate(labels.tolist()):
        scores = [x[i].dot(c).item() - margin * (k == label) for k, c in enumerate(centroids)]
        total -= scores[label] - math.log(sum(math.exp(s) for s in scores))
    return total / len(x)


def test_cluster_contrast_is_the_formula_and_teaches_x_alone():
    x, centroids, labels = torch.randn(6, DIM), torch.randn(4, DIM), torch.tensor([0, 3, 1, 1, 2, 0])
    x.requires_grad_()
    for margin in (0.001, 0.5):
        loss = cluster_contrast(x, centroids, labels, margin)
        assert loss.item() == pytest.approx(written_out(x, centroids, labels, margin), rel=1e-5)
    loss.backward()
    assert x.grad.abs().sum() > 0 and not centroids.requires_grad


def test_cluster_contrast_is_computed_in_float32_under_autocast():
    x, centroids, labels = torch.randn(6, DIM), torch.randn(4, DIM), torch.arange(6) % 4
    with torch.autocast("cpu", torch.bfloat16):
        loss = cluster_contrast(x, centroids, labels, 0.001)
    assert loss.item() == pytest.approx(written_out(x, centroids, labels, 0.001), rel=1e-5)


@given(st.lists(st.booleans(), min_size=6, max_size=6))
def test_clips_that_do_not_count_might_as_well_not_be_there(valid):
    x, centroids, labels = torch.randn(6, DIM), torch.randn(4, DIM), torch.arange(6) % 4
    valid = torch.tensor(valid)
    loss = cluster_contrast(x, centroids, labels, 0.001, valid)
    expected = cluster_contrast(x[valid], centroids, labels[valid], 0.001) if valid.any() else torch.tensor(0.0)
    torch.testing.assert_close(loss, expected)


@given(st.integers(0, 1000), st.integers(2, 6))
def test_k_means_ends_where_centroids_are_means_of_the_vectors_nearest_by_cosine(seed, k):
    x = torch.randn(40, DIM, generator=torch.Generator().manual_seed(seed))
    centroids, labels = kmeans(x, x[:k], tolerance=0.0)
    assert torch.equal(labels, F.cosine_similarity(x[:, None], centroids[None], dim=2).argmax(1))
    for cluster, centroid in enumerate(centroids):
        members = x[labels == cluster]
        torch.testing.assert_close(centroid, members.mean(0) if len(members) else torch.zeros(DIM))


def test_k_means_ends_at_the_tolerance_or_the_last_iteration():
    x = torch.randn(60, DIM)
    assert not torch.equal(kmeans(x, x[:5])[0], kmeans(x, x[:5], iterations=1)[0])
    assert torch.equal(kmeans(x, x[:5], tolerance=1e9)[0], kmeans(x, x[:5], iterations=1)[0])


def test_a_label_is_the_centroid_nearest_to_the_mean_of_the_modalities():
    """The card's heart 1: one label a clip, for all modalities, from their mean."""
    a, v, t = torch.randn(3, CLIPS, DIM)
    clusters = joint()
    clusters.update((a + v + t) / 3, PER_VIDEO, 0, 0)
    a, v, t = torch.randn(3, CLIPS, DIM)
    labels = clusters.update((a + v + t) / 3, PER_VIDEO, 1, 0)
    assert torch.equal(labels, nearest((a + v + t) / 3, clusters.centroid_KD))
    assert labels.shape == (CLIPS,)
    for alone in (a, v, t):
        assert not torch.equal(labels, nearest(alone, clusters.centroid_KD))


def test_there_is_nothing_to_train_and_nothing_in_the_weights():
    """The card's heart 2: no trained prototypes; the memory is in no stage's `weights.pt`."""
    clusters = joint()
    module = nn.Module()
    module.clusters = clusters
    clusters.update(torch.randn(CLIPS, DIM, requires_grad=True), PER_VIDEO, 0, 0)
    assert list(module.parameters()) == [] and module.state_dict() == {}
    assert not clusters.memory_MD.requires_grad and not clusters.centroid_KD.requires_grad


def test_the_memory_is_the_first_half_of_each_video_s_clips_newest_first():
    """The card's heart 4."""
    clusters, steps = joint(), batches(BATCHES + 2)
    for step, fused in enumerate(steps):
        clusters.update(fused, PER_VIDEO, step, 0)
    halves = [fused.view(-1, PER_VIDEO, DIM)[:, : PER_VIDEO // 2].flatten(0, 1) for fused in steps]
    assert torch.equal(clusters.memory_MD, torch.cat(halves[: -BATCHES - 1 : -1]))


@pytest.mark.parametrize(("step", "clustered"), [(BATCHES - 1, CLIPS), (BATCHES, ROOM + CLIPS)])
def test_the_memory_is_clustered_with_the_batch_once_it_is_full(monkeypatch, step, clustered):
    """The card's heart 4: until then the batch alone is clustered."""
    seen = []
    monkeypatch.setattr(
        "experiments.mcn.clustering.kmeans", lambda x, centroids: (seen.append(x), kmeans(x, centroids))[1]
    )
    clusters, steps = joint(refit_every=1), batches(step + 1)
    for i, fused in enumerate(steps):
        memory = clusters.memory_MD
        clusters.update(fused, PER_VIDEO, i, 0)
    assert len(seen) == step + 1 and len(seen[-1]) == clustered
    assert torch.equal(seen[-1], torch.cat((memory, steps[-1]))[-clustered:])


def test_centroids_are_refitted_from_the_last_ones_every_few_steps_and_forgotten_with_the_epoch():
    clusters, steps = joint(refit_every=3, queue_batches=0), batches(5)
    found = []
    for step, fused in enumerate(steps[:4]):
        clusters.update(fused, PER_VIDEO, step, 0)
        found.append(clusters.centroid_KD)
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])
    assert torch.equal(found[3], kmeans(steps[3], found[0])[0])
    clusters.update(steps[4], PER_VIDEO, 0, 1)
    fresh = joint(queue_batches=0)
    fresh.update(steps[4], PER_VIDEO, 0, 1)
    assert torch.equal(clusters.centroid_KD, fresh.centroid_KD)


def test_the_memory_outlives_the_epoch():
    clusters = joint()
    for step, fused in enumerate(batches(BATCHES)):
        clusters.update(fused, PER_VIDEO, step, 0)
    memory, fused = clusters.memory_MD, batches(1, seed=1)[0]
    clusters.update(fused, PER_VIDEO, 0, 1)
    assert torch.equal(clusters.memory_MD[CLIPS // 2 :], memory[: -CLIPS // 2])


def first_centroids(seed, epoch):
    clusters = joint(seed=seed)
    clusters.update(batches(1)[0], PER_VIDEO, 0, epoch)
    return clusters.centroid_KD


def test_the_first_centroids_depend_on_seed_and_epoch_alone():
    torch.manual_seed(0)
    first = first_centroids(0, 0)
    torch.manual_seed(1)
    assert torch.equal(first, first_centroids(0, 0))
    assert not torch.equal(first, first_centroids(1, 0)) and not torch.equal(first, first_centroids(0, 1))


def test_clusters_are_found_in_float32_under_autocast():
    plain, automatic = joint(), joint()
    for step, fused in enumerate(batches(2)):
        labels = plain.update(fused, PER_VIDEO, step, 0)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(automatic.update(fused, PER_VIDEO, step, 0), labels)
        assert torch.equal(automatic.centroid_KD, plain.centroid_KD)


@pytest.mark.parametrize("k", [1, 2, 8])
def test_the_number_of_clusters_changes_the_centroids_alone(k):
    """The card's heart 7."""
    clusters = joint(clusters=k)
    fused = batches(1)[0]
    labels = clusters.update(fused, PER_VIDEO, 0, 0)
    assert labels.shape == (CLIPS,) and labels.max() < k
    assert clusters.centroid_KD.shape == (k, DIM) and clusters.memory_MD.shape == (CLIPS // 2, DIM)
    assert cluster_contrast(fused, clusters.centroid_KD, labels, 0.001).shape == ()


def test_single_clips_of_videos_are_all_remembered():
    clusters = joint()
    clusters.update(batches(1)[0], 1, 0, 0)
    assert len(clusters.memory_MD) == CLIPS


def test_clips_without_all_modalities_are_neither_clustered_nor_remembered():
    valid = torch.ones(CLIPS, dtype=torch.bool)
    valid[[0, 3, 5, 10]] = False
    one, other = joint(refit_every=1), joint(refit_every=1)
    for step, fused in enumerate(batches(2 * BATCHES)):
        labels = one.update(fused, PER_VIDEO, step, 0, valid)
        damaged = fused.masked_fill(~valid[:, None], 1e6)
        assert torch.equal(labels[valid], other.update(damaged, PER_VIDEO, step, 0, valid)[valid])
        assert torch.equal(one.centroid_KD, other.centroid_KD) and torch.equal(one.memory_MD, other.memory_MD)
    assert len(one.memory_MD) == ROOM and one.memory_MD.abs().max() < 100


def test_a_training_goes_on_from_its_state_as_if_nothing_had_happened():
    through, stopped = joint(), joint()
    steps = batches(2 * BATCHES)
    for step, fused in enumerate(steps):
        if step == BATCHES + 1:
            state = {name: value.clone() for name, value in stopped.state().items()}
            stopped = joint()
            stopped.load_state(state)
        labels = through.update(fused, PER_VIDEO, step, 0)
        assert torch.equal(stopped.update(fused, PER_VIDEO, step, 0), labels)
        assert torch.equal(stopped.centroid_KD, through.centroid_KD)


def test_later_steps_do_not_write_into_a_state_that_was_taken():
    clusters, steps = joint(refit_every=1), batches(BATCHES + 2)
    for step, fused in enumerate(steps[:-1]):
        clusters.update(fused, PER_VIDEO, step, 0)
    state = clusters.state()
    before = {name: value.clone() for name, value in state.items()}
    clusters.update(steps[-1], PER_VIDEO, BATCHES + 1, 0)
    assert all(torch.equal(state[name], value) for name, value in before.items())


def test_fewer_clips_than_clusters_are_an_error():
    with pytest.raises(ValueError, match="16 clips cannot make 17 clusters"):
        joint(clusters=17).update(batches(1)[0], PER_VIDEO, 0, 0)


def trajectory(own):
    """Of the clips in the slice `own`, over the filling of the queue, fits and an epoch's start; first with all clips,
    then without those that lack a modality, of which the first rank has more."""
    results = []
    valid = torch.ones(CLIPS, dtype=torch.bool)
    valid[[0, 1, 6, 9]] = False
    for mask in (None, valid):
        clusters = joint()
        for epoch in range(2):
            for step, fused in enumerate(batches(BATCHES + 2, seed=epoch)):
                weight = torch.eye(DIM).requires_grad_()
                mine = None if mask is None else mask[own]
                x = fused[own] @ weight
                labels = clusters.update(x, PER_VIDEO, step, epoch, mine)
                loss = cluster_contrast(x + fused[own].flip(1), clusters.centroid_KD, labels, 0.001, mine)
                loss.backward()
                results.append((labels, clusters.centroid_KD, clusters.memory_MD, loss.detach(), weight.grad))
    return results


def on_a_rank(rank):
    share = CLIPS // RANKS
    results = []
    for labels, centroids, memory, loss, grad in trajectory(slice(rank * share, (rank + 1) * share)):
        all_labels, all_centroids = [[torch.empty_like(x) for _ in range(RANKS)] for x in (labels, centroids)]
        dist.all_gather(all_labels, labels)
        dist.all_gather(all_centroids, centroids)
        for value in (loss, grad):
            dist.all_reduce(value)
        results.append((torch.cat(all_labels), all_centroids, memory, loss / RANKS, grad / RANKS))
    return results


def test_two_processes_cluster_and_learn_as_one_with_the_whole_batch(tmp_path):
    pairs = zip(on_two_ranks(on_a_rank, tmp_path), trajectory(slice(None)), strict=True)
    for i, ((labels, centroids, memory, loss, grad), expected) in enumerate(pairs):
        valid = [True] * CLIPS if i < 2 * (BATCHES + 2) else [n not in (0, 1, 6, 9) for n in range(CLIPS)]
        assert torch.equal(labels[valid], expected[0][valid])
        for ours, theirs in zip((*centroids, memory, loss, grad), (expected[1], *expected[1:]), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
