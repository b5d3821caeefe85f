"""Tasks: what a board's metrics and notes are, and what is refused. What all must do: `test_every_task.py`."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import accuracy_score, average_precision_score, balanced_accuracy_score, roc_auc_score

from bench.tasks import Evaluation, EvaluationError, Predictions, evaluate
from datamodules.boards import Board, Classification, Retrieval, Tagging

BOARDS = {
    "tagging": Board("tags", "world", "train", "eval", Tagging(), "mAP"),
    "classification": Board("classes", "world", "train", "test", Classification(), "top1"),
    "retrieval": Board("pairs", "world", "none", "test", Retrieval(query="a", gallery="v"), "R@1"),
}


def predictions(task: str, n: int = 80, classes: int = 6, seed: int = 0) -> Predictions:
    rng = np.random.default_rng(seed)
    target_NC = np.eye(classes, dtype=np.float32)[rng.integers(classes, size=n)]
    if task == "tagging":
        target_NC = np.maximum(target_NC, rng.random((n, classes)) < 0.2)
    if task == "retrieval":
        sound_ND = rng.normal(size=(n, 16))
        scores = {"a": sound_ND, "v": sound_ND + 2 * rng.normal(size=(n, 16))}
    else:
        scores = {"a": target_NC + rng.normal(size=(n, classes))}
    return Predictions([f"clip{i:03}" for i in rng.permutation(n)], target_NC, scores)


def values(evaluation: Evaluation) -> dict[str, float]:
    return {name: metric.value for name, metric in evaluation.metrics.items()}


def test_tagging_equals_sklearn() -> None:
    given = predictions("tagging")
    found = evaluate(BOARDS["tagging"], "a", given)
    assert found.metrics["mAP"].value == pytest.approx(average_precision_score(given.target, given.scores["a"]))
    auc_C = roc_auc_score(given.target, given.scores["a"], average=None)
    assert found.metrics["AUC"].value == pytest.approx(auc_C.mean())
    of_mean, of_each = (math.sqrt(2) * norm.ppf(auc) for auc in (auc_C.mean(), auc_C))
    assert found.metrics["dprime"].value == pytest.approx(of_mean)
    assert found.metrics["mean_dprime"].value == pytest.approx(of_each.mean()) != pytest.approx(of_mean)
    assert found.n == 80


def test_classification_equals_sklearn_and_counting() -> None:
    given = predictions("classification")
    found = values(evaluate(BOARDS["classification"], "a", given))
    label_N, guess_N = given.target.argmax(1), given.scores["a"].argmax(1)
    assert found["top1"] == pytest.approx((label_N == guess_N).mean())
    assert found["mean_class"] == pytest.approx(balanced_accuracy_score(label_N, guess_N))
    best_N5 = np.argsort(-given.scores["a"], axis=1)[:, :5]
    assert found["top5"] == pytest.approx((best_N5 == label_N[:, None]).any(1).mean())


def test_perfect_and_constant_goldens() -> None:
    for task, board in BOARDS.items():
        given = predictions(task)
        if task == "retrieval":
            given.scores = {"a": given.scores["a"], "v": given.scores["a"]}
        else:
            given.scores = {"a": given.target}
        perfect = values(evaluate(board, "a", given))
        given.scores = {modality: np.ones_like(score) for modality, score in given.scores.items()}
        constant = evaluate(board, "a", given)
        assert perfect[board.main] == 1
        if task == "tagging":
            assert constant.metrics["dprime"].value == 0
            assert constant.metrics["mAP"].value == pytest.approx(given.target.mean(0).mean())
        elif task == "classification":
            assert values(constant) == pytest.approx(constant.chance)
        else:
            assert constant.metrics["MedR"].value == (80 + 1) / 2


def test_classes_without_positives_are_left_out_and_counted() -> None:
    given = predictions("tagging")
    reference = evaluate(BOARDS["tagging"], "a", given)
    wider = Predictions(
        given.clip_id,
        np.pad(given.target, [(0, 0), (0, 3)]),
        {"a": np.pad(given.scores["a"], [(0, 0), (0, 3)], constant_values=9)},
    )
    found = evaluate(BOARDS["tagging"], "a", wider)
    assert found.notes["classes_without_positives"] == 3
    assert "classes_without_positives" not in reference.notes
    for name in ("mAP", "AUC", "dprime"):
        assert vars(found.metrics[name]) == pytest.approx(vars(reference.metrics[name]))
    lacking = predictions("classification", n=5, classes=6)
    assert evaluate(BOARDS["classification"], "a", lacking).notes["classes_without_clips"] >= 1


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("task", BOARDS)
def test_scores_that_are_not_finite_are_an_error_with_their_number_and_clips(task: str, bad: float) -> None:
    given = predictions(task)
    rows = [list(given.clip_id).index(clip) for clip in ("clip007", "clip003")]
    given.scores["a"][rows, 2] = bad
    with pytest.raises(EvaluationError, match=r"'a' are NaN or infinite for 2 clips \(clip003, clip007\) of 80"):
        evaluate(BOARDS[task], "a", given)


def test_a_clip_that_is_there_twice_is_an_error() -> None:
    given = predictions("tagging").take(np.array([0, 1, 2, 3, 1]))
    with pytest.raises(EvaluationError, match=rf"1 clip \({given.clip_id[1]}\) more than once"):
        evaluate(BOARDS["tagging"], "a", given)


def test_other_wrong_predictions_are_errors_that_say_why() -> None:
    given = predictions("classification")
    with pytest.raises(EvaluationError, match="no scores for modality 'av'; the method gave: a"):
        evaluate(BOARDS["classification"], "av", given)
    with pytest.raises(EvaluationError, match="no clips"):
        evaluate(BOARDS["classification"], "a", given.take(np.array([], int)))
    with pytest.raises(EvaluationError, match=r"\(80, 5\) of 'a' do not fit \(80, 6\)"):
        evaluate(
            BOARDS["classification"], "a", Predictions(given.clip_id, given.target, {"a": given.scores["a"][:, :5]})
        )
    with pytest.raises(EvaluationError, match="have not exactly one class, first clip000"):
        evaluate(BOARDS["classification"], "a", Predictions(given.clip_id, np.ones((80, 6)), given.scores))
    with pytest.raises(EvaluationError, match="none of the 80 clips has a label"):
        evaluate(BOARDS["tagging"], "a", Predictions(given.clip_id, np.zeros((80, 6)), given.scores))
    pairs = predictions("retrieval")
    with pytest.raises(EvaluationError, match="cannot be compared"):
        evaluate(
            BOARDS["retrieval"], "av", Predictions(pairs.clip_id, pairs.target, {**pairs.scores, "v": np.ones((80, 3))})
        )


def degenerate_scores() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    return {
        "random": rng.normal(size=(40, 4)),
        "few levels, so that most scores are tied": rng.integers(0, 3, (40, 4)).astype(float),
        "all equal": np.full((40, 4), 0.3),
        "equal within each clip": np.repeat(rng.normal(size=(40, 1)), 4, axis=1),
    }


@pytest.mark.parametrize("kind", degenerate_scores())
def test_map_equals_sklearn_on_degenerate_scores_and_without_positives(kind: str) -> None:
    rng, score_NC = np.random.default_rng(2), degenerate_scores()[kind]
    target_NC = (rng.random((40, 4)) < 0.3).astype(float)
    target_NC[:, 2] = 0  # a class without positives: scikit-learn gives it 0 and warns, here it is left out
    found = evaluate(BOARDS["tagging"], "a", Predictions([f"{i:02}" for i in range(40)], target_NC, {"a": score_NC}))
    known = [0, 1, 3]
    expected = average_precision_score(target_NC[:, known], score_NC[:, known])
    assert found.metrics["mAP"].value == pytest.approx(expected, abs=1e-6)
    assert found.notes["classes_without_positives"] == 1


@pytest.mark.parametrize("kind", degenerate_scores())
def test_top1_equals_sklearn_over_all_orders_of_tied_classes(kind: str) -> None:
    """argmax takes the first of tied classes; the mean of scikit-learn's accuracy over all orders of the classes is
    what a fair scorer gets."""
    score_NC = degenerate_scores()[kind]
    label_N = np.arange(40) % 3  # class 3 has no clips
    given = Predictions([f"{i:02}" for i in range(40)], np.eye(4)[label_N], {"a": score_NC})
    orders = [list(order) for order in itertools.permutations(range(4))]
    expected = np.mean([accuracy_score(label_N, np.take(o, score_NC[:, o].argmax(1))) for o in orders])
    assert evaluate(BOARDS["classification"], "a", given).metrics["top1"].value == pytest.approx(expected, abs=1e-6)
