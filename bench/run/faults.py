"""What goes wrong outside the code, as errors in the user's words: what it was, what is lost, what to do.

`docs/faults.md` lists all of it. An error that is not listed here is a crash, and keeps its traceback.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import lightning as L
import torch
import torch.distributed as dist
from lightning.pytorch.callbacks import Callback

from bench.errors import UserError
from bench.run.compat import norms, steps_between_logs
from datamodules.errors import DataError

GO_ON = "what was saved stands, and the same command goes on from it"
LOST_RANK = "another process of this run was lost (killed, or its machine is gone)"
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""A full disk, a used-up quota, a limit on the size of a file."""
NO_WRITING = (errno.EACCES, errno.EPERM, errno.EROFS)
"""Permissions, a disk that is mounted to be read only."""


def _data(error: Exception) -> str | None:
    return str(error) if isinstance(error, DataError) else None


def _disk(error: Exception) -> str | None:
    if not isinstance(error, OSError):
        return None
    if error.errno in NO_ROOM:
        return f"no room to write {error.filename} ({error.strerror}); make room: {GO_ON}"
    if error.errno in NO_WRITING:
        return f"may not write {error.filename} ({error.strerror}); see its folder's permissions: {GO_ON}"
    return None


def _device_memory(error: Exception) -> str | None:
    if isinstance(error, torch.OutOfMemoryError):
        return (
            f"a step does not fit into the device's memory ({_first_line(error)}); set trainer.device_batch to fewer "
            f"clips, or trainer.checkpoint_activations=true: {GO_ON}"
        )
    return None


def _memory(error: Exception) -> str | None:
    if isinstance(error, MemoryError) or _says(error, r"can't allocate memory|not enough memory"):
        return f"the machine has no memory left; set data.loader.workers or trainer.device_batch lower: {GO_ON}"
    return None


def _worker(error: Exception) -> str | None:
    if not _says(error, r"DataLoader worker .*(killed by signal|exited unexpectedly)"):
        return None
    return (
        f"a process that loads data was killed ({_first_line(error)}); mostly memory ran out (or /dev/shm): set "
        f"data.loader.workers lower: {GO_ON}"
    )


def _lost_rank(error: Exception) -> str | None:
    errors = (dist.DistBackendError, dist.DistNetworkError, dist.DistStoreError)
    if isinstance(error, errors) or _says(error, r"gloo|[Cc]onnection (closed|reset|refused)|NCCL|[Bb]roken pipe"):
        return f"{LOST_RANK}: {GO_ON}"
    return None


def _says(error: Exception, pattern: str) -> bool:
    return isinstance(error, RuntimeError) and re.search(pattern, str(error)) is not None


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0].rstrip(". ")


EXPLANATIONS: tuple[Callable[[Exception], str | None], ...] = (
    _data,
    _disk,
    _device_memory,
    _memory,
    _worker,
    _lost_rank,
)


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Faults in the block that are known become a `UserError` that names what it does."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        for explain in EXPLANATIONS:
            if text := explain(error):
                raise UserError(f"{what}: {text}") from error
        raise


class FiniteLoss(Callback):
    """Ends a training whose loss is NaN or infinite, before anything is saved of it.

    The device notes the first such step itself; that is read where the loss is read, and before each checkpoint.

    Args:
        stage: its name.
    """

    NEVER = torch.iinfo(torch.int64).max

    def __init__(self, stage: str):
        self.stage = stage

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self._first = torch.full((), self.NEVER, device=module.device)

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, outputs: Any, *_: Any) -> None:
        finite, step = torch.isfinite(outputs["loss"]), trainer.global_step
        self._first = torch.where(finite, self._first, self._first.clamp(max=step))
        if step % steps_between_logs(trainer) == 0 or step >= trainer.estimated_stepping_batches:
            self.check(trainer)

    def check(self, trainer: L.Trainer) -> None:
        """Raises `UserError` if a loss was not finite, or the weights that the last step made are not."""
        first = int(self._first)
        if first == self.NEVER and not all_finite(trainer.lightning_module):
            first = trainer.global_step
        if first != self.NEVER:
            name = f"stages.{self.stage}.optim"
            raise UserError(
                f"stage {self.stage}: the loss is NaN or infinite from step {first} on. Lower {name}.base_lr (or "
                f"{name}.lr), set trainer.grad_clip=1, or trainer.precision=32-true. No checkpoint has any of it"
            )


def all_finite(module: torch.nn.Module) -> bool:
    """Whether all parameters are."""
    found = norms([parameter.detach() for parameter in module.parameters()])
    return bool(torch.isfinite(torch.stack([norm.double() for norm in found])).all()) if found else True
