"""The Trainer of a stage: devices, precision, logs, what happens around each step."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import lightning as L
import torch
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger
from lightning.pytorch.plugins.precision import Precision
from lightning.pytorch.strategies import DDPStrategy, Strategy

from bench.config.schema import TrainerConfig
from bench.errors import UserError
from bench.plan.chosen_by import LOSS
from bench.plan.devices import cluster_environment, resolve_accelerator, resolve_precision
from bench.plan.graph import PlannedStage
from bench.run.callbacks import Cost, Curves, KeepEpochs, StageProgress, StepSeed
from bench.run.checkpoints import Checkpoint, CheckpointFile
from bench.run.compat import leave_signals_alone
from bench.run.ema import Ema
from bench.run.ending import EndAfter, last_step
from bench.run.faults import FiniteLoss
from bench.run.stopping import StopOnSignal
from bench.run.together import end_together
from bench.run.validation import Validation
from bench.run.validation_loss import LossValidation
from datamodules.precision import full_precision

LOG_EVERY = 10
"""Steps between two rows of the curves."""


def make_trainer(config: TrainerConfig, stage: PlannedStage, seed: int, title: str, tracked: Cost) -> L.Trainer:
    """A Trainer for which all epochs of the stage are one epoch of Lightning's: the loader's workers live through
    them, and where a run was cut off is a single number, the step."""
    finite = FiniteLoss(stage.name)
    ema = Ema(stage.config.ema) if stage.config.ema else None
    by = LossValidation if stage.config.validation.metric == LOSS else Validation
    validation = by(stage, ema, finite.check, tracked) if stage.validated is not None else None
    checkpoint = Checkpoint(stage.folder, config.checkpoint_every, finite.check)
    last = last_step(stage)
    environment = cluster_environment()
    end_together()
    # Deterministic algorithms would fill all new memory first, which costs time and changes no result.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # set by a module class
    trainer = L.Trainer(
        accelerator=resolve_accelerator(config),
        devices=config.devices,
        num_nodes=config.nodes,
        strategy=make_strategy(config, stage),
        plugins=[CheckpointFile(), *([environment] if environment else [])],
        precision=cast(Any, resolve_precision(config)),  # Lightning refuses what it does not know
        max_epochs=1,
        accumulate_grad_batches=stage.parts,
        gradient_clip_val=config.grad_clip or None,
        use_distributed_sampler=False,
        log_every_n_steps=LOG_EVERY,
        logger=make_loggers(config, stage),
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        deterministic="warn",
        callbacks=[
            StepSeed(seed),
            tracked,
            *([ema] if ema else []),
            KeepEpochs(stage.folder, stage.kept_epochs, stage.spec.steps_per_epoch),
            finite,
            *([validation] if validation else []),
            *([EndAfter(last)] if last < stage.steps else []),  # what has said otherwise stands before it
            # Before the checkpoint: a run that goes on from it does not write its row again.
            Curves(stage.folder / "metrics.csv", *([validation.logged] if validation else [])),
            checkpoint,
            StageProgress(title, last),
            StopOnSignal(checkpoint.save),
        ],
    )
    leave_signals_alone(trainer)
    return trainer


@contextmanager
def in_float32(trainer: L.Trainer) -> Iterator[None]:
    """Within, the Trainer runs what it is given in float32, whatever it trained in.

    For what is scored: numbers that are rounded to bfloat16's 8 bits tie, and are ranked by how they were rounded.
    """
    strategy = trainer.strategy
    training = strategy.precision_plugin
    strategy.precision_plugin = Precision()
    try:
        with full_precision(strategy.root_device):
            yield
    finally:
        strategy.precision_plugin = training


def make_strategy(config: TrainerConfig, stage: PlannedStage) -> Strategy | str:
    """DistributedDataParallel where there are several processes."""
    if config.devices * config.nodes == 1:
        return "auto"
    idle = stage.stage_class is not None and stage.stage_class.some_parameters_idle
    # Gradients are views of the buckets that are exchanged: one copy of them less in memory.
    return DDPStrategy(find_unused_parameters=idle, gradient_as_bucket_view=True)


def make_loggers(config: TrainerConfig, stage: PlannedStage) -> list[Logger]:
    """TensorBoard, and Weights & Biases where a project is named; `metrics.csv` is written by `Curves`.

    Raises:
        UserError: Weights & Biases is not installed.
    """
    loggers: list[Logger] = [TensorBoardLogger(stage.folder, name="", version="tensorboard")]
    if config.wandb:
        if importlib.util.find_spec("wandb") is None:
            raise UserError(f"trainer.wandb={config.wandb}: wandb is not installed; pip install 'avl-bench[wandb]'")
        method = stage.folder.parent.name
        name = f"{method} {stage.name} {stage.identity}"
        # The identity: a run that goes on is the same run there.
        loggers.append(
            WandbLogger(name, save_dir=stage.folder, project=config.wandb, id=stage.folder.name, group=method)
        )
    return loggers
