"""Runs of some stages of any method on sample data, and what they leave behind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from bench.cli import main
from bench.config.compose import compose
from bench.plan.graph import PlannedStage, make_plan


def arguments(sample_root: Path, folder: Path, method: str, *overrides: str) -> list[str]:
    """Of `bench run` in preset tiny, with its runs and boards below a folder."""
    places = [f"sample_root={sample_root}", f"runs={folder / 'runs'}", f"leaderboards={folder / 'boards'}"]
    return [method, "preset=tiny", "data.loader.workers=0", *places, *overrides]


def planned(sample_root: Path, folder: Path, method: str, *overrides: str) -> dict[str, PlannedStage]:
    """Name -> stage."""
    method, *rest = arguments(sample_root, folder, method, *overrides)
    return {stage.name: stage for stage in make_plan(compose(method, rest)).stages}


def weights(stage: PlannedStage) -> dict[str, torch.Tensor]:
    return torch.load(stage.folder / "weights.pt", weights_only=True)


def scores(stage: PlannedStage, modality: str) -> np.ndarray:
    """[N, C] of the stored predictions, in the order of the clips' ids."""
    table = pd.read_parquet(stage.folder / "predictions.parquet").sort_values("clip_id")
    return np.stack(table[modality].to_numpy()).astype(np.float64)


def user_error(capsys: pytest.CaptureFixture[str], *run: str) -> str:
    """The message with which `bench run` refuses a user's mistake."""
    assert main(["run", *run]) == 2
    message = capsys.readouterr().err
    assert "Traceback" not in message
    return message[message.index("bench: ") :]
