"""Files of weights exactly as the authors' own trainers save them, read by the harness and taken by each stage."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from datamodules.weight_files import read_checkpoint
from tests.experiments.test_narrated_stages import TINY, official


def optimizer_after_a_step() -> torch.optim.Adam:
    optimizer = torch.optim.Adam(nn.Linear(2, 2).parameters(), lr=1e-3)
    optimizer.param_groups[0]["params"][0].grad = torch.ones(2, 2)
    optimizer.step()
    return optimizer


AMP = OrderedDict(loss_scaler0={"loss_scale": 65536.0, "unskipped": 12})
"""Apex' `amp.state_dict()`."""
CONFIG = OrderedDict(
    n_gpu=4,
    arch=OrderedDict(type="EverythingAtOnceModel", args=OrderedDict(video_embed_dim=4096, davenet_v2=True)),
    val_data_loaders=[OrderedDict(type="FeatureDataloader", args=OrderedDict(batch_size=8))],
    metrics=["t2v_metrics", "t2va_metrics"],
    trainer=OrderedDict(epochs=15, monitor="off", save_dir="./output"),
)
"""Of a file `config.yaml`, as Everything at Once's `read_yaml` gives it."""


def avlnet_saves(weights: dict[str, Tensor], folder: Path) -> dict[str, Any]:
    """`Net.save_checkpoint`, and the file beside it with Apex (`train.py`)."""
    state = OrderedDict(weights)
    return {
        "e30.pth": state,
        "amp_checkpoint.pt": {"net": state, "optimizer": optimizer_after_a_step().state_dict(), "amp": AMP},
    }


def mcn_saves(weights: dict[str, Tensor], folder: Path) -> dict[str, Any]:
    """The same, with the scheduler (`train_tri_kmeans.py`)."""
    optimizer = optimizer_after_a_step()
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0, -1)
    files = avlnet_saves(weights, folder)
    files["amp_checkpoint.pt"]["scheduler"] = scheduler.state_dict()
    return files


def everything_saves(weights: dict[str, Tensor], folder: Path) -> dict[str, Any]:
    """`BaseTrainer._save_checkpoint`, of several GPUs."""
    state = {
        "arch": "DataParallel",
        "epoch": 15,
        "step": 8000,
        "state_dict": OrderedDict(weights),  # `module.` in front of its keys
        "optimizer": optimizer_after_a_step().state_dict(),
        "monitor_best": 0,
        "config": CONFIG,
    }
    return {"latest_model.pth": state}


SAVED = {"avlnet": avlnet_saves, "mcn": mcn_saves, "everything_at_once": everything_saves}


@pytest.mark.parametrize("name", TINY)
def test_every_stage_starts_from_a_file_as_its_authors_trainer_saves_it(name, tmp_path):
    stage, expected, weights = official(name, tmp_path)
    files = SAVED[name.split()[0]](weights, tmp_path)
    for file, content in files.items():
        torch.save(content, tmp_path / file)
        for value in stage.net.state_dict().values():
            value.zero_()
        stage.load_parent(read_checkpoint(str(tmp_path / file)))
        assert all(torch.equal(value, stage.net.state_dict()[key]) for key, value in expected.items()), file
