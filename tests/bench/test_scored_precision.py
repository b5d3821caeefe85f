"""What is scored is computed in float32, whatever the training's precision."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from bench.cli import main
from bench.config.compose import compose
from bench.plan.graph import make_plan
from bench.run.results import read_predictions
from tests.bench.runs import arguments, run_folders

STAGE = "finetune_vggsound_av"


@pytest.fixture(scope="module")
def trained(sample_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a stage that was trained in bfloat16."""
    folder = tmp_path_factory.mktemp("precision")
    assert main(arguments(sample_root, folder, "trainer.precision=bf16-mixed")) == 0
    return run_folders(folder)[STAGE]


def logits(folder: Path) -> np.ndarray:
    return read_predictions(folder / "predictions.parquet").scores["av"]


def test_scores_are_not_rounded_to_the_training_s_precision(trained: Path) -> None:
    scores = torch.from_numpy(logits(trained))
    assert (scores.bfloat16().float() != scores).float().mean() > 0.9
    assert json.loads((trained / "record.json").read_text())["scored_precision"] == "float32"


@pytest.mark.slow
def test_scores_are_those_that_the_same_weights_give_in_float32(trained: Path, sample_root: Path, tmp_path) -> None:
    run, method, *overrides = arguments(sample_root, tmp_path, "trainer.precision=32-true")
    (exact,) = (stage.folder for stage in make_plan(compose(method, overrides)).stages)
    exact.mkdir(parents=True)
    for name in ("weights.pt", "training.json"):
        shutil.copy(trained / name, exact / name)
    assert main([run, method, *overrides]) == 0
    np.testing.assert_array_equal(logits(exact), logits(trained))
