"""Trainings on the pseudo-labels that a stage of the same run gave the clips, anew for each of them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from bench.cli import main
from bench.plan.identity import file_hash
from bench.tables import show
from tests.bench.test_outside_streams import site
from tests.conftest import REPOSITORY

__all__ = ["site"]

STAGES = ("label_0", "train_1", "label_1", "train_2")
STEPS, BATCH = 6, 8
IDS = sorted(f"v{video}_{clip}" for video in range(8) for clip in range(3))
VAL = [f"v{video}_{clip}" for video in (11, 12) for clip in range(3)]


def arguments(site: Path, folder: Path, *overrides: str) -> list[str]:
    places = [f"data_root={site / 'data'}", f"runs={folder / 'runs'}", f"leaderboards={folder / 'boards'}"]
    logs = [f"stages.{stage}.options.root={folder / 'notes' / stage}" for stage in STAGES]
    for stage in STAGES:
        (folder / "notes" / stage).mkdir(parents=True, exist_ok=True)
    return ["rounds", "preset=tiny", "data.loader.workers=0", *places, *logs, *overrides]


def noted(folder: Path, stage: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "notes" / stage / "log").read_text().splitlines()]


def seen(folder: Path, stage: str) -> dict[int, dict[str, tuple[int, ...]]]:
    """Step -> clip -> the labels that a training was given of it."""
    found: dict[int, dict[str, tuple[int, ...]]] = {}
    for line in noted(folder, stage):
        labels = zip(*(line[name] for name in ("group", "drawn") if name in line), strict=True)
        found.setdefault(line["step"], {}).update(zip(line["clip_id"], labels, strict=True))
    return found


def folder_of(folder: Path, stage: str) -> Path:
    (found,) = (folder / "runs" / "rounds").glob(f"{stage}-*")
    return found


def labels_of(folder: Path, stage: str) -> pd.DataFrame:
    return pd.read_parquet(folder_of(folder, stage) / "labels.parquet")


def outcome(folder: Path) -> dict[str, Any]:
    """What a whole run leaves behind."""
    weights = {
        stage: torch.load(folder_of(folder, stage) / "weights.pt", weights_only=True)["shift"].item()
        for stage in STAGES
    }
    labels = {stage: labels_of(folder, stage).to_dict("list") for stage in ("label_0", "label_1")}
    names = {folder_of(folder, stage).name for stage in STAGES}
    return {"weights": weights, "labels": labels, "seen": [seen(folder, s) for s in STAGES[1::2]], "names": names}


@pytest.fixture(scope="module")
def alone(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where one process ran that nothing happened to."""
    folder = tmp_path_factory.mktemp("alone")
    assert main(["run", *arguments(site, folder)]) == 0
    return folder


def in_a_process(site: Path, folder: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    run = [sys.executable, "-m", "bench", "run", *arguments(site, folder, *overrides)]
    environment = os.environ | {"PYTHONPATH": f"{REPOSITORY}:{site}", "OMP_NUM_THREADS": "1"}
    return subprocess.run(run, env=environment, capture_output=True, text=True, timeout=400)


def test_each_training_reads_the_labels_that_the_weights_before_it_gave_its_very_clips(alone):
    shift = 0.0
    for label, train in (STAGES[:2], STAGES[2:]):
        listed = labels_of(alone, label)
        ids = sorted([*IDS, *VAL]) if label == "label_1" else IDS
        assert listed["clip_id"].tolist() == ids == noted(alone, label)[0]["clip_id"]
        assert noted(alone, label)[0]["splits"] == ["val" if clip in VAL else "train" for clip in ids]
        moved = [(3 * int(clip[1:-2]) + int(clip[-1]) + round(shift * 8)) % 64 for clip in ids]
        assert listed["moved"].tolist() == moved
        columns = ["moved", "drawn"] if train == "train_2" else ["moved"]
        expected = dict(zip(ids, listed[columns].itertuples(index=False, name=None), strict=True))
        steps = seen(alone, train)
        assert sorted(steps) == list(range(STEPS)) and all(len(clips) == BATCH for clips in steps.values())
        assert all(clips == {clip: expected[clip] for clip in clips} for clips in steps.values())
        before, shift = shift, outcome(alone)["weights"][train]
        assert round(before * 8) != round(shift * 8)


def require_validated(folder: Path) -> None:
    """The loss of the last epoch is that of the labels of the clips to validate on."""
    listed, weights = labels_of(folder, "label_1"), outcome(folder)["weights"]
    last = json.loads((folder_of(folder, "train_2") / "validation.json").read_text())["seen"][-1]
    mean = listed["moved"][listed["clip_id"].isin(VAL)].mean()
    assert last["n"] == len(VAL) and last["metrics"]["loss"] == pytest.approx(weights["train_2"] * mean / 16, rel=1e-6)


def test_a_training_on_pseudo_labels_is_validated_on_those_of_other_clips(alone):
    require_validated(alone)


def test_labels_are_drawn_otherwise_in_each_stage_and_otherwise_with_another_seed(alone, site, tmp_path):
    first, second = (labels_of(alone, label)["drawn"].tolist() for label in ("label_0", "label_1"))
    assert main(["run", *arguments(site, tmp_path, "seed=1", "stage=label_0")]) == 0
    assert first != second and first != labels_of(tmp_path, "label_0")["drawn"].tolist()


def test_what_is_done_is_not_done_again_and_says_what_its_labels_are(alone, site, capsys):
    before = {label: noted(alone, label) for label in STAGES}
    assert main(["run", *arguments(site, alone)]) == 0
    assert capsys.readouterr().err.count("done already") == 4
    assert {label: noted(alone, label) for label in STAGES} == before
    for label in ("label_0", "label_1"):
        folder = folder_of(alone, label)
        assert json.loads((folder / "done.json").read_text())["labels"] == file_hash(folder / "labels.parquet")
    assert "labels" not in json.loads((folder_of(alone, "train_1") / "done.json").read_text())


@pytest.mark.parametrize("gone", [["done.json"], ["done.json", "labels.parquet"], ["labels.parquet"]])
def test_what_is_missing_of_a_labelling_is_made_again_as_it_was(alone, site, tmp_path, gone: list[str]):
    folder = tmp_path / "again"
    shutil.copytree(alone, folder)
    for name in gone:
        (folder_of(folder, "label_1") / name).unlink()
    assert main(["run", *arguments(site, folder)]) == 0
    assert outcome(folder) == outcome(alone)
    assert len(noted(folder, "label_1")) - len(noted(alone, "label_1")) == ("labels.parquet" in gone)
    assert (folder_of(folder, "label_1") / "done.json").read_text() == (
        folder_of(alone, "label_1") / "done.json"
    ).read_text()


def test_a_plan_is_the_same_before_and_after_the_labels_are_there_and_shows_them(
    alone, site, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(show.console, "width", 400)
    shown = []
    for folder in (tmp_path, alone):
        assert main(["plan", *arguments(site, folder)]) == 0
        shown.append(" ".join(capsys.readouterr().out.split()))
    assert "gives drawn, moved to train+val" in shown[0] and "reads group of label_1" in shown[0]
    assert "reads drawn of label_1" in shown[0] and "val, last loss" in shown[0]
    assert shown[0].replace("new", "done") == shown[1]


@pytest.mark.slow
def test_two_processes_are_given_what_one_is(site, alone, tmp_path):
    done = in_a_process(site, tmp_path, "trainer.accelerator=cpu", "trainer.devices=2")
    assert done.returncode == 0, done.stderr
    assert len(noted(tmp_path, "label_1")) == 1 and {line["rank"] for line in noted(tmp_path, "train_2")} == {0, 1}
    assert outcome(tmp_path) == outcome(alone)
    require_validated(tmp_path)


@pytest.mark.slow
def test_killed_between_features_and_labels_and_in_the_later_training_it_ends_as_it_would_have(site, alone, tmp_path):
    settings = ("trainer.checkpoint_every=2", "trainer.accelerator=cpu", "trainer.devices=2")
    arguments(site, tmp_path)
    for stage, number in (("label_1", 1), ("train_2", 5)):
        (tmp_path / "notes" / stage / "kill").write_text(str(number))
    assert in_a_process(site, tmp_path, *settings).returncode != 0
    features = sorted((folder_of(tmp_path, "label_1") / "features").iterdir())
    assert features and not (folder_of(tmp_path, "label_1") / "labels.parquet").exists()
    assert in_a_process(site, tmp_path, *settings).returncode != 0
    assert sorted((folder_of(tmp_path, "label_1") / "features").iterdir()) == features
    done = in_a_process(site, tmp_path, *settings)
    assert done.returncode == 0 and "goes on where it was cut off" in done.stderr + done.stdout, done.stderr
    assert outcome(tmp_path) == outcome(alone)
