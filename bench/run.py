"""Executes one stage: data + LightningModule + Trainer -> weights, predictions, a record."""

from __future__ import annotations

import json
import logging
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import lightning as L
import numpy as np
import pandas as pd
import torch
import torch.distributed as dist
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import OmegaConf

from bench import tasks
from bench.callbacks import Checkpoint, Collect, Cost, Curves, StageProgress, StepSeed
from bench.config import BenchConfig, TrainerConfig
from bench.devices import resolve_accelerator, resolve_precision
from bench.errors import UserError
from bench.plan import CHECKPOINT, DONE, WEIGHTS, Plan, PlannedStage, file_hash, make_plan
from bench.progress import console
from bench.results import stage_cost, write_record
from datamodules.base import AVDataModule
from datamodules.files import replacing, write_json
from datamodules.keyed import stable_hash
from experiments.common.stage import Stage

TRAINING_COST = "training.json"
LOG_EVERY = 10
"""Steps between two rows of the curves."""


def run(config: BenchConfig) -> Plan:
    """Runs what is not yet done of a method's plan, each stage after the one it starts from."""
    quiet_libraries()
    plan = make_plan(config)
    for position, stage in enumerate(plan.stages, 1):
        title = f"[{position}/{len(plan.stages)}] {config.method} {stage.name}"
        if stage.done:
            say(f"{title}: done already ({stage.folder})")
        else:
            run_stage(plan, stage, title)
    return plan


@rank_zero_only
def say(text: str) -> None:
    console.print(text, markup=False, soft_wrap=True)


def quiet_libraries() -> None:
    """Leaves out what Lightning says at every start; its warnings that matter here are errors of ours."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"lightning\..*")
    warnings.filterwarnings("ignore", message=".*isinstance.*treespec.*")


def run_stage(plan: Plan, stage: PlannedStage, title: str) -> None:
    """Trains and measures a stage, going on where an earlier run of it was cut off."""
    config, seed = plan.config, stable_hash("stage", stage.identity)
    stage.folder.mkdir(parents=True, exist_ok=True)
    write_config(config, stage)
    module = build_module(config, stage, seed)
    data = AVDataModule(
        stage.train,
        stage.scored,
        stage.config.data,
        batch_size=stage.config.batch_size,
        epochs=stage.config.epochs,
        seed=config.seed,
        views=stage.views,
    )
    tracked = Cost()
    trainer = make_trainer(config.trainer, stage, seed, title, tracked)
    began = time.monotonic()

    weights, spent = stage.folder / WEIGHTS, stage.folder / TRAINING_COST
    if weights.is_file():
        module.load_state_dict(torch.load(weights, weights_only=True))
        tracked.load_state_dict(json.loads(spent.read_text()))
    elif stage.train is not None:
        checkpoint = stage.folder / CHECKPOINT
        if checkpoint.is_file():
            say(f"{title}: goes on where it was cut off")
        trainer.fit(module, datamodule=data, ckpt_path=str(checkpoint) if checkpoint.is_file() else None)
    if trainer.is_global_zero and not weights.is_file():
        write_json(spent, tracked.state_dict())
        with replacing(weights) as temporary:
            torch.save(module.state_dict(), temporary)

    if stage.board is not None:
        say(f"{title}: measuring {stage.board.name} on {len(stage.scored or ())} clips")
        predictions = predict(trainer, module, data)
    if trainer.is_global_zero:
        cost = stage_cost(stage, tracked, processes=trainer.world_size)
        if stage.board is not None:
            write_record(plan, stage, predictions, cost)
        write_json(stage.folder / DONE, {"identity": stage.identity, "weights": file_hash(weights), "cost": cost})
        (stage.folder / CHECKPOINT).unlink(missing_ok=True)
        say(f"{title}: done in {time.monotonic() - began:.0f} s")
    trainer.strategy.barrier("stage done")


@rank_zero_only
def write_config(config: BenchConfig, stage: PlannedStage) -> None:
    """`config.yaml`: all that the stage is determined by, as it was resolved."""
    resolved = {
        **{name: getattr(config, name) for name in ("method", "preset", "variant", "seed", "init")},
        **{name: asdict(getattr(config, name)) for name in ("trainer", "model")},
        "stages": {stage.name: asdict(stage.config)},
    }
    with replacing(stage.folder / "config.yaml") as temporary:
        temporary.write_text(OmegaConf.to_yaml(OmegaConf.create(resolved)))


def build_module(config: BenchConfig, stage: PlannedStage, seed: int) -> Stage:
    """The stage's LightningModule, freshly initialised from the seed, with its parent's weights where it has one."""
    torch.manual_seed(seed)
    module = stage.stage_class(stage.spec)
    if stage.parent is not None:
        module.load_parent(torch.load(stage.parent.folder / WEIGHTS, weights_only=True, map_location="cpu"))
    elif config.init is not None:
        loaded = torch.load(config.init, weights_only=True, map_location="cpu")
        module.load_parent(loaded.get("model", loaded.get("state_dict", loaded)))
    return module


def make_trainer(config: TrainerConfig, stage: PlannedStage, seed: int, title: str, tracked: Cost) -> L.Trainer:
    """A Trainer for which all epochs of the stage are one epoch of Lightning's: the loader's workers live through
    them, and where a run was cut off is a single number, the step."""
    accelerator = resolve_accelerator(config)
    processes = config.devices * config.nodes
    strategy = "auto"
    if processes > 1:
        strategy = "ddp"
    return L.Trainer(
        accelerator=accelerator,
        devices=config.devices,
        num_nodes=config.nodes,
        strategy=strategy,
        precision=resolve_precision(config),
        max_epochs=1,
        accumulate_grad_batches=config.accumulate,
        gradient_clip_val=config.grad_clip or None,
        use_distributed_sampler=False,
        log_every_n_steps=LOG_EVERY,
        logger=TensorBoardLogger(stage.folder, name="", version="tensorboard"),
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        deterministic="warn",
        callbacks=[
            StepSeed(seed),
            tracked,
            Checkpoint(stage.folder / CHECKPOINT, config.checkpoint_every),
            Curves(stage.folder / "metrics.csv"),
            StageProgress(title, stage.steps),
            Collect(),
        ],
    )


def predict(trainer: L.Trainer, module: Stage, data: AVDataModule) -> tasks.Predictions:
    """What the stage gives out for every clip it is measured on, gathered from all ranks, in the manifest's order."""
    collected = next(c for c in trainer.callbacks if isinstance(c, Collect))
    trainer.test(module, datamodule=data, verbose=False)
    mine = {
        "clip_id": collected.clip_id,
        "target": torch.cat(collected.target).numpy() if collected.target else None,
        "scores": {k: torch.cat(v).numpy() for k, v in collected.scores.items()},
    }
    parts: list[Any] = [mine]
    if trainer.world_size > 1:
        parts = [None] * trainer.world_size
        dist.all_gather_object(parts, mine)
    parts = [part for part in parts if part["clip_id"]]
    if not parts:
        raise UserError("not one of the clips to be measured could be read")
    assert data.scored is not None
    return one_row_a_clip(
        [clip for part in parts for clip in part["clip_id"]],
        np.concatenate([part["target"] for part in parts]),
        {name: np.concatenate([part["scores"][name] for part in parts]) for name in parts[0]["scores"]},
        data.scored.table["clip_id"],
    )


def one_row_a_clip(
    clip_id: Sequence[str], target: np.ndarray, scores: Mapping[str, np.ndarray], clips: pd.Series
) -> tasks.Predictions:
    """The mean of the scores over the views of each clip, however many of them could be read.

    Args:
        clip_id: [n] of each view, in any order.
        target: [n, C].
        scores: modality -> [n, D].
        clips: all clips, in the order that is wanted of the result.
    """
    place = pd.Index(clips).get_indexer(clip_id)
    order = np.argsort(place, kind="stable")
    # The views of a clip now lie one after the other.
    first = np.flatnonzero(np.diff(place[order], prepend=-1))
    views = np.diff(first, append=len(order))
    return tasks.Predictions(
        clip_id=clips.iloc[place[order][first]].tolist(),
        target=target[order][first],
        scores={
            name: np.add.reduceat(rows[order], first) / views[:, None].astype(rows.dtype)
            for name, rows in scores.items()
        },
    )
