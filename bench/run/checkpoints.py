"""What a stage that was cut off resumes from: its last checkpoint or, if that is damaged, the one before."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.plugins.io import TorchCheckpointIO

from bench.plan.layout import LAST, NEW, PREVIOUS, RESUME
from datamodules.files import replacing


def save(content: Any, path: Path) -> None:
    """`torch.save`, whole or not at all.

    Raises:
        OSError: it cannot be written.
    """
    with replacing(path) as temporary, temporary.open("wb") as file:
        try:
            torch.save(content, file)
        except RuntimeError as error:
            # What a file or a signal's handler raises in it, torch follows up with an error of its own.
            raise error.__context__ or error from None


def is_sound(path: Path) -> bool:
    """Whether a file of `torch.save` is as it was written: a zip archive with the CRC-32 of each of its entries, which
    torch itself does not look at."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError):
        return False


def newest_sound(folder: Path, say: Callable[[str], None]) -> Path | None:
    """The checkpoint to resume from; None: start from scratch. Damaged ones are reported and removed."""
    for path in (folder / name for name in RESUME):
        if path.is_file():
            if is_sound(path):
                return path
            say(f"{path} is damaged and is not used")
            path.unlink(missing_ok=True)
    return None


def remove(folder: Path) -> None:
    """When the stage is done."""
    for name in RESUME:
        (folder / name).unlink(missing_ok=True)


class CheckpointFile(TorchCheckpointIO):
    """Writes a checkpoint whole, and keeps the one that it replaces."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        last = Path(path)
        new = last.with_name(NEW)
        save(checkpoint, new)
        if last.is_file():
            os.replace(last, last.with_name(PREVIOUS))
        os.replace(new, last)


class Checkpoint(Callback):
    """Saves all that training needs to resume, every so many steps.

    Args:
        folder: the stage's.
        every: steps.
        check: raises where the training's state is not worth saving.
    """

    def __init__(self, folder: Path, every: int, check: Callable[[L.Trainer], None]):
        self.path, self.every, self.check = folder / LAST, every, check

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self._saved = trainer.global_step

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        step = trainer.global_step
        # Not after the last step: the weights themselves are written then.
        if step % self.every == 0 and step < trainer.estimated_stepping_batches:
            self.save(trainer)

    def save(self, trainer: L.Trainer) -> None:
        """Saves the state after this step, once; to be called on all ranks."""
        # Where a batch comes in parts, the step's number stays while the next one's first parts go through.
        if trainer.global_step != self._saved:
            self.check(trainer)
            self._saved = trainer.global_step
            for logger in trainer.loggers:  # what they hold back is not logged again
                logger.save()
            trainer.save_checkpoint(self.path)
