"""Retrieval: ranks against sorting, the authors' numbers and brute force; every precision of the products is exact."""

from __future__ import annotations

import itertools
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import rankdata

from bench.tasks import EvaluationError, Predictions, evaluate, metrics, statistic
from bench.tasks import ranks as ranking
from bench.tasks import retrieval as task
from tests.bench.made_up import board, predictions, values

GOLDEN = json.loads((Path(__file__).parent.parent / "golden" / "retrieval.json").read_text(encoding="utf-8"))
BFLOAT16, FLOAT32, FLOAT64 = ranking.PRECISIONS


def ranks_of(*arguments: object, **options: object) -> np.ndarray:
    return ranking.retrieval_ranks(*arguments, **options).averaged


# Ranks.

# Signs of +-1 in 4 dimensions have length 2, so that all cosines are exact and ties are real ones.
SIGNS = st.integers(1, 12).flatmap(lambda n: hnp.arrays(np.float32, (n, 4), elements=st.sampled_from([-1.0, 1.0])))


@settings(max_examples=60)
@given(query=SIGNS, gallery=SIGNS, data=st.data())
def test_ranks_equal_scipys_averaged_ranks(query, gallery, data) -> None:
    target = data.draw(hnp.arrays(np.int64, len(query), elements=st.integers(0, len(gallery) - 1)))
    similarity = query @ gallery.T
    expected = [rankdata(-row)[own] - 1 for row, own in zip(similarity, target, strict=True)]
    for kind in ("cosine", "dot"):
        np.testing.assert_array_equal(ranks_of(query, gallery, target, similarity=kind), expected)


@settings(max_examples=60)
@given(query=SIGNS, gallery=SIGNS, data=st.data())
def test_rank_with_several_right_items_is_the_mean_over_all_orders_of_tied_ones(query, gallery, data) -> None:
    gallery = gallery[:6]
    group_N = data.draw(hnp.arrays(np.int64, len(gallery), elements=st.integers(0, 2)))
    group_Q = data.draw(hnp.arrays(np.int64, len(query), elements=st.sampled_from(sorted(set(group_N)))))
    found = ranks_of(query, gallery, group_Q, group_N, "dot")
    for row, group, rank in zip(query @ gallery.T, group_Q, found, strict=True):
        firsts = []
        for order in itertools.permutations(range(len(gallery))):
            places = sorted(order, key=lambda item: -row[item])  # stable: tied items stay in this order
            firsts.append(next(i for i, item in enumerate(places) if group_N[item] == group))
        assert rank == pytest.approx(np.mean(firsts), abs=1e-12)


def test_equal_vectors_tie_exactly_wherever_they_stand() -> None:
    rng = np.random.default_rng(0)
    copies, n = 37, 1003
    gallery_ND = rng.normal(size=(n, 67)).astype(np.float32)
    places = rng.choice(n, copies, replace=False)
    gallery_ND[places] = gallery_ND[places[0]] * rng.choice([0.5, 1, 4], (copies, 1))
    rank_Q = ranks_of(gallery_ND[places], gallery_ND, places)
    np.testing.assert_array_equal(rank_Q, (copies - 1) / 2)


def test_ranks_of_random_embeddings_equal_sorting_in_float64() -> None:
    rng = np.random.default_rng(1)
    query, gallery = rng.normal(size=(300, 16)), rng.normal(size=(200, 16))
    target = rng.integers(200, size=300)
    for kind, length in (("cosine", np.linalg.norm(gallery, axis=1)), ("dot", 1)):
        similarity = query @ gallery.T / length
        expected = [np.flatnonzero(np.argsort(-row) == own)[0] for row, own in zip(similarity, target, strict=True)]
        np.testing.assert_array_equal(ranks_of(query, gallery, target, similarity=kind), expected)


def test_goldens_of_ranks_perfect_reversed_constant_and_zero() -> None:
    for query, gallery, rank in (
        (np.eye(5), np.eye(5), 0),
        (-np.eye(5), np.eye(5), 4),
        (np.ones((5, 3)), np.ones((5, 3)), 2),
        (np.eye(4), np.zeros((4, 4)), 1.5),
        (np.zeros((4, 4)), np.eye(4), 1.5),
    ):
        for kind in ("cosine", "dot"):
            np.testing.assert_array_equal(ranks_of(query, gallery, similarity=kind), rank)


def test_what_does_not_fit_is_refused() -> None:
    for group in ([0, 5], [0, -1]):
        with pytest.raises(ValueError, match="nothing of group"):
            ranking.retrieval_ranks(np.eye(2, 3), np.eye(5, 3), np.array(group))
    with pytest.raises(ValueError, match="1 groups for 2 queries"):
        ranking.retrieval_ranks(np.eye(2, 3), np.eye(5, 3), np.array([0]))
    with pytest.raises(ValueError, match="must be"):
        ranking.retrieval_ranks(np.eye(2, 3), np.eye(5, 4))


# Precisions: whatever is decided by a product of low precision is as the similarities say.


def plain(query_QD: np.ndarray, gallery_ND: np.ndarray, right_Q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    similarity_QN = np.stack([(gallery_ND.astype(np.float64) * row).sum(1) for row in query_QD])
    return (similarity_QN > right_Q[:, None]).sum(1), (similarity_QN == right_Q[:, None]).sum(1)


VALUES = st.sampled_from([0.0, 1.0, -1.0, 1.0 + 2**-23, 1.0 + 2**-9, 0.3, 1e-3, 7.0])
LENGTHS = st.sampled_from([1.0, 1.0, 3.0, 1e-42, 1e-20, 1e15, 1e37])


@st.composite
def hard_vectors(draw, rows: int, dims: int) -> np.ndarray:
    """Few values, so that ties and near ties abound; all lengths that float32 has; rows that occur again."""
    x_ND = draw(hnp.arrays(np.float64, (rows, dims), elements=VALUES))
    x_ND = x_ND * draw(hnp.arrays(np.float64, (rows, 1), elements=LENGTHS))
    return x_ND[draw(hnp.arrays(np.int64, rows, elements=st.integers(0, rows - 1)))].astype(np.float32)


@pytest.mark.parametrize("crowded", [2.0, 0.1])
@pytest.mark.parametrize("precision", ranking.PRECISIONS, ids=["bfloat16", "float32", "float64"])
def test_every_precision_counts_as_the_similarities_say(precision, crowded: float, monkeypatch) -> None:
    monkeypatch.setattr(ranking, "CROWDED", crowded)
    monkeypatch.setattr(ranking, "QUERIES", 3)  # so that several tiles are needed
    monkeypatch.setattr(ranking, "ITEMS", 5)

    @settings(max_examples=150)
    @given(query=hard_vectors(5, 6), gallery=hard_vectors(12, 6), data=st.data())
    def check(query, gallery, data) -> None:
        target = np.array(data.draw(st.lists(st.integers(0, 11), min_size=5, max_size=5)))
        right = ranking._similarities(query, gallery, np.arange(5), target)
        found = ranking._above_and_tied(query, gallery, right, [precision, FLOAT64])
        np.testing.assert_array_equal(found, plain(query, gallery, right))

    check()


@pytest.mark.parametrize("spread", [1.0, 1e-3, 1e-6])
def test_low_precision_decides_most_and_leaves_nothing_wrong(spread: float, monkeypatch) -> None:
    """Trained embeddings, and such as an untrained model gives, which are all alike."""
    rng = np.random.default_rng(3)
    mean = 0 if spread == 1 else rng.normal(size=48)
    gallery = ranking._normalised(mean + spread * rng.normal(size=(700, 48)))
    query = ranking._normalised(gallery + 0.5 * spread * rng.normal(size=(700, 48)) / (1 if spread == 1 else 7))
    right = ranking._similarities(query, gallery, np.arange(700), np.arange(700))
    computed = []
    similarities = ranking._similarities
    monkeypatch.setattr(ranking, "_similarities", lambda *x: computed.append(len(x[2])) or similarities(*x))
    found = ranking._above_and_tied(query, gallery, right, ranking.PRECISIONS)
    np.testing.assert_array_equal(found, plain(query, gallery, right))
    assert sum(computed) < 0.03 * 700 * 700


def test_ranks_do_not_depend_on_how_precise_torchs_float32_products_are() -> None:
    rng = np.random.default_rng(4)
    gallery = rng.normal(size=(600, 64)).astype(np.float32)
    query = gallery + 2 * rng.normal(size=gallery.shape).astype(np.float32)
    before = ranking.retrieval_ranks(query, gallery)
    try:
        torch.set_float32_matmul_precision("medium")
        np.testing.assert_array_equal(ranking.retrieval_ranks(query, gallery), before)
    finally:
        torch.set_float32_matmul_precision("highest")


def test_bands_hold_the_products() -> None:
    """The bound itself: no product is off by more than the band says."""
    rng = np.random.default_rng(5)
    query, gallery = (rng.normal(size=(64, 300)).astype(np.float32) for _ in range(2))
    exact = query.astype(np.float64) @ gallery.T.astype(np.float64)
    for precision in ranking.PRECISIONS:
        products = ranking._Products(gallery, precision)
        for item in range(64):
            aim = products.aim(query, exact[:, item])
            found = products.tile(aim, slice(0, 64))[:, [item]]
            assert ((aim.low_b1 <= found) & (found <= aim.high_b1))[aim.usable_b].all()
            assert aim.usable_b.any()


def test_threads_change_neither_ranks_nor_how_many_there_are(monkeypatch) -> None:
    monkeypatch.setattr(ranking, "QUERIES", 16)
    rng = np.random.default_rng(10)
    query, gallery = rng.normal(size=(200, 8)), rng.normal(size=(200, 8))
    before = torch.get_num_threads()
    alone = ranking.retrieval_ranks(query, gallery)
    try:
        torch.set_num_threads(3)
        np.testing.assert_array_equal(ranking.retrieval_ranks(query, gallery), alone)
        assert torch.get_num_threads() == 3
        with ThreadPoolExecutor(1) as another:
            assert another.submit(torch.get_num_threads).result() == 3
    finally:
        torch.set_num_threads(before)


# The authors' numbers.


def golden(name: str) -> list:
    return [pytest.param(case, id=f"{name} seed {case['seed']}") for case in GOLDEN[name]["cases"]]


@pytest.mark.parametrize("case", golden("avlnet") + golden("everything_at_once"))
def test_measures_as_the_authors_functions_do(case) -> None:
    n = case["n"]
    similarity_NN = np.random.default_rng(case["seed"]).standard_normal((n, n)).astype(np.float32)
    similarity_NN[np.diag_indices(n)] += 2
    given = predictions({"a": similarity_NN, "v": np.eye(n)}, similarity="dot", missing=case["missing"])
    found = values(evaluate(board(missing="misses"), "av", given))
    for name in found.keys() & case.keys():
        assert found[name] == pytest.approx(case[name], abs=1e-12), name


@pytest.mark.parametrize("case", golden("mcn"))
def test_finds_videos_as_mcns_function_does(case) -> None:
    rng, clips, videos = np.random.default_rng(case["seed"]), case["clips"], case["videos"]
    text = rng.standard_normal((clips, case["dim"])).astype(np.float32)
    video = (text + rng.standard_normal(text.shape)).astype(np.float32)
    group = np.r_[np.arange(videos), rng.integers(videos, size=clips - videos)]
    given = predictions({"t": text, "v": video}, similarity="dot", group=np.array([f"video{i:06d}" for i in group]))
    evaluation = evaluate(board("t", "v", unit="video"), "vt", given)
    assert evaluation.n == videos
    for name in ("R@1", "R@5", "R@10"):
        assert values(evaluation)[name] == pytest.approx(case[name], abs=1e-12)


# Boards.


def test_retrieval_equals_sorting_the_similarities() -> None:
    rng = np.random.default_rng(0)
    a_ND = rng.normal(size=(80, 16))
    v_ND = a_ND + 2 * rng.normal(size=a_ND.shape)
    found = values(evaluate(board(), "av", predictions({"a": a_ND, "v": v_ND})))
    a_ND, v_ND = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a_ND, v_ND))
    place_N = np.array([np.flatnonzero(order == i)[0] + 1 for i, order in enumerate(np.argsort(-a_ND @ v_ND.T))])
    for cut in (1, 5, 10):
        assert found[f"R@{cut}"] == pytest.approx((place_N <= cut).mean())
    assert found["MedR"] == np.median(place_N)
    assert found["MeanR"] == pytest.approx(place_N.mean())


def test_retrieval_goes_from_query_to_gallery() -> None:
    """Asymmetric: every sound is nearest to video 0, but video 0 is nearest to sound 0."""
    a_ND, v_ND = np.array([[1, 0.0], [1, 0.3], [1, 0.5]]), np.array([[1.0, 0.2], [0, 1], [-1, 1]])
    given = predictions({"a": a_ND, "v": v_ND})
    there = values(evaluate(board("a", "v"), "av", given))
    back = values(evaluate(board("v", "a"), "av", given))
    assert (there["R@1"], back["R@1"]) == (pytest.approx(1 / 3), pytest.approx(1 / 3))
    assert there["MeanR"] == pytest.approx((1 + 2 + 3) / 3)
    assert back["MeanR"] == pytest.approx((2 + 2 + 1) / 3)


def test_the_similarity_is_the_stages() -> None:
    """By cosine each finds its own; the long item is the nearest to all by dot product."""
    given = {"a": np.eye(3), "v": np.eye(3) + np.array([[9], [0], [0]])}
    assert values(evaluate(board(), "av", predictions(given)))["R@1"] == 1
    assert values(evaluate(board(), "av", predictions(given, similarity="dot")))["R@1"] == pytest.approx(1 / 3)


def captions() -> Predictions:
    """Three clips with 3, 1 and 2 captions; the clip's picture is the same in each of its rows."""
    rng = np.random.default_rng(6)
    group = np.array(["x", "y", "x", "z", "z", "x"])
    v_ND = rng.normal(size=(3, 4))[np.unique(group, return_inverse=True)[1]]
    return predictions({"t": v_ND + rng.normal(size=v_ND.shape), "v": v_ND}, group=group)


def test_each_caption_asks_for_its_clip_among_the_clips() -> None:
    given = captions()
    found = evaluate(board("t", "v"), "vt", given)
    clips = [0, 1, 3]  # the first rows of x, y, z
    ranks = ranks_of(given.scores["t"], given.scores["v"][clips], [0, 1, 0, 2, 2, 0])
    assert found.n == 6
    assert found.metrics["MeanR"].value == pytest.approx(ranks.mean() + 1)
    assert found.chance["R@1"] == pytest.approx(1 / 3) and found.chance["MeanR"] == 2


def test_each_clip_asks_once_and_all_its_captions_are_right() -> None:
    given = captions()
    found = evaluate(board("v", "t"), "vt", given)
    unit = {m: x / np.linalg.norm(x, axis=1, keepdims=True) for m, x in given.scores.items()}
    wrong = []
    for row, clip in ((0, "x"), (1, "y"), (3, "z")):
        order = given.group[np.argsort(-unit["v"][row] @ unit["t"].T)]
        wrong.append(list(order).index(clip))
    assert found.n == 3
    assert found.metrics["MeanR"].value == pytest.approx(np.mean(wrong) + 1)


def test_between_modalities_without_text_each_clip_is_there_once() -> None:
    given = captions()
    given.scores = {"a": given.scores["t"], "v": given.scores["v"]}
    first = predictions({m: x[[0, 1, 3]] for m, x in given.scores.items()})
    assert values(evaluate(board("a", "v"), "av", given)) == values(evaluate(board("a", "v"), "av", first))


@pytest.mark.parametrize("name", ["v", "t"])
def test_random_embeddings_of_clips_with_captions_measure_as_chance_says(name: str) -> None:
    rng = np.random.default_rng(7)
    group = np.sort(np.r_[np.arange(12), rng.integers(12, size=30)])
    asked = board(name, "vt".replace(name, ""))
    found = []
    for _ in range(150):
        drawn = predictions({"t": rng.normal(size=(42, 5)), "v": rng.normal(size=(42, 5))}, group=group)
        measured = statistic(asked, "vt", drawn)  # without the bootstrap
        found.append(
            [float(value[0]) for value in measured.measure(np.ones((len(measured.units), 1), np.float32)).values()]
        )
    evaluation = evaluate(asked, "vt", drawn)
    assert found[-1] == list(values(evaluation).values())
    error = np.std(found, axis=0) / np.sqrt(len(found))
    expected = np.array(list(evaluation.chance.values()))
    unbiased = np.array([metric != "MedR" for metric in evaluation.chance])  # a median of few is not
    assert (abs(np.mean(found, axis=0) - expected) < 4 * error + 1e-9)[unbiased].all()
    assert np.mean(found, axis=0)[~unbiased] == pytest.approx(expected[~unbiased], rel=0.15)


def videos(seed: int = 8) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    group = np.array([f"v{i}" for i in rng.permutation(np.r_[np.arange(9), rng.integers(9, size=20)])])
    t_ND = rng.integers(-2, 3, size=(29, 4)).astype(float)  # exact, with many ties
    return t_ND, t_ND + rng.integers(-2, 3, size=(29, 4)), group


@pytest.mark.parametrize("block_bytes", [1, 2000, 1 << 28])
def test_ranks_of_videos_equal_brute_force_in_any_blocks(block_bytes: int) -> None:
    query, gallery, group = videos()
    names = np.unique(group)
    score = [
        [np.mean([max(q @ g for g in gallery[group == theirs]) for q in query[group == own]]) for theirs in names]
        for own in names
    ]
    expected = [rankdata(-np.round(row, 9))[i] - 1 for i, row in enumerate(score)]
    found = ranking.video_ranks(query, gallery, group, "dot", block_bytes).averaged
    np.testing.assert_array_equal(found, expected)


def test_a_board_of_videos_needs_to_know_them_and_cannot_miss_clips() -> None:
    t_ND, v_ND, group = videos()
    with pytest.raises(EvaluationError, match="of which"):
        evaluate(board("t", "v", unit="video"), "vt", predictions({"t": t_ND, "v": v_ND}))
    given = predictions({"t": t_ND, "v": v_ND}, group=group, missing=1)
    with pytest.raises(EvaluationError, match="cannot be missed"):
        evaluate(board("t", "v", unit="video", missing="misses"), "vt", given)


def test_missing_clips_are_not_found_where_the_board_says_so() -> None:
    given = predictions({"a": np.eye(30), "v": np.eye(30)}, missing=10)
    plain_board, strict = (evaluate(board(missing=kind), "av", given) for kind in ("", "misses"))
    assert values(plain_board) == {"R@1": 1, "R@5": 1, "R@10": 1, "MedR": 1, "MeanR": 1}
    assert values(strict) == {"R@1": 0.75, "R@5": 0.75, "R@10": 0.75, "MedR": 1, "MeanR": 1}
    assert strict.notes == {"missing_clips_count_as_not_found": 10} and plain_board.notes == {}
    assert strict.chance["R@5"] == pytest.approx(5 / 40) and strict.chance["MedR"] == 15.5
    interval = strict.metrics["R@1"]
    half = 1.96 * np.sqrt(0.75 * 0.25 / 40)
    assert (interval.high - interval.low) / 2 == pytest.approx(half, rel=0.25)


def test_captions_of_one_clip_are_drawn_together() -> None:
    """Ten captions of each clip that are all found or all not say no more than one: the interval is as of clips."""
    hit = np.random.default_rng(9).random(60) < 0.5
    one = np.where(hit[:, None], np.eye(60), -np.eye(60))
    alone = evaluate(board("t", "v"), "vt", predictions({"t": one, "v": np.eye(60)})).metrics["R@1"]
    ten = {"t": one.repeat(10, 0), "v": np.eye(60).repeat(10, 0)}
    found = evaluate(board("t", "v"), "vt", predictions(ten, group=np.arange(60).repeat(10))).metrics["R@1"]
    assert vars(found) == pytest.approx(vars(alone))


@pytest.mark.parametrize("unit", ["", "video"])
def test_the_order_of_rows_changes_neither_values_nor_intervals(unit: str) -> None:
    t_ND, v_ND, group = videos()
    asked = board("t", "v", unit=unit)
    given = predictions({"t": t_ND, "v": v_ND}, group=group)
    expected = evaluate(asked, "vt", given)
    for seed in range(3):
        assert evaluate(asked, "vt", given.take(np.random.default_rng(seed).permutation(29))) == expected


@pytest.mark.parametrize("n", [1, 2, 7, 10])
def test_median_rank_of_a_resample_is_that_of_the_repeated_queries(n: int) -> None:
    rank_N = np.sort(np.random.default_rng(n).integers(0, 1000, n)).astype(float)
    (weight_NB,) = metrics.resamples(n, count=50)
    expected_B = [np.median(np.repeat(rank_N, count_N.astype(int))) for count_N in weight_NB.T]
    np.testing.assert_array_equal(task._median(rank_N, weight_NB), expected_B)
