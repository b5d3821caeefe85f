"""Ranks of retrieval: exact, streamed, in any number of clips.

A similarity is the float64 sum, always in the same order, of the products of two float32 vectors (which are exact).
Ranks are those of these similarities, whatever the machine, its threads and the sizes of the blocks: quick products
of low precision, with a bound on their error, separate most rivals from the right item; the similarities themselves
are computed for the few pairs that are left.

Suffixes: Q queries, N items of the gallery, U distinct ones, V videos, P pairs, D dimensions; b, t a block's.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from bench.tasks.ties import Ranks
from datamodules.types import Similarity

Floats = NDArray[np.floating]
Vectors = NDArray[np.float32]
Places = NDArray[np.intp]
T = TypeVar("T")

QUERIES, ITEMS = 512, 8192
"""A tile of products: it is counted while it is still in the cache."""
ROWS, PAIRS = 4096, 512
"""Vectors and pairs that are in float64 at a time."""
CROWDED = 1 / 128
"""Where products of one precision leave more of the gallery than this undecided, the next precision is cheaper than
computing the similarities one by one."""
WORK = 2**34
"""Multiplications from which on it pays to try bfloat16; they take float32 about 0.2 s."""


def retrieval_ranks(
    query_QD: ArrayLike,
    gallery_ND: ArrayLike,
    query_group_Q: ArrayLike | None = None,
    gallery_group_N: ArrayLike | None = None,
    similarity: Similarity = "cosine",
) -> Ranks:
    """How many items stand before each query's best right one, and how many beside it.

    Equal vectors tie exactly, and so do a vector and its multiples by cosine. A zero vector has similarity 0 to all.

    Args:
        query_QD: [Q, D] finite; rounded to float32, for cosine after they got length 1.
        gallery_ND: [N, D] finite, likewise.
        query_group_Q: [Q] what each query asks for; None: query i asks for group i.
        gallery_group_N: [N] the group of each item: the items of a query's group are the right ones. None: item i is
            group i.
        similarity: `cosine`, or `dot` for the vectors as they are.

    Raises:
        ValueError: on shapes that do not fit, numbers that are not finite in float32, and a query whose group is not in
            the gallery.
    """
    query_QD, gallery_ND = comparable(query_QD, similarity), comparable(gallery_ND, similarity)
    _require_fit(query_QD, gallery_ND)
    query_P, item_P, size_Q = _right_pairs(
        np.arange(len(query_QD)) if query_group_Q is None else np.asarray(query_group_Q),
        np.arange(len(gallery_ND)) if gallery_group_N is None else np.asarray(gallery_group_N),
    )
    if len(size_Q) != len(query_QD):
        raise ValueError(f"{len(size_Q)} groups for {len(query_QD)} queries")
    first_Q = size_Q.cumsum() - size_Q
    right_P = _similarities(query_QD, gallery_ND, query_P, item_P)
    best_Q = np.maximum.reduceat(right_P, first_Q)
    right_Q = np.add.reduceat(right_P == best_Q[query_P], first_Q, dtype=np.intp)
    work = len(query_QD) * gallery_ND.size
    precisions = PRECISIONS if work >= WORK and _bfloat16_is_quicker() else PRECISIONS[1:]
    above_Q, tied_Q = _above_and_tied(query_QD, gallery_ND, best_Q, precisions)
    return Ranks(above_Q, tied_Q - right_Q, right_Q)


def video_ranks(
    query_ND: ArrayLike,
    gallery_ND: ArrayLike,
    group_N: ArrayLike,
    similarity: Similarity = "cosine",
    block_bytes: int = 1 << 28,
) -> Ranks:
    """The rank of each video's own clips among all videos, by MCN's caption average (its `video_evaluation.py`).

    A query video scores a gallery video by the mean, over the rows of the first, of the greatest similarity to a row
    of the second.

    Args:
        query_ND: [N, D], e.g. captions.
        gallery_ND: [N, D], e.g. clips.
        group_N: [N] the video of each row of both.
        similarity: see `retrieval_ranks`.
        block_bytes: memory for similarities; one video's rows against the whole gallery are the least.

    Returns:
        [V] each, by the videos' sorted names.

    Raises:
        ValueError: on shapes that do not fit, and numbers that are not finite in float32.
    """
    query_ND, gallery_ND = comparable(query_ND, similarity), comparable(gallery_ND, similarity)
    _require_fit(query_ND, gallery_ND)
    _, video_N, size_V = np.unique(np.asarray(group_N), return_inverse=True, return_counts=True)
    if not len(query_ND) == len(gallery_ND) == len(video_N):
        raise ValueError(f"{len(query_ND)} queries, {len(gallery_ND)} items and {len(video_N)} groups; one row each")
    order_N = np.argsort(video_N, kind="stable")
    begin_V = size_V.cumsum() - size_V
    # Each distinct vector is compared once, so that equal ones tie exactly.
    distinct_UD, place_N, _ = distinct(gallery_ND[order_N])
    distinct_UD = distinct_UD.astype(np.float64)
    above_V, tied_V = np.empty(len(size_V), np.intp), np.empty(len(size_V), np.intp)
    rows = max(1, block_bytes // (16 * len(order_N)))
    first = 0
    while first < len(size_V):
        last = max(first + 1, int(np.searchsorted(begin_V + size_V, begin_V[first] + rows, side="right")))
        begin_v = begin_V[first:last]
        query_bD = query_ND[order_N[begin_v[0] : begin_v[-1] + size_V[last - 1]]].astype(np.float64)
        best_bV = np.maximum.reduceat((query_bD @ distinct_UD.T)[:, place_N], begin_V, axis=1)
        score_vV = np.add.reduceat(best_bV, begin_v - begin_v[0], axis=0)
        own_v1 = np.take_along_axis(score_vV, np.arange(first, last)[:, None], axis=1)
        above_V[first:last], tied_V[first:last] = (score_vV > own_v1).sum(1), (score_vV == own_v1).sum(1)
        first = last
    return Ranks(above_V, tied_V - 1, np.ones_like(tied_V))


def comparable(x_ND: ArrayLike, similarity: Similarity) -> Vectors:
    """The embeddings in the precision in which they are compared.

    Raises:
        ValueError: where they are not finite in it. Comparisons with NaN are false, and would make every rank the best.
    """
    x_ND = np.asarray(x_ND)
    if x_ND.ndim != 2:
        raise ValueError(f"embeddings {x_ND.shape} must be [N, D]")
    with np.errstate(over="ignore", invalid="ignore"):
        out_ND = _normalised(x_ND) if similarity == "cosine" else np.ascontiguousarray(x_ND, np.float32)
    for block in _blocks(len(out_ND), ROWS):
        bad_b = ~np.isfinite(out_ND[block]).all(1)
        if bad_b.any():
            row = block.start + int(bad_b.argmax())
            raise ValueError(f"embedding {row} of {len(out_ND)} is NaN or beyond float32 (scaling all changes no rank)")
    return out_ND


def _require_fit(query_QD: Vectors, gallery_ND: Vectors) -> None:
    if query_QD.shape[1] != gallery_ND.shape[1]:
        raise ValueError(f"query {query_QD.shape} and gallery {gallery_ND.shape} must be [Q, D] and [N, D]")


def _blocks(n: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, n)) for start in range(0, n, size))


def _normalised(x_ND: NDArray[Any]) -> Vectors:
    """Rows of length 1, rounded once to float32, so that multiples of a vector become equal to it."""
    out_ND = np.empty(x_ND.shape, np.float32)
    for block in _blocks(len(x_ND), ROWS):
        row_bD = x_ND[block].astype(np.float64)
        # By powers of two, which changes no digit: squares of very large numbers would overflow, of small ones vanish.
        row_bD = np.ldexp(row_bD, -np.frexp(np.abs(row_bD).max(axis=1, keepdims=True, initial=0))[1])
        length_b1 = np.linalg.norm(row_bD, axis=1, keepdims=True)
        out_ND[block] = row_bD / np.where(length_b1 > 0, length_b1, 1) + 0.0  # + 0.0: -0.0 becomes 0.0
    return out_ND


def distinct(x_ND: Vectors) -> tuple[Vectors, Places, Places]:
    """Distinct rows [U, D] in order of first appearance, [N] the place of each row among them, [U] how often."""
    places: dict[bytes, int] = {}
    place_N = np.fromiter((places.setdefault(row.tobytes(), len(places)) for row in x_ND), np.intp, len(x_ND))
    first_U = np.unique(place_N, return_index=True)[1]
    distinct_UD = x_ND if len(first_U) == len(x_ND) else x_ND[first_U]
    return distinct_UD, place_N, np.bincount(place_N, minlength=len(first_U))


def _right_pairs(query_group_Q: NDArray[Any], gallery_group_N: NDArray[Any]) -> tuple[Places, Places, Places]:
    """Each query with each right item, query by query: ([P] query, [P] item, [Q] how many are right)."""
    groups, group_N, size_G = np.unique(gallery_group_N, return_inverse=True, return_counts=True)
    group_Q = np.minimum(np.searchsorted(groups, query_group_Q), len(groups) - 1)
    if len(absent := np.asarray(query_group_Q)[groups[group_Q] != query_group_Q]):
        raise ValueError(f"the gallery of {len(gallery_group_N)} has nothing of group {absent[0]}, which is asked for")
    size_Q = size_G[group_Q]
    query_P = np.repeat(np.arange(len(size_Q)), size_Q)
    nth_P = np.arange(len(query_P)) - np.repeat(size_Q.cumsum() - size_Q, size_Q)
    item_P = np.argsort(group_N, kind="stable")[(size_G.cumsum() - size_G)[group_Q][query_P] + nth_P]
    return query_P, item_P, size_Q


def _similarities(query_QD: Vectors, gallery_ND: Vectors, query_P: Places, item_P: Places) -> Floats:
    """[P] float64. numpy sums a row of contiguous numbers in an order that depends on nothing but its length."""
    out_P = np.empty(len(query_P))
    for block in _blocks(len(query_P), PAIRS):
        product_bD = query_QD[query_P[block]].astype(np.float64)
        product_bD *= gallery_ND[item_P[block]]
        out_P[block] = product_bD.sum(1)
    return out_P


class Precision(NamedTuple):
    """How products are computed, and how numpy can compare them."""

    held: torch.dtype
    summed: torch.dtype
    """Or better."""
    compared: type[np.number]
    """bfloat16 is compared by its bits: above zero, they are in the order of the numbers."""


PRECISIONS = (
    Precision(torch.bfloat16, torch.float32, np.int16),
    Precision(torch.float32, torch.float32, np.float32),
    Precision(torch.float64, torch.float64, np.float64),
)


@functools.cache
def _bfloat16_is_quicker() -> bool:
    """Whether bfloat16 products take this machine less than two thirds of the time of float32 ones, by a short trial.

    It decides how long ranks take, not what they are. Without instructions of its own bfloat16 is far slower.
    """
    rng = np.random.default_rng(0)
    query_QD, gallery_ND = (rng.standard_normal((n, 512), np.float32) for n in (QUERIES, ITEMS // 4))
    seconds = []
    for precision in PRECISIONS[:2]:
        products = _Products(gallery_ND, precision)
        aim = products.aim(query_QD, np.zeros(QUERIES))
        trials = []
        for _ in range(4):
            began = time.perf_counter()
            products.tile(aim, slice(0, len(gallery_ND)))
            trials.append(time.perf_counter() - began)
        seconds.append(min(trials))
    return seconds[0] < seconds[1] / 1.5


class _Aim(NamedTuple):
    """A block of queries."""

    query_bD: torch.Tensor
    low_b1: NDArray[np.number]
    high_b1: NDArray[np.number]
    """The band of each, both ends inside, as `_Products.tile` is compared."""
    usable_b: NDArray[np.bool_]
    """Whether it can be compared."""
    room: torch.Tensor
    """For a tile of products."""


class _Products:
    """Products of a block of queries with the gallery in some precision, and a band around each query's right
    similarity outside of which they are sure to be on the same side of it as the similarities are.

    Queries q and items g are scaled by powers of two, which changes no order, to lengths below 1, and rounded to q~ and
    g~. A product is off by at most
        |q g - q~ g~| + gamma |q~| |g~|  <=  |q - q~| + |q~| e + gamma |q~| (1 + e),   e = the greatest |g - g~|,
    by Cauchy and Schwarz, where gamma = D eps / (1 - D eps) bounds the error of a sum of D products in any order, with
    eps twice the unit roundoff, so that also sums of chopped numbers, and numbers too small for the type, are within.
    The similarity itself is a float64 sum, off by at most its own gamma. The edges of the band are then moved outward
    by one number of the type: a result that is rounded to either neighbour cannot jump over a number of its own type.
    """

    def __init__(self, gallery_UD: Vectors, precision: Precision):
        self.precision = precision
        self._exponent = int(np.frexp(_lengths(gallery_UD).max(initial=0))[1])
        self._gallery_UD, error_U = _rounded(gallery_UD, np.full(len(gallery_UD), self._exponent), precision.held)
        self._error = error_U.max(initial=0)

    def aim(self, query_bD: Vectors, right_b: Floats) -> _Aim:
        """What some queries are compared with, whose similarity to their right items is `right_b`."""
        exponent_b = np.frexp(_lengths(query_bD))[1]
        rounded_bD, error_b = _rounded(query_bD, exponent_b, self.precision.held)
        summing, exact = (_gamma(query_bD.shape[1], dtype) for dtype in (self.precision.summed, torch.float64))
        off_b = error_b + (1 + error_b) * (self._error + summing * (1 + self._error)) + exact
        off_b *= 1 + 2**-20  # the errors were themselves computed in float64
        right_b = np.ldexp(right_b, -(exponent_b + self._exponent))
        low_b, high_b = right_b - off_b, right_b + off_b
        if self.precision.held == torch.bfloat16:
            low_b, high_b = (torch.from_numpy(x_b).bfloat16().view(torch.int16).numpy() for x_b in (low_b, high_b))
            usable_b = low_b > 0
            low_b, high_b = low_b - usable_b, high_b + np.int16(1)
        else:
            low_b, high_b = low_b.astype(self.precision.compared), high_b.astype(self.precision.compared)
            low_b, high_b = np.nextafter(low_b, -np.inf), np.nextafter(high_b, np.inf)
            usable_b = np.full(len(low_b), True)
        low_b1 = low_b[:, None].astype(self.precision.compared)
        room = torch.empty(len(query_bD) * min(ITEMS, len(self._gallery_UD)), dtype=self.precision.held)
        return _Aim(rounded_bD, low_b1, high_b[:, None], usable_b, room)

    def tile(self, aim: _Aim, items: slice) -> NDArray[np.number]:
        """[b, t] products of the queries with some of the gallery; good until the next call."""
        gallery_tD = self._gallery_UD[items]
        tile_bt = aim.room[: len(aim.query_bD) * len(gallery_tD)].view(len(aim.query_bD), -1)
        if self.precision.held == torch.bfloat16:
            torch.mm(aim.query_bD, gallery_tD.T, out=tile_bt)
            return tile_bt.view(torch.int16).numpy()
        # By numpy: torch may be set to use less than float32 (`torch.set_float32_matmul_precision`).
        return np.matmul(aim.query_bD.numpy(), gallery_tD.numpy().T, out=tile_bt.numpy())


def _gamma(terms: int, dtype: torch.dtype) -> float:
    return terms * torch.finfo(dtype).eps / (1 - terms * torch.finfo(dtype).eps)


def _lengths(x_ND: Vectors) -> Floats:
    length_N = np.empty(len(x_ND))
    for block in _blocks(len(x_ND), ROWS):
        length_N[block] = np.linalg.norm(x_ND[block].astype(np.float64), axis=1)
    return length_N


def _rounded(x_ND: Vectors, exponent_N: NDArray[np.integer], dtype: torch.dtype) -> tuple[torch.Tensor, Floats]:
    """Rows divided by 2 ** exponent and rounded; [N] how long the difference is."""
    out_ND, error_N = torch.empty(x_ND.shape, dtype=dtype), np.empty(len(x_ND))
    for block in _blocks(len(x_ND), ROWS):
        scaled_bD = np.ldexp(x_ND[block].astype(np.float64), -exponent_N[block, None])
        out_ND[block] = torch.from_numpy(scaled_bD).to(dtype)
        error_N[block] = np.linalg.norm(out_ND[block].double().numpy() - scaled_bD, axis=1)
    return out_ND, error_N


def _above_and_tied(
    query_QD: Vectors, gallery_ND: Vectors, right_Q: Floats, precisions: Sequence[Precision]
) -> tuple[Places, Places]:
    """How many of the gallery are more similar to each query than `right_Q`, and how many just as similar.

    Every precision decides the queries that it can; the last one all that are left. Untrained embeddings, which are all
    alike, need the later ones.
    """
    distinct_UD, _, count_U = distinct(gallery_ND)
    above_Q = np.zeros(len(query_QD), np.intp)
    tied_Q = np.full(len(query_QD), len(gallery_ND))  # a zero query is as similar to all
    left_Q = np.flatnonzero(query_QD.any(1))
    for precision in precisions:
        if not len(left_Q):
            break
        products = _Products(distinct_UD, precision)
        limit = len(count_U) if precision is precisions[-1] else CROWDED * len(count_U)
        blocks = [left_Q[block] for block in _blocks(len(left_Q), QUERIES)]
        tally = functools.partial(_tally, query_QD, distinct_UD, count_U, right_Q, products, limit)
        above_Q[left_Q], tied_Q[left_Q], crowded_Q = map(
            np.concatenate, zip(*_on_all_threads(tally, blocks), strict=True)
        )
        left_Q = left_Q[crowded_Q]
    return above_Q, tied_Q


def _on_all_threads(work: Callable[[Places], T], blocks: Sequence[Places]) -> list[T]:
    """A block a thread: numpy counts on one thread, and so both products and counting keep all of them busy."""
    threads = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return list(pool.map(work, blocks))
    finally:
        torch.set_num_threads(threads)  # new threads would get what was set last


def _tally(
    query_QD: Vectors,
    gallery_UD: Vectors,
    count_U: Places,
    right_Q: Floats,
    products: _Products,
    limit: float,
    place_b: Places,
) -> tuple[Places, Places, NDArray[np.bool_]]:
    """[b] above and tied of some queries, each item counted `count_U` times; [b] whether more than `limit` items lie in
    the band, which leaves the other two unfinished."""
    query_bD, right_b = query_QD[place_b], right_Q[place_b]
    aim = products.aim(query_bD, right_b)
    above_b, tied_b, held_b = (np.zeros(len(query_bD), np.intp) for _ in range(3))
    crowded_b = ~aim.usable_b
    for items in _blocks(len(gallery_UD), ITEMS):
        tile_bt = products.tile(aim, items)
        sure_bt = tile_bt > aim.high_b1
        above_b += _count(sure_bt, count_U[items])
        row_P, item_P = np.divmod(np.flatnonzero((tile_bt >= aim.low_b1) ^ sure_bt), tile_bt.shape[1])
        held_b += np.bincount(row_P, minlength=len(query_bD))
        crowded_b |= held_b > limit
        open_P = ~crowded_b[row_P]
        row_P, item_P = row_P[open_P], item_P[open_P] + items.start
        similarity_P = _similarities(query_bD, gallery_UD, row_P, item_P)
        for total_b, counted_P in ((above_b, similarity_P > right_b[row_P]), (tied_b, similarity_P == right_b[row_P])):
            np.add.at(total_b, row_P[counted_P], count_U[item_P[counted_P]])
    return above_b, tied_b, crowded_b


def _count(mask_bt: NDArray[np.bool_], count_t: Places) -> Places:
    """[b] how many items a row's mask holds, each `count_t` times. Most occur once, and counting is fast."""
    total_b = np.fromiter(map(np.count_nonzero, mask_bt), np.intp, len(mask_bt))
    if len(repeated := np.flatnonzero(count_t > 1)):
        total_b += (mask_bt[:, repeated] @ (count_t[repeated] - 1.0)).astype(np.intp)
    return total_b
