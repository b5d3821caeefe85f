"""Judges of a frozen network of another package: a linear SVM, fitted in one go, and nearest neighbours."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.svm import LinearSVC

from bench.cli import main
from experiments.common.stages.frozen import JUDGE
from experiments.common.stages.svm import LinearSVM, SVMOptions, decision
from tests.bench.test_outside_streams import site

__all__ = ["site"]

CLIPS, TIMES, TESTED = 24, 5, 9


def run(site: Path, folder: Path, *overrides: str) -> tuple[dict[str, np.ndarray], dict[str, torch.Tensor], dict, Path]:
    """(what it was fitted to, its weights, its record, the folder)."""
    folder.mkdir(exist_ok=True)
    places = [f"data_root={site / 'data'}", f"runs={folder / 'runs'}", f"leaderboards={folder / 'boards'}"]
    log = f"stages.probe.options.log={folder / 'fitted.npz'}"
    assert main(["run", "probed", "preset=tiny", log, *places, *overrides]) == 0
    (stage,) = (folder / "runs" / "probed").glob("probe-*")
    record = json.loads((stage / "record.json").read_text())
    return dict(np.load(folder / "fitted.npz")), torch.load(stage / "weights.pt", weights_only=True), record, folder


@pytest.fixture(scope="module")
def alone(site: Path, tmp_path_factory: pytest.TempPathFactory):
    return run(site, tmp_path_factory.mktemp("alone"))


def test_it_is_fitted_to_each_training_clip_in_as_many_windows_as_there_are_epochs(alone):
    fitted, *_ = alone
    number = fitted["features"].min(1) / 1e-3
    videos, times = np.unique(np.floor(number), return_counts=True)
    assert videos.tolist() == list(range(8)) and times.tolist() == [3 * TIMES] * 8
    assert (fitted["label"].argmax(1) == np.floor(number) % 3).all()
    assert len(np.unique(number.round(9))) > CLIPS * (TIMES - 1)  # each time another window


def test_its_weights_are_scikit_learn_s_and_it_is_measured_by_them_over_all_windows_of_a_clip(alone):
    fitted, weights, record, _ = alone
    theirs = LinearSVC(C=1.0, max_iter=1000, dual="auto", random_state=int(fitted["seed"]) % 2**32)
    theirs.fit(fitted["features"], fitted["label"].argmax(1))
    np.testing.assert_allclose(weights["svm.weight"].numpy(), theirs.coef_, rtol=1e-5)
    np.testing.assert_allclose(weights["svm.bias"].numpy(), theirs.intercept_, rtol=1e-5)
    assert record["n"] == TESTED and record["metrics"]["top1"]["value"] == 1.0
    assert record["protocol"]["views"] == 3
    assert record["notes"][JUDGE] == "linear SVM of C = 1 (the protocol has 0.0001)"
    assert LinearSVM.remarks(None, SVMOptions()) == {JUDGE: "linear SVM of C = 0.0001"}


def test_it_is_not_fitted_again_where_it_is_done(site, alone, tmp_path, capsys):
    run(site, tmp_path / "twice")
    (tmp_path / "twice" / "fitted.npz").touch()
    before = (tmp_path / "twice" / "fitted.npz").stat().st_mtime_ns
    run(site, tmp_path / "twice")
    assert (tmp_path / "twice" / "fitted.npz").stat().st_mtime_ns == before


@pytest.mark.slow
def test_two_processes_fit_what_one_does(site, alone, tmp_path):
    import os
    import subprocess
    import sys

    from tests.conftest import REPOSITORY

    places = [f"data_root={site / 'data'}", f"runs={tmp_path / 'runs'}", f"leaderboards={tmp_path / 'boards'}"]
    log = f"stages.probe.options.log={tmp_path / 'fitted.npz'}"
    command = [sys.executable, "-m", "bench", "run", "probed", "preset=tiny", log, "trainer.devices=2", *places]
    paths = os.pathsep.join([str(site), str(REPOSITORY)])
    subprocess.run([*command, "trainer.accelerator=cpu"], check=True, env={**os.environ, "PYTHONPATH": paths})
    fitted = np.load(tmp_path / "fitted.npz")
    np.testing.assert_array_equal(fitted["features"], alone[0]["features"])
    np.testing.assert_array_equal(fitted["label"], alone[0]["label"])
    (stage,) = (tmp_path / "runs" / "probed").glob("probe-*")
    weights = torch.load(stage / "weights.pt", weights_only=True)
    assert all(torch.equal(weights[name], value) for name, value in alone[1].items())
    assert near(tmp_path)["metrics"] == near(alone[3])["metrics"]


def near(folder: Path) -> dict:
    (stage,) = (folder / "runs" / "probed").glob("near-*")
    return json.loads((stage / "record.json").read_text())


def test_test_clips_find_the_training_clips_that_lie_nearest(alone):
    """Videos 8, 9, 10 of the classes 2, 0, 1 find 7, 6, 5, … of the classes 1, 0, 2, …, with three clips each."""
    record = near(alone[3])
    found = {name: metric["value"] for name, metric in record["metrics"].items()}
    assert found == pytest.approx({"near@1": 1 / 3, "near@5": 2 / 3, "near@10": 1, "near@20": 1, "near@50": 1})
    assert record["n"] == TESTED and record["notes"] == {"training_clips_searched": CLIPS}
    assert record["protocol"]["views"] == 2


def test_of_two_classes_both_have_a_weight_and_of_a_class_without_clips_the_least():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 3)), rng.integers(2, size=40) * 2
    svm = LinearSVC().fit(x + y[:, None], y)
    weight, bias = decision(svm.coef_, svm.intercept_, svm.classes_, 4)
    values = (x + y[:, None]) @ weight.T + bias
    np.testing.assert_array_equal(values.argmax(1), svm.predict(x + y[:, None]))
    assert (values[:, [1, 3]] < values[:, [0, 2]].min()).all()
