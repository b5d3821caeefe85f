"""Metrics that torchmetrics lacks or gets wrong at scale, and their bootstrap intervals.

Everything is a function of whole-split arrays (one row a clip) and of *weights*, one a clip. A weight of 1 for each
clip gives the plain metric; the counts of a bootstrap resample give the metric of that resample, so value and interval
come from the same code. Suffixes: N clips, C classes, B weightings (resamples). Ranks of retrieval: `ranks`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from torch import Tensor

Floats = NDArray[np.floating]

RESAMPLES = 1000
CONFIDENCE = 0.95
BLOCK = 128
"""Resamples at a time: 20,000 clips' counts of one block are 10 MB and stay in the cache."""
AUC_LIMIT = 1e-6
"""d' of a perfect ranking is infinite; the AUC is kept this far from 0 and 1, which keeps |d'| at or below 6.72."""


class Rankings:
    """The clips sorted once for each class, ready to be weighted many times.

    Args:
        target_NC: [N, C], above 0 where the clip has the class.
        score_NC: [N, C], any finite numbers; only their order within a class matters, and ties stay ties.
    """

    def __init__(self, target_NC: ArrayLike, score_NC: ArrayLike):
        target_NC, score_NC = np.asarray(target_NC) > 0, np.asarray(score_NC)
        if target_NC.ndim != 2 or target_NC.shape != score_NC.shape:
            raise ValueError(f"target {target_NC.shape} and score {score_NC.shape} must be one [N, C]")
        self.clips = len(target_NC)
        self._classes = [
            _sort_class(target_N, score_N) for target_N, score_N in zip(target_NC.T, score_NC.T, strict=True)
        ]

    def measure(self, weight_NB: ArrayLike) -> tuple[Floats, Floats]:
        """Average precision and area under the ROC curve of each class under each weighting.

        Both treat tied scores as one threshold, as scikit-learn's `average_precision_score` and `roc_auc_score` with
        `sample_weight` do.

        Args:
            weight_NB: [N, B], at least 0.

        Returns:
            (ap_BC, auc_BC) float64; NaN where no positive (auc: or no negative) has weight.
        """
        import torch

        weight_NB = torch.from_numpy(_exact(weight_NB))
        if weight_NB.ndim != 2 or len(weight_NB) != self.clips:
            raise ValueError(f"weight {tuple(weight_NB.shape)} must be [{self.clips}, B]")
        ap_BC = np.full((weight_NB.shape[1], len(self._classes)), np.nan)
        auc_BC = ap_BC.copy()
        # Thousands of sums of a fraction of a millisecond: threads gain little, and on busy cores they wait for each
        # other ten times longer than one takes.
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            for index, ranking in enumerate(self._classes):
                if len(ranking.positives):
                    ap_BC[:, index], auc_BC[:, index] = _measure_class(ranking, weight_NB)
        finally:
            torch.set_num_threads(threads)
        return ap_BC, auc_BC


class _Ranking(NamedTuple):
    """One class's clips from the best score down. A group is a run of tied scores that holds a positive."""

    order: NDArray[np.int32]
    """[N] clip numbers."""
    edges: NDArray[np.int32]
    """[2G + 1] where the runs of `order` begin that lie before, in, between, ..., after the G groups."""
    positives: NDArray[np.int32]
    """[P] the positive clips, in the same order."""
    groups: NDArray[np.int32]
    """[G] where the groups begin in `positives`."""


def _sort_class(target_N: NDArray[np.bool_], score_N: Floats) -> _Ranking:
    # Stable, and in float64 so that the sign of any number type can be turned.
    order = np.argsort(-score_N.astype(np.float64), kind="stable").astype(np.int32)
    sorted_N = score_N[order]
    starts = np.flatnonzero(np.r_[True, sorted_N[1:] != sorted_N[:-1]])[: len(order)]
    ends = np.r_[starts[1:], len(order)]
    at = np.flatnonzero(target_N[order])
    held, groups = np.unique(np.searchsorted(starts, at, side="right") - 1, return_index=True)
    edges = np.r_[0, np.stack([starts[held], ends[held]], axis=1).ravel()]
    return _Ranking(order, edges.astype(np.int32), order[at], groups.astype(np.int32))


def _measure_class(ranking: _Ranking, weight_NB: Tensor) -> tuple[Floats, Floats]:
    """(ap_B, auc_B) of one class that has a positive."""
    edge_EB = _sums(ranking.order, ranking.edges, weight_NB).cumsum(0).numpy()
    before_GB, through_GB, all_B = edge_EB[:-1:2], edge_EB[1::2], edge_EB[-1]
    summed_GB = _sums(ranking.positives, ranking.groups, weight_NB)
    hits_GB, positive_GB = summed_GB.cumsum(0).numpy(), summed_GB.numpy()
    all_positive_B = hits_GB[-1]
    all_negative_B = all_B - all_positive_B
    # AP = sum over thresholds of (recall gained) * precision.
    precision_GB = np.divide(hits_GB, through_GB, out=np.zeros_like(hits_GB), where=through_GB > 0)
    # AUC = 1 - share of (positive, negative) pairs in the wrong order, ties counting half.
    negative_before_GB = before_GB - (hits_GB - positive_GB)
    negative_tied_GB = through_GB - before_GB - positive_GB
    wrong_B = (positive_GB * (negative_before_GB + 0.5 * negative_tied_GB)).sum(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        ap_B = np.where(all_positive_B > 0, (positive_GB * precision_GB).sum(0) / all_positive_B, np.nan)
        pairs_B = all_positive_B * all_negative_B
        auc_B = np.where(pairs_B > 0, 1 - wrong_B / pairs_B, np.nan)
    return ap_B, auc_B


def _sums(clips: NDArray[np.int32], offsets: NDArray[np.int32], weight_NB: Tensor) -> Tensor:
    """[len(offsets), B] float64: the weights of `clips`, summed over the runs that begin at `offsets`.

    torch's embedding bag does in 1.5 ms what `np.add.reduceat` does in 50 (20,000 clips, 1,000 resamples).
    """
    import torch
    import torch.nn.functional as F

    return F.embedding_bag(torch.from_numpy(clips), weight_NB, torch.from_numpy(offsets), mode="sum").double()


def _exact(weight: ArrayLike) -> Floats:
    """The weights in the fastest type that sums them without error: float32 holds whole numbers up to 2 ** 24."""
    weight = np.asarray(weight)
    whole = np.array_equal(weight, np.rint(weight)) and (weight.size == 0 or weight.sum(0).max() < 2**24)
    return np.ascontiguousarray(weight, np.float32 if whole else np.float64)


def average_precision(target_NC: ArrayLike, score_NC: ArrayLike, weight_N: ArrayLike | None = None) -> Floats:
    """[C] average precision, exact with ties; NaN for classes without positives. See `Rankings.measure`."""
    ap_C: Floats = Rankings(target_NC, score_NC).measure(_column(weight_N, len(np.asarray(target_NC))))[0][0]
    return ap_C


def auc(target_NC: ArrayLike, score_NC: ArrayLike, weight_N: ArrayLike | None = None) -> Floats:
    """[C] area under the ROC curve, ties counting half; NaN for classes without positives or negatives."""
    auc_C: Floats = Rankings(target_NC, score_NC).measure(_column(weight_N, len(np.asarray(target_NC))))[1][0]
    return auc_C


def _column(weight_N: ArrayLike | None, clips: int) -> Floats:
    return np.ones((clips, 1)) if weight_N is None else np.asarray(weight_N, np.float64)[:, None]


def macro(value_BC: Floats) -> Floats:
    """[B] mean over the classes that have a value; NaN where none has (docs/protocols.md, rule 4)."""
    known = ~np.isnan(value_BC)
    with np.errstate(invalid="ignore"):
        mean_B: Floats = np.where(known, value_BC, 0).sum(-1) / known.sum(-1)
    return mean_B


def dprime(auc: ArrayLike) -> Floats:
    """d' = sqrt(2) * inverse normal CDF of an AUC, the mean one (AST `stats.py`) or each class's; see `AUC_LIMIT`."""
    from scipy.special import ndtri  # tables, which import this file, do without

    found: Floats = math.sqrt(2) * ndtri(np.clip(auc, AUC_LIMIT, 1 - AUC_LIMIT))
    return found


def label_precision(target_NC: ArrayLike, score_NC: ArrayLike, block: int = 4096) -> tuple[Floats, Floats]:
    """What lwlrap is made of: for each clip, precision at the rank of each of its labels.

    lwlrap = sum of `precision_N` / sum of `labels_N`, each label of the split counting the same. It is scikit-learn's
    `label_ranking_average_precision_score` with the number of labels as `sample_weight`.

    Returns:
        (precision_N, labels_N): the sum over the clip's labels, and their number; both 0 for a clip without labels.
    """
    target_NC, score_NC = np.asarray(target_NC) > 0, np.asarray(score_NC)
    precision_N = np.zeros(len(target_NC))
    clip_L, label_L = np.nonzero(target_NC)
    for start in range(0, len(clip_L), block):
        clip, label = clip_L[start : start + block], label_L[start : start + block]
        above = score_NC[clip] >= score_NC[clip, label][:, None]
        precision = (above & target_NC[clip]).sum(1) / above.sum(1)
        precision_N += np.bincount(clip, precision, minlength=len(target_NC))
    return precision_N, target_NC.sum(1).astype(np.float64)


def random_average_precision(positives: ArrayLike, total: ArrayLike) -> Floats:
    """Expected average precision when `total` items, `positives` of them right, stand in random order; NaN without any.

    The k-th place holds a positive with probability P / N, and then (P - 1) / (N - 1) of the k - 1 before it are
    positives: E[AP] = 1/N sum_k (1 + (k - 1) (P - 1) / (N - 1)) / k. It tends to the prevalence P / N for large N, and
    is far above it for the few clips of a small split.
    """
    positives, total = np.broadcast_arrays(np.asarray(positives, np.float64), np.asarray(total, np.float64))
    harmonic = np.vectorize(lambda n: np.sum(1 / np.arange(1, int(n) + 1)), otypes=[float])(total)
    others = (positives - 1) / np.maximum(total - 1, 1)
    expected = (harmonic + others * (total - harmonic)) / np.maximum(total, 1)
    return np.where(positives > 0, expected, np.nan)


def class_ranks(target_N: ArrayLike, score_NC: ArrayLike) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """How many classes score above the right one, and how many the same as it, itself included: ([N], [N])."""
    score_NC = np.asarray(score_NC)
    right_N1 = np.take_along_axis(score_NC, np.asarray(target_N)[:, None], axis=1)
    return (score_NC > right_N1).sum(1), (score_NC == right_N1).sum(1)


def top_k(target_N: ArrayLike, score_NC: ArrayLike, k: int) -> Floats:
    """[N] the chance that the right class is among the `k` best, tied classes being in random order.

    It is 0 or 1 without ties. torchmetrics takes the first of tied classes, which gives a constant scorer all of
    class 0; here it gets k / C of every class.
    """
    above_N, tied_N = class_ranks(target_N, score_NC)
    return np.clip((k - above_N) / tied_N, 0, 1)


def reciprocal_rank(target_N: ArrayLike, score_NC: ArrayLike, k: int) -> Floats:
    """[N] 1 / rank of the right class where it is among the `k` best, else 0: the average precision at `k` of a clip
    with one class. Of tied classes in random order, what is expected.
    """
    above_N, tied_N = class_ranks(target_N, score_NC)
    sums = np.r_[0, np.cumsum(1 / np.arange(1, k + 1))]
    found: Floats = (sums[np.minimum(above_N + tied_N, k)] - sums[np.minimum(above_N, k)]) / tied_N
    return found


def resamples(n: int, count: int = RESAMPLES, seed: int = 0, block: int = BLOCK) -> Iterator[NDArray[np.float32]]:
    """Bootstrap resamples of n clips as counts, in blocks [n, <= block]; the same for the same (n, count, seed)."""
    rng = np.random.default_rng(seed)
    for start in range(0, count, block):
        columns = [np.bincount(rng.integers(n, size=n), minlength=n) for _ in range(min(block, count - start))]
        yield np.ascontiguousarray(np.stack(columns).T, dtype=np.float32)


def interval(values: ArrayLike, value: float) -> tuple[float, float]:
    """The percentile bootstrap interval: the middle `CONFIDENCE` of the resamples' values, and always the value itself.

    For means and medians over clips. NaN resamples are left out.
    """
    low, high = _middle(values)
    return min(low, value), max(high, value)


def unbiased_interval(values: ArrayLike, value: float) -> tuple[float, float]:
    """The percentile interval moved by twice the bootstrap's bias; it always holds the value itself too.

    For rankings. A clip that is drawn twice ranks beside itself, so that average precision is higher on resamples
    than on the clips they come from, as it is higher on the clips than on all clips there are. The plain percentile
    interval then misses: simulated (2,000 clips, 10 classes, 2 % positives) it held the true mAP in 75 % of trials,
    this one in 93 %.
    """
    low, high = _middle(values)
    shift = 2 * (float(np.nanmean(np.asarray(values))) - value)
    return min(low - shift, value), max(high - shift, value)


def _middle(values: ArrayLike) -> tuple[float, float]:
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.nanpercentile(np.asarray(values), [tail, 100 - tail])
    return float(low), float(high)


def bootstrap(
    statistic: Callable[[Floats], dict[str, Floats]],
    n: int,
    interval: Callable[[Floats, float], tuple[float, float]] = interval,
    count: int = RESAMPLES,
) -> dict[str, tuple[float, float, float]]:
    """The value and its interval for every number of a statistic of n clips.

    Args:
        statistic: weights [n, B] -> name -> [B].
        interval: (the resamples' values, the value) -> (low, high).

    Returns:
        name -> (value, low, high): with weight 1 for every clip, and over `count` resamples of the clips.
    """
    blocks = [statistic(weight_NB) for weight_NB in resamples(n, count)]
    values = {name: float(value_1[0]) for name, value_1 in statistic(np.ones((n, 1), np.float32)).items()}
    return {
        name: (value, *interval(np.concatenate([block[name] for block in blocks]), value))
        for name, value in values.items()
    }
