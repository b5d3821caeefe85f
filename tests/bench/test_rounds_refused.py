"""Pseudo-labels between stages: what cannot be meant, clips that have none, and what a stage may call labels."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from bench.cli import main
from bench.config.compose import compose
from bench.errors import UserError
from bench.plan.graph import PlannedStage, make_plan
from bench.run.labelling import checked
from tests.bench.test_outside_streams import site
from tests.bench.test_rounds import BATCH, IDS, arguments, labels_of, seen

__all__ = ["site"]

STREAMS = "stages.train_1.data.inputs.streams"


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ([STREAMS + ".other={kind: pseudo_label}"], [f"{STREAMS}.other: nothing says", "stages.train_1.labels.other="]),
        ([STREAMS + ".group.file=x"], [f"{STREAMS}.group.file=x: stages.train_1.labels.group=label_0", "leave one"]),
        (["+stages.train_1.labels.gr0up=label_0"], ["(stages.train_1.labels): 'gr0up'. Did you mean 'group'"]),
        (["stages.train_1.labels.group=label_9"], ["no such stage (stages.train_1): 'label_9'. Did you mean"]),
        (["stages.train_1.labels.group=label_1"], ["in a circle: train_1 -> label_1 -> train_1"]),
        (["stages.label_0.extract=[test]"], ["stages.train_1.labels.group: label_0 extracts test, but train is read"]),
        (["stages.label_0.module=Mute"], ["stages.train_1.labels.group: label_0 gives no labels: Mute has no pseudo"]),
        (["stages.label_0.extract=[]", "stages.label_0.board=ramps"], ["stages.label_0.init=random: random weights"]),
        (["stages.train_1.after=null", "stages.train_1.init=random"], ["stages.train_1.init=random: random weights"]),
        (
            ["stages.train_1.mixture.parts={more: {dataset: ramps, train: [test]}}"],
            ["stages.train_1.mixture: a stage of several datasets reads media; leave features, labels and"],
        ),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_place(site, tmp_path, capsys, settings, says):
    settings = [each.removeprefix("+") for each in settings]
    assert main(["plan", *arguments(site, tmp_path, *settings)]) == 2
    message = capsys.readouterr().err
    assert all(each in message for each in says), message


def planned(site: Path, folder: Path, *overrides: str) -> dict[str, PlannedStage]:
    method, *rest = arguments(site, folder, *overrides)
    return {stage.name: stage for stage in make_plan(compose(method, rest)).stages}


def test_a_training_has_the_clips_that_the_stage_that_labels_them_can_read_and_counts_the_others(site, tmp_path):
    """One that reads more than the training does."""
    (tmp_path / "features").mkdir()
    for video in (each for each in range(8) if each != 3):
        np.savez(tmp_path / "features" / f"v{video}_said.npz", features=np.zeros((1, 2), np.float32), times=np.zeros(1))
    said = f"{{kind: timed_vectors, expert: said, modality: a, dim: 2, root: {tmp_path / 'features'}}}"
    before = planned(site, tmp_path)
    after = planned(site, tmp_path, f"stages.label_0.data.inputs.streams.said={said}")
    assert [len(stages["train_1"].train.table) for stages in (before, after)] == [24, 21]
    clips = after["train_1"].train
    assert clips.excluded == {"cannot be read by label_0, which gives the labels": 3}
    assert clips.official == 24 and clips.left_out["clip_id"].tolist() == ["v3_0", "v3_1", "v3_2"]
    assert all(before[name].identity != after[name].identity for name in before)


def test_what_gives_the_labels_is_part_of_the_identity(site, tmp_path):
    before, after = planned(site, tmp_path), planned(site, tmp_path, "stages.train_1.epochs=3")
    assert [name for name in before if before[name].identity == after[name].identity] == ["label_0"]
    assert [each.name for each in before["train_2"].ancestors] == ["label_0", "train_1", "label_1"]


def test_where_a_clip_has_no_label_another_with_its_own_takes_its_place(site, tmp_path, capsys):
    """It could not be read when it was to be labelled, and can be again when it is to be trained on."""
    data = tmp_path / "site" / "data"
    shutil.copytree(site / "data", data)
    folder, file = tmp_path / "run", data / "ramps" / "v3.wav"
    planned(data.parent, folder)
    whole, stat = file.read_bytes(), file.stat()
    file.write_bytes(b"x" * stat.st_size)
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert main(["run", *arguments(data.parent, folder, "stage=label_0")]) == 0
    assert "labels of the 21 clips of train: moved, drawn; 3 that could not be read" in capsys.readouterr().err
    file.write_bytes(whole)
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert main(["run", *arguments(data.parent, folder, "stage=train_1")]) == 0
    labels = dict(zip(*(labels_of(folder, "label_0")[name] for name in ("clip_id", "moved")), strict=True))
    assert labels == {clip: place for place, clip in enumerate(IDS) if not clip.startswith("v3")}
    steps = seen(folder, "train_1")
    assert all({clip: (labels[clip],) for clip in clips} == clips for clips in steps.values())
    assert {clip for clips in steps.values() for clip in clips} == labels.keys() and len(steps) == 2 * 24 // BATCH


def test_labels_that_a_finished_stage_did_not_give_are_missed_with_their_file(site, tmp_path, capsys):
    column = "stages.train_1.data.inputs.streams.group.column"
    assert main(["run", *arguments(site, tmp_path, "stage=label_0")]) == 0
    assert main(["run", *arguments(site, tmp_path, "stage=train_1", f"{column}=other")]) == 2
    message = capsys.readouterr().err
    assert (
        "stage train_1: data.inputs.streams.group: " in message and "labels.parquet: it has no column other" in message
    )


def test_a_split_of_several_says_which_clips_are_of_it(site, tmp_path):
    stages = planned(site, tmp_path, "stages.label_0.extract=[train,test]")
    assert {split: len(clips) for split, clips in stages["label_0"].labelled_clips.items()} == {"train": 24, "test": 9}


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"video": [0, 1]}, "K gives video, but streams read audio; set the streams' column"),
        ({"audio": [0, 1], "clip_id": [0, 1]}, "K gives labels called clip_id"),
        ({"audio": [0, 1, 2]}, r"K gives audio of int64 \[3\] instead of one whole number for each of the 2 clips"),
        ({"audio": [0.0, 1.0]}, r"K gives audio of float64 \[2\]"),
        ({"audio": [[0], [1]]}, r"K gives audio of int64 \[2, 1\]"),
        ({"audio": [-1, 1]}, "K gives audio from -1 to 1, and its streams read 4 classes"),
        ({"audio": torch.tensor([0, 4])}, "K gives audio from 0 to 4, and its streams read 4 classes"),
        ({"audio": [0, 1], "video": [0, -1]}, "K gives video from -1 to 0, below 0"),
    ],
)
def test_what_are_no_labels_is_refused(given, says):
    with pytest.raises(UserError, match=says):
        checked(given, 2, {"audio": 4}, "K")


def test_labels_of_any_whole_numbers_are_taken():
    found = checked({"audio": torch.tensor([0, 3], dtype=torch.int32), "b": [9, 9]}, 2, {"audio": 4}, "K")
    assert pd.DataFrame(found).to_dict("list") == {"audio": [0, 3], "b": [9, 9]}
