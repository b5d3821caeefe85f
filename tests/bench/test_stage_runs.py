"""Stages that use each other, run from the command to the board on a few made-up clips: teachers, averages, ensembles,
features that another stage extracts, and other labels for training."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from bench import registry
from bench.cli import main
from bench.config.compose import compose
from bench.plan.graph import PlannedStage, make_plan
from bench.plan.identity import file_hash, shareable
from bench.run.callbacks import KeepEpochs, epoch_weights
from bench.run.results import read_predictions
from bench.tasks.ensembles import mean_probability
from datamodules.features import extracted
from datamodules.features.extracted import ExtractedFeatures, FeatureWriter, extracted_ids
from tests.bench.stages import arguments, planned, scores, user_error, weights
from tests.conftest import REPOSITORY
from tests.sample_data import SampleMaker

COUNTS = {
    "audioset": {"unbalanced_train": 4, "balanced_train": 16, "eval": 21},
    "vggsound": {"train": 16, "test": 17},
}


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory, make_sample: SampleMaker) -> Path:
    root = tmp_path_factory.mktemp("stage_runs")
    make_sample(root, list(COUNTS), counts=COUNTS)
    return root


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


# --- CMKD: teachers, averages, ensembles

CMKD = [
    *("model.ast.dim=24", "model.ast.depth=1", "model.ast.heads=3", "model.cnn.widths=[8,8,16,16,16]"),
    *("data.inputs.audio.frames=64", "stages.checkpoints_ast_audioset20k.average_outputs=[1,2]"),
    *(
        f"stages.{name}_audioset20k.{setting}"
        for name in ("train_cnn", "train_ast", "distill_ast", "distill_cnn")
        for setting in ("epochs=2", "batch_size=8")
    ),
    *(
        f"stages.average_{name}_audioset20k.average_weights=[1,2]"
        for name in ("ast", "cnn", "distilled_ast", "distilled_cnn")
    ),
    # The outputs of one epoch's weights, measured by themselves.
    "stages.first_epoch={module: Train, after: train_ast_audioset20k, average_weights: [1, 1], dataset: audioset, "
    "board: audioset-20k, modality: a, options: {network: ast}}",
    "stage=[ensemble_audioset20k,checkpoints_ast_audioset20k,first_epoch]",
]


@pytest.fixture(scope="module")
def cmkd(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cmkd")
    assert main(["run", *arguments(clips, folder, "cmkd", *CMKD)]) == 0
    return folder


@pytest.fixture(scope="module")
def stages(clips: Path, cmkd: Path) -> dict[str, PlannedStage]:
    found = planned(clips, cmkd, "cmkd", *CMKD)
    assert all(stage.done for stage in found.values())
    return {name.removesuffix("_audioset20k"): stage for name, stage in found.items()}


@pytest.mark.parametrize("network", ["ast", "cnn"])
def test_averaged_weights_are_the_mean_of_the_epochs_entry_by_entry(stages, network):
    """Batch norm's statistics included; what only counts batches is the last epoch's."""
    parent, mean = stages[f"distill_{network}"], weights(stages[f"average_distilled_{network}"])
    first, last = (torch.load(epoch_weights(parent.folder, n), weights_only=True) for n in (1, 2))
    assert first.keys() == last.keys() == mean.keys()
    for name, value in mean.items():
        expected = (first[name].double() + last[name].double()) / 2 if value.is_floating_point() else last[name]
        torch.testing.assert_close(value.to(expected.dtype), expected, rtol=1e-6, atol=1e-9)
    assert any(not torch.equal(first[name], last[name]) for name in mean)


def test_the_last_kept_epoch_is_the_end_of_training_and_nothing_else_is_kept(stages):
    for name in ("train_ast", "distill_ast", "distill_cnn"):
        kept = {path.name for path in (stages[name].folder / "epochs").iterdir()}
        assert kept == {"1.pt", "2.pt"}
        last, final = torch.load(epoch_weights(stages[name].folder, 2), weights_only=True), weights(stages[name])
        assert all(torch.equal(last[key], final[key]) for key in final)
    assert not (stages["average_distilled_ast"].folder / "epochs").exists()


def test_averaged_outputs_are_the_mean_probability_of_the_epochs(stages):
    """The second epoch is the last, so its outputs are the stage's."""
    each = [sigmoid(scores(stages[name], "a")) for name in ("first_epoch", "train_ast")]
    assert np.abs(each[0] - each[1]).max() > 1e-4  # or the mean would say nothing
    np.testing.assert_allclose(sigmoid(scores(stages["checkpoints_ast"], "a")), np.mean(each, axis=0), atol=1e-6)


def test_an_ensemble_s_predictions_are_its_members_mean_probability(stages):
    together = stages["ensemble"]
    read = [read_predictions(m.folder / "predictions.parquet") for m in together.members]
    expected = mean_probability(together.board, "a", read, ["a", "a"])
    found = read_predictions(together.folder / "predictions.parquet")
    assert list(found.clip_id) == list(expected.clip_id) and len(found.clip_id) == len(together.scored)
    np.testing.assert_array_equal(found.target, expected.target)
    np.testing.assert_array_equal(found.scores["a"], expected.scores["a"])
    each = [sigmoid(scores(member, "a")) for member in together.members]
    np.testing.assert_allclose(sigmoid(scores(together, "a")), np.mean(each, axis=0), atol=1e-9)
    assert not (together.folder / "weights.pt").exists()


def test_a_student_s_weights_have_nothing_of_its_teacher(stages):
    student, alone = weights(stages["distill_ast"]), weights(stages["train_ast"])
    assert student.keys() == alone.keys() and stages["distill_ast"].parameters == stages["train_ast"].parameters


def test_records_name_all_that_a_result_comes_from(stages):
    def parents(name: str) -> list[tuple[str, str]]:
        record = json.loads((stages[name].folder / "record.json").read_text())
        return [(parent["stage"], parent["identity"]) for parent in record["parents"]]

    teacher = stages["train_cnn"]
    assert parents("distill_ast") == [(teacher.name, teacher.identity)]
    student = stages["distill_ast"]
    assert parents("average_distilled_ast") == [(each.name, each.identity) for each in (teacher, student)]
    assert parents("ensemble") == [(each.name, each.identity) for each in stages["ensemble"].ancestors]


def test_the_same_clips_are_no_pretraining(cmkd: Path, stages):
    """Teachers, members and averaged classifiers all learned from the board's own training clips."""
    table = pd.read_csv(cmkd / "boards" / "sample" / "audioset-20k.csv").set_index("stage")
    assert len(table) == len(stages)
    assert table["pretraining"].dropna().to_dict() == {}


def test_the_cost_of_all_networks_counts(stages):
    record = json.loads((stages["ensemble"].folder / "record.json").read_text())
    costs = [json.loads((each.folder / "done.json").read_text())["cost"] for each in stages["ensemble"].ancestors]
    assert record["cost"]["parameters"] == sum(each.parameters for each in stages["ensemble"].members)
    assert record["cost"]["total_device_hours"] == pytest.approx(sum(cost["device_hours"] for cost in costs))


def test_run_again_finds_everything_done(clips: Path, cmkd: Path, capsys):
    before = {path: path.stat().st_mtime_ns for path in cmkd.rglob("*") if path.is_file()}
    assert main(["run", *arguments(clips, cmkd, "cmkd", *CMKD)]) == 0
    assert capsys.readouterr().err.count("done already") == 9
    assert {path: path.stat().st_mtime_ns for path in cmkd.rglob("*") if path.is_file()} == before


def test_where_a_protocol_s_version_is_raised_predictions_are_measured_again_and_nothing_is_trained(
    clips: Path, cmkd: Path, tmp_path, monkeypatch
):
    for name in ("runs", "boards"):
        shutil.copytree(cmkd / name, tmp_path / name)
    names, results = ("train_ast_audioset20k", "ensemble_audioset20k"), tmp_path / "boards" / "sample" / "results"
    kept = {path: path.read_bytes() for path in (*results.iterdir(), *tmp_path.glob("runs/*/*/*.p[ta]*"))}
    raised = {name: replace(board, version=7) for name, board in registry.boards().items()}
    monkeypatch.setattr(registry, "boards", lambda: raised)
    monkeypatch.setattr("bench.run.execute.run_stage", lambda *_: pytest.fail("nothing is to be trained"))
    plan = make_plan(compose("cmkd", arguments(clips, tmp_path, "cmkd", *CMKD)[1:]))
    assert {stage.state for stage in plan.stages} == {"to be measured again"}  # that is, their identities are the same
    plan.stages = [stage for stage in plan.stages if stage.name in names]
    monkeypatch.setattr("bench.run.execute.make_plan", lambda _: plan)

    assert main(["run", *arguments(clips, tmp_path, "cmkd", *CMKD)]) == 0
    assert {stage.state for stage in plan.stages} == {"done"}
    assert all(path.read_bytes() == content for path, content in kept.items())  # weights, predictions, old records
    old, new = (
        {record["stage"]: record for record in (json.loads(path.read_text()) for path in paths)}
        for paths in (kept.keys() & set(results.iterdir()), set(results.iterdir()) - kept.keys())
    )
    assert new.keys() == set(names)
    for stage, record in new.items():
        for part in ("protocol", "board_definition"):
            assert (record[part].pop("version"), old[stage][part].pop("version")) == (7, 1)
        assert record["predictions_commit"] == old[stage]["commit"]
        differing = {name for name in record if record[name] != old[stage][name]}
        assert differing <= {"id", "created", "commit", "dirty", "predictions_commit"}
    shown = pd.read_csv(tmp_path / "boards" / "sample" / "audioset-20k.csv")
    assert set(shown["stage"]) == set(names)  # the old ones are hidden


@pytest.mark.slow
def test_predictions_that_are_gone_cannot_be_measured_again(clips: Path, cmkd: Path, tmp_path, monkeypatch, capsys):
    shutil.copytree(cmkd / "runs", tmp_path / "runs")
    raised = {name: replace(board, version=7) for name, board in registry.boards().items()}
    monkeypatch.setattr(registry, "boards", lambda: raised)
    stage = planned(clips, tmp_path, "cmkd", *CMKD, "stage=train_cnn_audioset20k")["train_cnn_audioset20k"]
    (stage.folder / "predictions.parquet").unlink()
    run = arguments(clips, tmp_path, "cmkd", *CMKD, "stage=train_cnn_audioset20k")
    assert main(["run", *run]) != 0
    message = capsys.readouterr().err.replace("\n", "")
    assert "predictions.parquet is not there" in message and f"remove {stage.folder / 'done.json'}" in message
    before = weights(stage)
    (stage.folder / "done.json").unlink()
    monkeypatch.setattr("lightning.Trainer.fit", lambda *_, **__: pytest.fail("its weights are there"))
    assert main(["run", *run]) == 0
    assert not stage.outdated and all(torch.equal(value, before[key]) for key, value in weights(stage).items())


def test_an_epoch_is_kept_as_it_ended_where_a_batch_comes_in_parts(tmp_path):
    """`trainer.device_batch`: the step's number stays while the next step's first part goes through batch norm."""
    kept, module = KeepEpochs(tmp_path, frozenset({1}), steps_per_epoch=3), nn.BatchNorm1d(2)
    for step, seen in ((2, 1.0), (3, 2.0), (3, 3.0), (4, 4.0)):
        module.running_mean.fill_(seen)
        kept.on_train_batch_end(SimpleNamespace(global_step=step, is_global_zero=True), module)
    assert torch.load(epoch_weights(tmp_path, 1), weights_only=True)["running_mean"].tolist() == [2.0, 2.0]


# --- UAVM: features that another stage extracts

UAVM = [
    *("model.dim=16", "model.shared_dim=16", "model.heads=2", "model.feature_dim=16", "model.steps=5"),
    *("model.extractor.widths=[8,8,16]", "data.inputs.audio.frames=160", "data.inputs.audio.mel_bins=32"),
    *("data.inputs.video.frames=3", "data.inputs.video.size=32", "data.inputs.video.train_size=32"),
    *(
        f"stages.{name}.{setting}"
        for name in ("train_extractor_vggsound", "train_extractor_vggsound_v", "train_vggsound")
        for setting in ("epochs=1", "batch_size=8")
    ),
    "stages.train_extractor_vggsound.data.inputs.audio.frames=160",
    *("stages.extract_vggsound_a.batch_size=8", "stages.extract_vggsound_v.batch_size=8"),
    "stage=train_vggsound",
]
KILLED = """
import os, signal, sys
from datamodules.features import extracted
extracted.PART_BYTES = 1  # every batch is a part
written = extracted.FeatureWriter.flush
def flush(self):
    written(self)
    if len(extracted.parts(self.folder)) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
extracted.FeatureWriter.flush = flush
from bench.cli import main
main(sys.argv[1:])
"""


@pytest.fixture(scope="module")
def cut_off(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was killed when it had written the features of two batches."""
    folder = tmp_path_factory.mktemp("uavm")
    run = [sys.executable, "-c", KILLED, "run", *arguments(clips, folder, "uavm", *UAVM)]
    killed = subprocess.run(run, cwd=REPOSITORY, capture_output=True, text=True, timeout=200)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    return folder


@pytest.fixture(scope="module")
def uavm(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """An undisturbed run, which writes the features of each batch into a part of its own."""
    folder = tmp_path_factory.mktemp("undisturbed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(extracted, "PART_BYTES", 1)
        assert main(["run", *arguments(clips, folder, "uavm", *UAVM)]) == 0
    return SimpleNamespace(stages=planned(clips, folder, "uavm", *UAVM), folder=folder)


@pytest.fixture(scope="module")
def gone_on(clips: Path, cut_off: Path) -> SimpleNamespace:
    """The run that was killed, gone on with to its end, and what it wrote."""
    found = planned(clips, cut_off, "uavm", *UAVM)
    sound = found["extract_vggsound_a"]
    there = {path.name: path.read_bytes() for path in extracted.parts(sound.folder / "features")}
    before, state = set(extracted_ids(sound.folder / "features")), sound.state
    added: dict[Path, list[str]] = {}
    with pytest.MonkeyPatch.context() as patch:
        add = FeatureWriter.add

        def noted(writer: FeatureWriter, clip_ids, features):
            added.setdefault(writer.folder, []).extend(clip_ids)
            add(writer, clip_ids, features)

        patch.setattr(FeatureWriter, "add", noted)
        assert main(["run", *arguments(clips, cut_off, "uavm", *UAVM)]) == 0
    return SimpleNamespace(stages=found, there=there, before=before, state=state, added=added)


@pytest.mark.slow
def test_extraction_goes_on_where_it_was_killed(gone_on):
    sound = gone_on.stages["extract_vggsound_a"]
    wanted, folder = set(sound.extracted.table["clip_id"]), sound.folder / "features"
    assert gone_on.state == "cut off" and len(gone_on.there) == 2 and len(gone_on.before) == 16
    assert sorted(gone_on.added[folder]) == sorted(wanted - gone_on.before)
    assert sorted(extracted_ids(folder)) == sorted(wanted) and len(wanted) == 33
    assert all((folder / name).read_bytes() == content for name, content in gone_on.there.items())


def test_features_are_what_the_extractor_s_network_gives(uavm):
    """The weights of the stage before, without its classifier, are those that extract."""
    taught, extractor = (weights(uavm.stages[name]) for name in ("train_extractor_vggsound", "extract_vggsound_a"))
    assert extractor.keys() == {key for key in taught if not key.startswith("net.head.")}
    assert all(torch.equal(value, taught[key]) for key, value in extractor.items())


def test_the_trained_stage_measures_what_it_read(uavm):
    """Its answers, from the features in the files and its weights alone."""
    stage = uavm.stages["train_vggsound"]
    module = stage.stage_class(stage.spec).eval()
    module.load_state_dict(weights(stage))
    table = stage.scored.table.sort_values("clip_id")
    batch = {"clip_id": table["clip_id"].tolist()}
    for modality, key in (("a", "audio_feat"), ("v", "video_feat")):
        read = ExtractedFeatures(stage.features[modality].folder / "features", table["clip_id"])
        batch[key] = torch.stack([read[row] for row in range(len(table))])
    with torch.no_grad():
        expected = module.predict_step(batch, 0)["logits"]["av"].double().numpy()
    assert np.ptp(expected, axis=0).max() > 1e-3  # clips differ, or it would say nothing
    np.testing.assert_allclose(scores(stage, "av"), expected, atol=1e-5)


@pytest.mark.slow
def test_two_processes_extract_each_clip_once_and_measure_what_one_does(clips: Path, uavm, tmp_path):
    """33 and 17 clips do not divide by two."""
    shutil.copytree(uavm.folder / "runs", tmp_path / "runs")
    two = planned(clips, tmp_path, "uavm", *UAVM)
    for name in ("extract_vggsound_a", "extract_vggsound_v"):
        (two[name].folder / "done.json").unlink()
        shutil.rmtree(two[name].folder / "features")
    (two["train_vggsound"].folder / "done.json").unlink()  # its weights are kept, so that nothing is trained again
    processes = ["trainer.accelerator=cpu", "trainer.devices=2"]
    run = [sys.executable, "-m", "bench", "run", *arguments(clips, tmp_path, "uavm", *UAVM, *processes)]
    done = subprocess.run(run, cwd=REPOSITORY, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    for name in ("extract_vggsound_a", "extract_vggsound_v"):
        folder, clip_ids = two[name].folder / "features", two[name].extracted.table["clip_id"]
        assert sorted(extracted_ids(folder)) == sorted(clip_ids)
        assert {path.name[0] for path in extracted.parts(folder)} == {"0", "1"}
        one = ExtractedFeatures(uavm.stages[name].folder / "features", clip_ids)
        both = ExtractedFeatures(folder, clip_ids)
        for row in range(len(clip_ids)):
            torch.testing.assert_close(both[row], one[row], rtol=2e-3, atol=1e-4)  # float16
    measured = scores(two["train_vggsound"], "av")
    np.testing.assert_allclose(measured, scores(uavm.stages["train_vggsound"], "av"), atol=2e-3)


# --- other labels for training


def test_a_list_of_other_labels_changes_what_is_trained_on_and_not_what_is_scored(stages, clips: Path, tmp_path):
    official, classes = stages["train_cnn"], pd.read_csv(clips / "AudioSet" / "class_labels_indices.csv")["mid"]
    assert not official.train.table["labels"].map(lambda row: 2 in row).all()
    entries = [
        {"wav": f"/anywhere/{row.video_id}_{row.start:.3f}.flac", "labels": ",".join(classes[[*row.labels, 2]])}
        for row in official.train.table.iloc[1:].itertuples()
    ]
    path = tmp_path / "balanced_train_data_type1_2_mean.json"
    path.write_text(json.dumps({"data": entries}))
    given = [*CMKD[:-1], "stage=train_cnn_audioset20k", f"stages.train_cnn_audioset20k.data.train_labels_file={path}"]
    enhanced = planned(clips, tmp_path, "cmkd", *given)["train_cnn_audioset20k"]
    assert len(enhanced.train) == len(official.train) - 1
    assert enhanced.train.excluded["not in data.train_labels_file"] == 1
    assert enhanced.train.table["labels"].map(lambda row: 2 in row).all()
    assert enhanced.identity != official.identity
    assert enhanced.scored.fingerprint == official.scored.fingerprint
    assert shareable(enhanced.config)["data"]["train_labels_file"] == file_hash(path)  # no place of this machine


def test_a_list_of_other_labels_that_is_not_there_is_refused(clips: Path, tmp_path, capsys):
    given = ["stage=train_cnn_audioset20k", "data.train_labels_file=nowhere.json"]
    text = user_error(capsys, *arguments(clips, tmp_path, "cmkd", *given))
    assert "stages.train_cnn_audioset20k.data.train_labels_file=nowhere.json: there is no such file" in text
