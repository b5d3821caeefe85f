"""What the harness does around a training step: seeds, epochs' weights, curves, cost, progress."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.compat.proto.event_pb2 import Event, SessionLog

from bench.progress import Progress
from bench.run.checkpoints import save
from bench.run.compat import steps_between_logs
from datamodules.features.extracted import FeatureWriter
from datamodules.files import replacing
from datamodules.keyed import stable_hash
from datamodules.loading.loader import Loader
from datamodules.types import Batch


class StepSeed(Callback):
    """Seeds torch before each step by (seed, step, rank): dropout and the like do not depend on what ran before,
    so a resumed run continues bit for bit."""

    def __init__(self, seed: int):
        self.seed = seed

    def on_train_batch_start(self, trainer: L.Trainer, module: L.LightningModule, batch: Any, batch_idx: int) -> None:
        seed_step(stable_hash("step", self.seed, batch_idx, trainer.global_rank), module.device)


def seed_step(seed: int, device: torch.device) -> None:
    """`torch.manual_seed` of the processor and of this device alone. Where CUDA is not in use, that keeps each call for
    later, with the stack that it came from, which takes a millisecond."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)


class KeepEpochs(Callback):
    """Keeps the weights of certain epochs' ends, for the stages that average them.

    Args:
        folder: of the files, see `epoch_weights`.
        epochs: which; the first epoch is 1.
        steps_per_epoch: optimiser steps.
    """

    def __init__(self, folder: Path, epochs: frozenset[int], steps_per_epoch: int):
        self.folder, self.steps = folder, {epoch * steps_per_epoch: epoch for epoch in epochs}

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, *_: Any) -> None:
        # Taken out: where a batch comes in parts, the step's number stays while the next one's first parts go through.
        epoch = self.steps.pop(trainer.global_step, None)
        if epoch is not None and trainer.is_global_zero:
            save(module.state_dict(), epoch_weights(self.folder, epoch))


def epoch_weights(folder: Path, epoch: int) -> Path:
    """Where a stage keeps its weights of an epoch's end."""
    return folder / "epochs" / f"{epoch}.pt"


class Cost(Callback):
    """Time and clips of the training, over all restarts; how much of the time went by in waiting for data, and how much
    in validating."""

    def __init__(self) -> None:
        self.seconds, self.waited, self.validating, self.clips, self.peak_memory = 0.0, 0.0, 0.0, 0, 0
        self._since: float | None = None
        self._loader: Loader | None = None
        self._waited_before = 0.0

    def state_dict(self) -> dict[str, Any]:
        self._tick()
        return {name: getattr(self, name) for name in ("seconds", "waited", "validating", "clips", "peak_memory")}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)
        self._waited_before = self.waited

    def _tick(self) -> None:
        if self._since is not None:
            now = time.monotonic()
            self.seconds += now - self._since
            self._since = now
        if self._loader is not None:
            self.waited = self._waited_before + self._loader.waited

    @property
    def stepping(self) -> float:
        """Seconds of the training steps alone."""
        return self.seconds - self.validating

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Within, it is validated."""
        began = time.monotonic()
        yield
        self.validating += time.monotonic() - began

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self._since, self._loader = time.monotonic(), trainer.train_dataloader

    def on_train_batch_end(
        self, trainer: L.Trainer, module: L.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        self.clips += len(batch["clip_id"]) * trainer.world_size

    def on_train_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self._tick()
        self._since = self._loader = None
        if module.device.type == "cuda":
            self.peak_memory = max(self.peak_memory, torch.cuda.max_memory_allocated(module.device))


class Curves(Callback):
    """Appends what the steps log to `metrics.csv`; a resumed run drops the rows that it repeats, and half a row.

    Args:
        path: of the file.
        measured: step -> name -> value of what was measured after it; such a step has a row of its own.
    """

    def __init__(self, path: Path, measured: Callable[[int], Mapping[str, float]] = lambda step: {}):
        self.path, self.measured = path, measured

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self._columns: list[str] = []
        self._written = trainer.global_step
        if trainer.is_global_zero and self.path.is_file():
            self._keep(trainer.global_step)
        for logger in trainer.loggers if trainer.is_global_zero and trainer.global_step else []:
            if isinstance(logger, TensorBoardLogger):
                hide_from(logger, trainer.global_step)

    def _keep(self, step: int) -> None:
        """The rows up to the step."""
        lines = self.path.read_text().splitlines(keepends=True)
        kept = [line for line in lines[1:] if line.endswith("\n") and int(line.partition(",")[0]) <= step]
        with replacing(self.path) as temporary:
            temporary.write_text("".join(lines[:1] if kept else []) + "".join(kept))
        self._columns = lines[0].rstrip("\n").split(",") if kept else []

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        step = trainer.global_step
        # Where a batch comes in parts, the step's number stays while the next one's first parts go through.
        if not trainer.is_global_zero or step == self._written:
            return
        measured = self.measured(step)
        due = step % steps_between_logs(trainer) == 0 or step >= trainer.estimated_stepping_batches
        if not (due or measured):
            return
        self._written = step
        rate = trainer.optimizers[0].param_groups[-1]["lr"]
        # On a step that does not log these are those of an earlier one.
        logged = sorted(trainer.callback_metrics.items()) if due else []
        values = {"lr": rate, **dict(logged), **measured}
        self._append({"step": str(step)} | {name: f"{float(value):.6g}" for name, value in values.items()})

    def _append(self, row: Mapping[str, str]) -> None:
        """The row, with new columns where it has any: the first steps may not log all that later ones do."""
        new = [name for name in row if name not in self._columns]
        if new:
            self._columns = [*self._columns, *new]
            rows = []
            if self.path.is_file():
                with self.path.open(newline="") as file:
                    rows = list(csv.DictReader(file))
            with replacing(self.path) as temporary, temporary.open("w", newline="") as file:
                writer = self._writer(file)
                writer.writeheader()
                writer.writerows(rows)
        with self.path.open("a", newline="") as file:
            self._writer(file).writerow(row)

    def _writer(self, file: TextIO) -> csv.DictWriter[str]:
        return csv.DictWriter(file, self._columns, restval="", lineterminator="\n")


def hide_from(logger: TensorBoardLogger, step: int) -> None:
    """Has TensorBoard show none of the points from this step on that were logged so far: they come again."""
    restarted = Event(step=step, session_log=SessionLog(status=SessionLog.START))
    logger.experiment.file_writer.add_event(restarted)  # it was made for this run


class StageProgress(Callback):
    """One bar over all steps of a stage, with the loss and the time left."""

    def __init__(self, title: str, total: int):
        self.title, self.total = title, total

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.progress = Progress(self.title, self.total, start=trainer.global_step) if trainer.is_global_zero else None
        if self.progress is not None:
            self.progress.__enter__()

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, outputs: Any, *_: Any) -> None:
        if self.progress is not None and trainer.global_step > self.progress.done:
            # Reading the loss waits for the device, so it is read now and then only.
            read = trainer.global_step % steps_between_logs(trainer) == 0
            # Lightning divides the loss of a part by their number.
            loss = outputs["loss"] * trainer.accumulate_grad_batches
            self.progress.advance(f"loss {float(loss):.3f}" if read else None)

    def on_train_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        if self.progress is not None:
            self.progress.__exit__(None, None, None)


class Extract(Callback):
    """Writes the features that the test steps return."""

    def __init__(self, folder: Path):
        self.folder = folder

    def on_test_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.writer = FeatureWriter(self.folder, trainer.global_rank)

    def on_test_batch_end(
        self, trainer: L.Trainer, module: L.LightningModule, outputs: Any, batch: Batch, *_: Any
    ) -> None:
        self.writer.add(batch["clip_id"], outputs["features"])

    def on_test_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.writer.flush()
