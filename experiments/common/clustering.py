"""k-means over the features of a whole dataset, for methods that learn from the clusters of their own clips.

scikit-learn's, beside which this has what DeepCluster does before it, and clips that are only assigned.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass
class ClusteringOptions:
    """Of k-means, and of what comes before it."""

    whitened: int = 0
    """Principal components that are kept and given the variance 1 (DeepCluster: 256); 0 = features as they are."""
    normalised: bool = False
    """Whether features, or what is left of them, are given the length 1."""
    iterations: int = 100
    """At most so many."""


def clustered(
    x_ND: np.ndarray, clusters: int, fitted_N: np.ndarray, options: ClusteringOptions, seed: int
) -> np.ndarray:
    """[N] int32, the cluster of each vector.

    The first centres are drawn by k-means++. A cluster that no vector is nearest to gets the one that is farthest from
    its own centre; of clusters that stay empty, as there are too few different vectors, scikit-learn warns. The sums of
    more than two threads differ in their last bits with the threads' order, so that a vector right between two centres
    may go to either.

    Args:
        x_ND: float32, which is changed; without whitening there is no second copy of it where all are `fitted_N`.
        clusters: k.
        fitted_N: bool, the vectors that clusters (and components) are found in; the others go to the nearest.
        options: see there.
        seed: of the first centres, below 2**32.

    Raises:
        ValueError: there are fewer vectors than clusters or components.
    """
    from sklearn.cluster import KMeans, kmeans_plusplus
    from sklearn.decomposition import PCA
    from sklearn.preprocessing import normalize

    vectors, numbers = int(fitted_N.sum()), x_ND.shape[1]
    for name, wanted, most in (
        ("clusters", clusters, vectors),
        ("whitened", options.whitened, min(vectors, numbers)),
    ):
        if wanted > most:
            raise ValueError(f"{name}={wanted}, but of {vectors} vectors of {numbers} numbers {most} is the most")
    every = bool(fitted_N.all())
    if options.whitened:
        pca = PCA(options.whitened, whiten=True, svd_solver="covariance_eigh")
        x_ND = pca.fit(x_ND[fitted_N]).transform(x_ND)
    if options.normalised:
        x_ND = normalize(x_ND, copy=False)
    fitted_MD = x_ND if every else x_ND[fitted_N]
    centre_KD, _ = kmeans_plusplus(fitted_MD, clusters, random_state=seed)
    k_means = KMeans(
        clusters, init=centre_KD, n_init=1, max_iter=options.iterations, copy_x=False, random_state=seed
    ).fit(fitted_MD)
    return k_means.labels_ if every else k_means.predict(x_ND)
