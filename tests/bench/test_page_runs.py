"""What the folders of runs add to the page: curves, and scores by class."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, confusion_matrix

from bench import registry
from bench.page.runs import POINTS, PREDICTIONS, curves, evidence
from bench.run.results import write_predictions
from bench.tasks import Predictions, task_of
from datamodules.boards import Board, Tagging
from tests.bench.test_tables import record

BOARD = registry.board("vggsound")


def predictions(clips: int = 40, classes: int = 5, seed: int = 0) -> Predictions:
    random = np.random.default_rng(seed)
    label = np.arange(clips) % classes
    scores = random.normal(size=(clips, classes)).astype(np.float32) + 1.5 * np.eye(classes, dtype=np.float32)[label]
    return Predictions([f"clip{i}" for i in range(clips)], np.eye(classes)[label], {"av": scores})


def test_scores_by_class_are_of_the_very_predictions(tmp_path: Path):
    given = predictions()
    folder = tmp_path / "mavil" / "finetune-ab12"
    sha = write_predictions(given, folder / PREDICTIONS)
    (folder / "metrics.csv").write_text("step,lr,loss/loss\n1,0.1,2.5\n2,,nan\n")
    made = record(BOARD, predictions_sha256=sha)
    found = evidence([made, record(BOARD, identity="other")], {BOARD.name: BOARD}, tmp_path)
    assert list(found) == [made.id]
    assert found[made.id]["curves"] == {"step": [1, 2], "series": {"lr": [0.1, None], "loss/loss": [2.5, None]}}
    by_class = found[made.id]["classes"]
    assert by_class["names"] == [f"class {i}" for i in range(5)] and by_class["n"] == [8] * 5
    label, best = given.target.argmax(1), given.scores["av"].argmax(1)
    assert by_class["matrix"] == confusion_matrix(label, best).tolist()
    assert np.mean(by_class["value"]) == pytest.approx((label == best).mean())
    named = record(
        BOARD, predictions_sha256=write_predictions(replace(given, classes=list("vwxyz")), folder / PREDICTIONS)
    )
    assert evidence([named], {BOARD.name: BOARD}, tmp_path)[named.id]["classes"]["names"] == list("vwxyz")
    other = made.model_copy(update={"predictions_sha256": "0" * 64})
    assert evidence([other], {BOARD.name: BOARD}, tmp_path)[made.id]["classes"] is None


def test_average_precision_by_class_is_that_of_scikit_learn():
    given = predictions(60, 4)
    target = given.target > 0
    target[:, 1] |= np.arange(60) % 3 == 0
    target[:, 3] = False
    tags = Board("tags", "world", "train", "eval", Tagging(), "mAP")
    found = task_of(tags).run_page("av", replace(given, target=target))
    expected = [average_precision_score(target[:, i], given.scores["av"][:, i]) for i in range(3)]
    assert found["value"][:3] == pytest.approx(expected, abs=1e-4) and found["value"][3] is None
    assert found["n"] == target.sum(0).tolist()


def test_of_many_classes_only_the_commonest_confusions_are_kept():
    given = predictions(400, 100)
    found = task_of(BOARD).run_page("av", given)
    assert "matrix" not in found and all(a != b and count > 0 for a, b, count in found["pairs"])
    assert [count for *_, count in found["pairs"]] == sorted((count for *_, count in found["pairs"]), reverse=True)


def test_long_curves_are_thinned_and_keep_their_end(tmp_path: Path):
    path = tmp_path / "metrics.csv"
    path.write_text("step,loss\n" + "".join(f"{step},{1 / step}\n" for step in range(1, 5001)))
    found = curves(path)
    assert found is not None and len(found["step"]) <= POINTS + 1 and found["step"][-1] == 5000
    assert curves(tmp_path / "none.csv") is None
    path.write_text("no curves here")
    assert curves(path) is None


def test_thinned_curves_keep_each_validation(tmp_path: Path):
    path = tmp_path / "metrics.csv"
    rows = (f"{step},{1 / step},{step if step % 97 == 0 else ''}\n" for step in range(1, 5001))
    path.write_text("step,loss,val/mAP\n" + "".join(rows))
    found = curves(path)
    assert found is not None and list(found["series"]) == ["val/mAP", "loss"] and len(found["step"]) <= 2 * POINTS + 1
    values = [value for value in found["series"]["val/mAP"] if value is not None]
    assert values == [float(step) for step in range(97, 5001, 97)]
