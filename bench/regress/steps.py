"""One side of `bench regress`: `bench run`, whose training waits before each step until it is its turn.

A script, run by its path so that it drives another tree's `bench` too; of that it relies on nothing but the command
line. A byte on standard input lets it take one step; a line of JSON on standard output reports it:
`{"seconds": of the wall clock, "memory": bytes, the most so far}`. All else that is printed goes to standard error.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from pathlib import Path
from typing import Any


def main() -> int:
    """`python regress_steps.py METHOD key=value...`, in the root of the tree that is measured."""
    sys.path[0] = os.getcwd()  # it was this file's folder, whose modules are no packages of their own
    reports = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    import lightning as L
    import torch
    import torch.distributed as dist

    from bench.cli import main as bench

    class StepTurns(L.Callback):
        """A turn lasts from one step's start to the next one's: reading the data counts."""

        def on_train_start(self, trainer: L.Trainer, *_: Any) -> None:
            # Ranks that wait in NCCL keep their GPUs busy, which may be the other side's too; Gloo's sleep.
            self.group = dist.new_group(backend="gloo") if trainer.world_size > 1 else None
            self.began: float | None = None

        def on_train_batch_start(self, trainer: L.Trainer, module: L.LightningModule, *_: Any) -> None:
            self.report(trainer)
            if trainer.is_global_zero and not os.read(0, 1):
                raise SystemExit("bench regress has ended")
            if self.group is not None:
                dist.barrier(self.group)
            self.began = time.perf_counter()

        def on_train_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
            self.report(trainer)

        def report(self, trainer: L.Trainer) -> None:
            if self.began is None:
                return
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if trainer.is_global_zero:
                seconds = time.perf_counter() - self.began
                print(json.dumps({"seconds": seconds, "memory": peak_memory()}), file=reports)

    def peak_memory() -> int | None:
        """Bytes, of the GPU or else of this process; None where the system does not report it."""
        if torch.cuda.is_available():
            return torch.cuda.max_memory_allocated()
        try:
            kilobytes = re.search(r"^VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
        except OSError:
            return None
        return 1024 * int(kilobytes[1]) if kilobytes else None

    plain_fit = L.Trainer.fit

    def fit(trainer: L.Trainer, *arguments: Any, **options: Any) -> None:
        trainer.callbacks.append(StepTurns())  # type: ignore[attr-defined]  # Lightning does not declare it
        plain_fit(trainer, *arguments, **options)

    L.Trainer.fit = fit  # type: ignore[method-assign, assignment]  # also where another commit calls it
    return bench(["run", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
