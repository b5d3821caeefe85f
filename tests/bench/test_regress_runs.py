"""`bench regress` through the command line, in a small copy of the repository: real trainings, planted mistakes.

Times decide nothing here but where a sleep is planted, against a baseline whose times are given.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

from bench.regress.measure import MeasuredTree, Run, measure
from tests.conftest import REPOSITORY

pytestmark = pytest.mark.slow

MBT = [
    *("preset=tiny", "stage=train_vggsound_a", "model.depth=2", "model.fusion_layer=1"),
    *("stages.train_vggsound_a.epochs=20", "stages.train_vggsound_a.batch_size=16"),
]
MAVIL = [
    *("preset=tiny", "variant=scratch", "stage=finetune_vggsound_a"),
    *("model.dim=32", "model.depth=2", "model.heads=2", "model.fusion_depth=1"),
    *("model.decoder_dim=32", "model.decoder_depth=1", "model.decoder_heads=2"),
    *("stages.finetune_vggsound_a.epochs=2", "stages.finetune_vggsound_a.batch_size=16"),
]
ANY = 1e9
"""A tolerance that no machine's load comes near."""


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The code as it is, committed in a repository of its own."""
    root = tmp_path / "copy"
    for folder in ("bench", "datamodules", "experiments"):
        shutil.copytree(REPOSITORY / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(REPOSITORY / ".gitignore", root)
    name = ("-c", "user.name=tests", "-c", "user.email=tests@example.org", "-c", "commit.gpgsign=false")
    for command in (["init", "-q"], ["add", "-A"], [*name, "commit", "-q", "-m", "the code"]):
        subprocess.run(["git", *command], cwd=root, check=True)
    return root


def suite(copy: Path, step: float = ANY, **runs: list[str]) -> Path:
    """A suite beside the copy, so that the copy's tree stays as it is."""
    file = copy.parent / "suite.yaml"
    content = {method: {"method": method, "overrides": overrides} for method, overrides in runs.items()}
    file.write_text(yaml.safe_dump({"tolerances": {"step": step, "memory": ANY}, "runs": content}))
    return file


def regress(copy: Path, sample_root: Path, file: Path, *options: str) -> subprocess.CompletedProcess[str]:
    places = ["--suite", str(file), "--sample-root", str(sample_root), "--baselines", str(copy.parent / "baselines")]
    return subprocess.run(
        [sys.executable, "-m", "bench", "regress", *places, "--devices", "1", *options],
        cwd=copy,
        env=os.environ | {"PYTHONPATH": str(copy), "OMP_NUM_THREADS": "1", "COLUMNS": "160"},
        capture_output=True,
        text=True,
        timeout=550,
    )


def plant(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert text.count(old) == 1, f"{file} has {old!r} {text.count(old)} times"
    file.write_text(text.replace(old, new))


def test_a_broken_learning_rate_is_named_with_its_figure(copy: Path, sample_root: Path, tmp_path: Path):
    plant(copy / "experiments/mbt/config.yaml", "algorithm: adamw, lr: 2.0e-3", "algorithm: adamw, lr: 2.0e-9")
    done = regress(copy, sample_root, suite(copy, mbt=MBT), "--junit", str(tmp_path / "junit.xml"))
    assert done.returncode == 1, done.stdout + done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("regression: ")]
    assert any(line.startswith("regression: mbt train_vggsound_a vggsound top-") for line in lines), done.stdout
    assert not any("training step" in line or "memory" in line for line in lines)
    cases = ElementTree.parse(tmp_path / "junit.xml").iter("testcase")
    failed = {(case.get("classname"), case.get("name")) for case in cases if case.find("failure") is not None}
    assert len(failed) == len(lines) and {place for place, _ in failed} == {"mbt.train_vggsound_a"}


def test_an_unchanged_tree_has_the_last_commits_metrics_and_a_sleep_shows_against_a_stored_baseline(
    copy: Path, sample_root: Path
):
    done = regress(copy, sample_root, suite(copy, mavil=MAVIL))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "against commit" in done.stderr and "none of 5 figures got worse" in done.stdout
    assert done.stdout.count("+0.0 [+0.0, +0.0]") == 3  # the metrics
    for side in ("before", "after"):
        left = json.loads((copy / f"runs/regress/{side}/mavil/measured.json").read_text())
        assert len(left["seconds"]) == 6 and left["memory"] > 2**20  # two epochs of three steps

    stored = regress(copy, sample_root, suite(copy, mavil=MAVIL), "--store")
    assert stored.returncode == 0, stored.stdout + stored.stderr
    (baseline,) = copy.parent.glob("baselines/*/mavil")
    assert {path.name for path in baseline.iterdir()} == {"measured.json", "finetune_vggsound_a-vggsound.parquet"}
    # As if it were of a quiet machine, so that a sleep is longer than any step that was measured.
    content = json.loads((baseline / "measured.json").read_text())
    (baseline / "measured.json").write_text(json.dumps(content | {"seconds": [0.01] * 6}))

    step = "def training_step(self, batch: Batch, batch_idx: int) -> Tensor:\n"
    plant(copy / "experiments/common/stage.py", step, step + '        __import__("time").sleep(0.5)\n')
    slow = regress(copy, sample_root, suite(copy, step=19.0, mavil=MAVIL))
    assert slow.returncode == 1, slow.stdout + slow.stderr
    (line,) = [line for line in slow.stdout.splitlines() if line.startswith("regression: ")]
    assert line.startswith("regression: mavil finetune_vggsound_a training step: 10.0 ms -> ")


def test_a_run_that_fails_says_why(tmp_path: Path):
    run = Run("mbt", ["preset=tiny", "stage=none"])
    (failed,) = measure("mbt", run, [MeasuredTree(REPOSITORY, tmp_path, ())])
    assert failed.failure.startswith("ended with 2: bench: ") and "none" in failed.failure
    assert (
        not failed.scored and failed.failure.removeprefix("ended with 2: ") in (failed.folder / "log.txt").read_text()
    )
