"""k-means over a dataset's features, against one written out, and what comes before it."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.cluster import kmeans_plusplus
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import adjusted_rand_score

from experiments.common.clustering import ClusteringOptions, clustered

N, D, K, SEED = 300, 6, 7, 3


def vectors() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(N, D)).astype(np.float32)


def labels(
    x_ND: np.ndarray, *, clusters: int = K, fitted: slice = slice(None), seed: int = SEED, **options
) -> np.ndarray:
    fitted_N = np.zeros(len(x_ND), bool)
    fitted_N[fitted] = True
    return clustered(x_ND.copy(), clusters, fitted_N, ClusteringOptions(**options), seed)


def lloyd(x_ND: np.ndarray, centre_KD: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(clusters, centres) in float64, until nothing moves."""
    label_N = np.full(len(x_ND), -1)
    while True:
        before, label_N = label_N, ((x_ND[:, None] - centre_KD) ** 2).sum(-1).argmin(1)
        if (label_N == before).all():
            return label_N, centre_KD
        centre_KD = np.stack([x_ND[label_N == k].mean(0) for k in range(len(centre_KD))])


def test_clusters_are_those_of_k_means_from_the_same_first_centres():
    x_ND = vectors()
    expected, _ = lloyd(x_ND.astype(np.float64), kmeans_plusplus(x_ND, K, random_state=SEED)[0].astype(np.float64))
    assert (labels(x_ND) == expected).all()
    assert (labels(x_ND, iterations=1) != expected).any()


def test_the_seed_draws_the_first_centres():
    x_ND = vectors()
    assert (labels(x_ND) == labels(x_ND)).all() and adjusted_rand_score(labels(x_ND), labels(x_ND, seed=4)) < 1


def test_vectors_that_are_not_fitted_to_go_to_the_nearest_centre_and_move_none():
    x_ND = vectors()
    x_ND[200:] += 3
    alone = labels(x_ND[:200])
    found = labels(x_ND, fitted=slice(200))
    assert (found[:200] == alone).all()
    centre_KD = np.stack([x_ND[:200][alone == k].mean(0) for k in range(K)])
    assert (found == ((x_ND[:, None] - centre_KD) ** 2).sum(-1).argmin(1)).all()


def test_whitening_lets_a_small_direction_count_as_much_as_a_large_one():
    """Two groups lie apart in a direction of little variance."""
    rng = np.random.default_rng(0)
    group_N = np.arange(N) % 2
    x_ND = np.stack([100 * rng.normal(size=N), group_N + 0.02 * rng.normal(size=N)], 1).astype(np.float32)
    assert adjusted_rand_score(group_N, labels(x_ND, clusters=2)) < 0.1
    assert adjusted_rand_score(group_N, labels(x_ND, clusters=2, whitened=2)) == 1


def test_normalised_vectors_are_clustered_by_their_direction():
    rng = np.random.default_rng(0)
    group_N = np.arange(N) % 2
    direction_ND = np.stack([np.cos(group_N), np.sin(group_N)], 1) + 0.02 * rng.normal(size=(N, 2))
    x_ND = (direction_ND * rng.uniform(1, 100, (N, 1))).astype(np.float32)
    assert adjusted_rand_score(group_N, labels(x_ND, clusters=2)) < 0.5
    assert adjusted_rand_score(group_N, labels(x_ND, clusters=2, normalised=True)) == 1


def test_clusters_that_stay_empty_are_reported():
    with pytest.warns(
        ConvergenceWarning, match=r"Number of distinct clusters \(3\) found smaller than n_clusters \(7\)"
    ):
        labels(np.repeat(np.eye(3, D, dtype=np.float32), 10, 0))


@pytest.mark.parametrize(
    ("options", "says"),
    [({"clusters": 21}, "clusters=21, but of 20 vectors of 6 numbers 20 is the most"),
     ({"whitened": 7}, "whitened=7, but of 20 vectors of 6 numbers 6 is the most")],
)  # fmt: skip
def test_fewer_vectors_than_clusters_or_components_are_an_error(options, says):
    with pytest.raises(ValueError, match=says):
        labels(vectors(), fitted=slice(20), **options)
