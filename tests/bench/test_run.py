"""The main job through the command line: real media, real processes, real kills."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from bench.records import archive
from tests.bench.runs import STAGES, TWO_PROCESSES, Server, arguments, environment, run_folders, weights, whole_plan
from tests.conftest import REPOSITORY


def bench(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bench", *arguments]
    return subprocess.run(command, cwd=REPOSITORY, env=environment(), capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def finished(sample_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed run of the whole plan."""
    folder = tmp_path_factory.mktemp("finished")
    done = bench(whole_plan(sample_root, folder))
    assert done.returncode == 0, done.stderr
    (folder / "stdout").write_text(done.stdout)
    return folder


def test_a_run_leaves_boards_records_and_predictions(finished: Path):
    boards = finished / "leaderboards" / "sample"
    assert {p.stem for p in boards.glob("*.md")} == {"audioset-20k", "vggsound", "vggsound-a2v", "vggsound-v2a"}
    found, errors = archive.read_all(boards / "results")
    assert not errors and len(found) == 4
    by_board = {record.board: record for record in found}
    assert set(by_board["audioset-20k"].metrics) >= {"mAP", "dprime"}
    assert set(by_board["vggsound"].metrics) >= {"top1", "top5"}
    assert set(by_board["vggsound-a2v"].metrics) >= {"R@1", "R@5", "R@10", "MedR"}
    record = by_board["vggsound"]
    assert record.sample and record.n == record.data.used == record.data.official == 61
    assert [parent.stage for parent in record.parents] == ["pretrain", "pretrain_2"]
    assert record.cost.parameters and record.cost.samples_per_second
    folder = run_folders(finished)["finetune_vggsound_av"]
    assert json.loads((folder / "record.json").read_text())["id"] == record.id
    assert len(pq.read_table(folder / "predictions.parquet")) == 61
    assert (folder / "metrics.csv").read_text().startswith("step,")
    assert "top-1" in (finished / "stdout").read_text() and "Made-up sample data" in (finished / "stdout").read_text()


@pytest.mark.slow
def test_run_again_finds_everything_done(forked: Server, sample_root: Path, finished: Path):
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.is_file()}
    again = forked(None, whole_plan(sample_root, finished))
    assert again.status == 0 and again.stderr.count("done already") == 6
    assert again.stdout == (finished / "stdout").read_text()
    assert {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.is_file()} == before


@pytest.mark.slow
def test_another_seed_is_another_run_on_the_same_row(forked: Server, sample_root: Path, finished: Path, tmp_path: Path):
    shutil.copytree(finished, tmp_path / "copy")
    done = forked(None, arguments(sample_root, tmp_path / "copy", "seed=1"))
    assert done.status == 0, done.stderr
    found, _ = archive.read_all(tmp_path / "copy" / "leaderboards" / "sample" / "results")
    assert sorted((record.seed, record.variant) for record in found if record.board == "vggsound") == [
        (0, ""),
        (1, "scratch"),
    ]


@pytest.mark.slow
def test_killed_in_the_middle_of_each_stage_it_resumes_to_the_same_weights(
    forked: Server, sample_root: Path, finished: Path, tmp_path: Path
):
    run = whole_plan(sample_root, tmp_path)
    for stage in STAGES:
        killed = forked(["moments", None, ["after replace resume.ckpt 1"]], run)  # it went on past the one before
        assert killed.status == -signal.SIGKILL, killed.stderr
        folder = run_folders(tmp_path)[stage]
        assert (folder / "resume.ckpt").exists() and not (folder / "done.json").exists()
    done = forked(None, run)
    assert done.status == 0, done.stderr
    assert "finetune_vggsound_av: goes on where it was cut off" in done.stderr
    undisturbed, resumed = weights(finished), weights(tmp_path)
    assert undisturbed.keys() == resumed.keys()
    for stage, tensors in undisturbed.items():
        for name, tensor in tensors.items():
            assert torch.equal(tensor, resumed[stage][name]), f"{stage}: {name}"


@pytest.mark.slow
def test_two_processes_measure_what_one_measures(sample_root: Path, finished: Path, tmp_path: Path):
    """61 and 37 clips do not divide by two; a sampler that pads would score some clips twice."""
    shutil.copytree(finished, tmp_path / "copy")
    shutil.rmtree(tmp_path / "copy" / "leaderboards")
    for folder in run_folders(tmp_path / "copy").values():
        (folder / "done.json").unlink()  # the weights are kept, so that nothing is trained again
    done = bench(whole_plan(sample_root, tmp_path / "copy", *TWO_PROCESSES))
    assert done.returncode == 0, done.stderr
    assert [line.strip() for line in done.stdout.splitlines()].count("audioset-20k") == 1  # one of them prints
    one, _ = archive.read_all(finished / "leaderboards" / "sample" / "results")
    two, _ = archive.read_all(tmp_path / "copy" / "leaderboards" / "sample" / "results")
    assert [record.board for record in two] == [record.board for record in one]
    for a, b in zip(one, two, strict=True):
        assert (a.metrics, a.n, a.identity) == (b.metrics, b.n, b.identity)


@pytest.mark.slow
def test_two_processes_train_a_stage(forked: Server, sample_root: Path, tmp_path: Path):
    # Without stochastic depth, which each rank draws for itself; the partners of mixup are the same for any number.
    stage = "stages.finetune_vggsound_av"
    options = [f"{stage}.data.augment.mixup=0.5", f"{stage}.options.drop_path=0"]
    done = bench(arguments(sample_root, tmp_path, *options, *TWO_PROCESSES))
    assert done.returncode == 0, done.stderr
    alone = forked(None, arguments(sample_root, tmp_path / "alone", *options))
    assert alone.status == 0, alone.stderr
    together, single = weights(tmp_path), weights(tmp_path / "alone")
    for name, tensor in single["finetune_vggsound_av"].items():
        # Adam turns the rounding of a gradient near zero into a step of up to its whole rate.
        torch.testing.assert_close(together["finetune_vggsound_av"][name], tensor, rtol=1e-3, atol=1e-4)
