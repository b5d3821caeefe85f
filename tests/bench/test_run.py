"""The main job through the command line: real media, real processes, real kills."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from bench import records
from tests.conftest import REPOSITORY

# A network that trains in a second; two epochs of two or three steps each.
SMALLEST = [
    *("model.dim=32", "model.depth=2", "model.heads=2", "model.fusion_depth=1"),
    *("model.decoder_dim=32", "model.decoder_depth=1", "model.decoder_heads=2"),
    *("data.loader.workers=0", "trainer.checkpoint_every=1"),
    *(f"stages.finetune_{name}=null" for name in ("audioset_a", "audioset_v", "vggsound_a", "vggsound_v")),
]
STAGES = ("pretrain", "pretrain_2", "finetune_audioset_av", "finetune_vggsound_av")
SCRATCH = ["variant=scratch", "stage=finetune_vggsound_av"]


def command(sample_root: Path, folder: Path, *overrides: str) -> list[str]:
    stages = STAGES[2:] if "variant=scratch" in overrides else STAGES
    training = [f"stages.{stage}.{setting}" for stage in stages for setting in ("epochs=2", "batch_size=16")]
    # Stochastic depth draws from torch's own generator, which a resumed run must find as it was.
    options = [f"stages.{stage}.options.{o}" for stage in STAGES[2:] for o in ("ft_fusion_depth=2", "drop_path=0.3")]
    places = [f"sample_root={sample_root}", f"runs={folder / 'runs'}", f"leaderboards={folder / 'leaderboards'}"]
    return [sys.executable, "-m", "bench", "run", "mavil", *SMALLEST, *training, *options, *places, *overrides]


def bench(sample_root: Path, folder: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    run = command(sample_root, folder, *overrides)
    return subprocess.run(run, cwd=REPOSITORY, capture_output=True, text=True, timeout=300)


def run_folders(folder: Path) -> dict[str, Path]:
    """Stage -> its folder."""
    return {path.name.rpartition("-")[0]: path for path in (folder / "runs" / "mavil").iterdir()}


def weights(folder: Path) -> dict[str, dict[str, torch.Tensor]]:
    return {stage: torch.load(path / "weights.pt", weights_only=True) for stage, path in run_folders(folder).items()}


@pytest.fixture(scope="module")
def finished(sample_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed run of the whole plan."""
    folder = tmp_path_factory.mktemp("finished")
    done = bench(sample_root, folder)
    assert done.returncode == 0, done.stderr
    (folder / "stdout").write_text(done.stdout)
    return folder


def test_a_run_leaves_boards_records_and_predictions(finished: Path):
    boards = finished / "leaderboards" / "sample"
    assert {p.stem for p in boards.glob("*.md")} == {"audioset-20k", "vggsound", "vggsound-a2v", "vggsound-v2a"}
    found, errors = records.read_all(boards / "results")
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


def test_run_again_finds_everything_done(sample_root: Path, finished: Path):
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.is_file()}
    again = bench(sample_root, finished)
    assert again.returncode == 0 and again.stderr.count("done already") == 6
    assert again.stdout == (finished / "stdout").read_text()
    assert {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.is_file()} == before


def test_another_seed_is_another_run_on_the_same_row(sample_root: Path, finished: Path, tmp_path: Path):
    shutil.copytree(finished, tmp_path / "copy")
    done = bench(sample_root, tmp_path / "copy", "seed=1", *SCRATCH)
    assert done.returncode == 0, done.stderr
    found, _ = records.read_all(tmp_path / "copy" / "leaderboards" / "sample" / "results")
    assert sorted((record.seed, record.variant) for record in found if record.board == "vggsound") == [
        (0, ""),
        (1, "scratch"),
    ]


@pytest.mark.slow
def test_killed_in_the_middle_of_each_stage_it_resumes_to_the_same_weights(
    sample_root: Path, finished: Path, tmp_path: Path
):
    expected = run_folders(finished)
    for stage in STAGES:
        process = subprocess.Popen(
            command(sample_root, tmp_path), cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        checkpoint = tmp_path / "runs" / "mavil" / expected[stage].name / "resume.ckpt"
        deadline = time.monotonic() + 200
        while not checkpoint.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert checkpoint.exists(), f"{stage} was never cut off in its middle"
        assert not (checkpoint.parent / "done.json").exists()
    done = bench(sample_root, tmp_path)
    assert done.returncode == 0, done.stderr
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
    done = bench(sample_root, tmp_path / "copy", "trainer.accelerator=cpu", "trainer.devices=2")
    assert done.returncode == 0, done.stderr
    assert [line.strip() for line in done.stdout.splitlines()].count("audioset-20k") == 1  # one of them tells
    one, _ = records.read_all(finished / "leaderboards" / "sample" / "results")
    two, _ = records.read_all(tmp_path / "copy" / "leaderboards" / "sample" / "results")
    assert [record.board for record in two] == [record.board for record in one]
    for a, b in zip(one, two, strict=True):
        assert (a.metrics, a.n, a.identity) == (b.metrics, b.n, b.identity)


@pytest.mark.slow
def test_two_processes_train_a_stage(sample_root: Path, finished: Path, tmp_path: Path):
    # Without stochastic depth, which each rank draws for itself, and mixup, whose partner is from the rank's own batch.
    stage = "stages.finetune_vggsound_av"
    options = [*SCRATCH, f"{stage}.data.augment.mixup=0", f"{stage}.options.drop_path=0"]
    done = bench(sample_root, tmp_path, *options, "trainer.accelerator=cpu", "trainer.devices=2")
    assert done.returncode == 0, done.stderr
    alone = bench(sample_root, tmp_path / "alone", *options)
    assert alone.returncode == 0, alone.stderr
    together, single = weights(tmp_path), weights(tmp_path / "alone")
    for name, tensor in single["finetune_vggsound_av"].items():
        # Adam turns the rounding of a gradient near zero into a step of up to its whole rate.
        torch.testing.assert_close(together["finetune_vggsound_av"][name], tensor, rtol=1e-3, atol=1e-4)
