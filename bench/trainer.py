"""The Trainer of a stage: devices, precision, what happens around each step."""

from __future__ import annotations

import lightning as L
from lightning.pytorch.loggers import TensorBoardLogger

from bench.callbacks import Checkpoint, Cost, Curves, KeepEpochs, StageProgress, StepSeed
from bench.config import TrainerConfig
from bench.devices import resolve_accelerator, resolve_precision
from bench.plan import CHECKPOINT, PlannedStage
from bench.stopping import StopWhenTold

LOG_EVERY = 10
"""Steps between two rows of the curves."""


def make_trainer(config: TrainerConfig, stage: PlannedStage, seed: int, title: str, tracked: Cost) -> L.Trainer:
    """A Trainer for which all epochs of the stage are one epoch of Lightning's: the loader's workers live through
    them, and where a run was cut off is a single number, the step."""
    accelerator = resolve_accelerator(config)
    processes = config.devices * config.nodes
    strategy = "auto"
    if processes > 1:
        idle = stage.stage_class is not None and stage.stage_class.some_parameters_idle
        strategy = "ddp_find_unused_parameters_true" if idle else "ddp"
    checkpoint = Checkpoint(stage.folder / CHECKPOINT, config.checkpoint_every)
    trainer = L.Trainer(
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
            KeepEpochs(stage.folder, stage.kept_epochs, stage.spec.steps_per_epoch),
            checkpoint,
            Curves(stage.folder / "metrics.csv"),
            StageProgress(title, stage.steps),
            StopWhenTold(checkpoint.save),
        ],
    )
    leave_signals_alone(trainer)
    return trainer


def leave_signals_alone(trainer: L.Trainer) -> None:
    """Signals are heard by `preemption.py`.

    Lightning would put handlers of its own in their place, which stop without saving (and would requeue a Slurm job
    beside the launcher that does), and its ranks would tell each other of SIGTERM before every step, waiting for the
    device each time.
    """
    trainer._signal_connector.register_signal_handlers = lambda: None
    trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None
