"""Stops training on a signal: all its processes after the same step, with a checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lightning as L
import torch
import torch.distributed as dist
from lightning.pytorch.callbacks import Callback

from bench.run import preemption


class StopOnSignal(Callback):
    """Saves and raises `Preempted` after the step in which a signal came.

    Any of several processes may receive it; all stop after the same step. After each step they share what they have
    received, over a gloo group of their own and while the next step runs, so that no device is waited for.

    Args:
        save: writes the checkpoint; called on all ranks.
    """

    def __init__(self, save: Callable[[L.Trainer], None]):
        self.save = save

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self._step = trainer.global_step
        self._pending: tuple[dist.Work, torch.Tensor] | None = None
        self._group = dist.new_group(backend="gloo") if trainer.world_size > 1 else None

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        step = trainer.global_step
        # After the last step the weights are written, and the signal is answered then.
        if step == self._step or step >= trainer.estimated_stepping_batches:
            return
        self._step = step
        if signum := self._signal_received():
            self.save(trainer)
            raise preemption.Preempted(signum, step, trainer.global_rank)

    def on_train_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        if self._pending is not None:
            self._pending[0].wait()

    def _signal_received(self) -> int:
        """The signal that any rank has received; with several ranks, as of one step ago."""
        if self._group is None:
            return preemption.signal_received()
        pending, mine = self._pending, torch.tensor([preemption.signal_received()])
        work = dist.all_reduce(mine, dist.ReduceOp.MAX, self._group, async_op=True)
        assert work is not None
        self._pending = work, mine
        if pending is None:
            return 0
        pending[0].wait()
        return int(pending[1])

    def on_test_batch_end(self, *_: Any) -> None:
        preemption.stop_if_signalled()
