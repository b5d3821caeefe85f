"""The command line with a fault put into it: `python tests/bench/faulty_bench.py '["stop", 3, 15]' run METHOD …`.

With `serve` it imports everything once and then runs each command that comes on its standard input in a process of its
own, forked, which saves the seconds that an import takes.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any


def stop(step: int, signum: int, rank: int = 0, group: bool = False) -> None:
    """The signal comes in the middle of a step (the first is 1): to one rank, or to its whole process group."""
    from bench.callbacks import StepSeed

    begin = StepSeed.on_train_batch_start

    def begin_and_stop(self: Any, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
        begin(self, trainer, module, batch, batch_idx)
        if trainer.global_step == step - 1 and trainer.global_rank == rank:
            os.killpg(os.getpgid(0), signum) if group else os.kill(os.getpid(), signum)

    StepSeed.on_train_batch_start = begin_and_stop


FAULTS = {function.__name__: function for function in (stop,)}


def run(fault: list[Any] | None, arguments: list[str]) -> int:
    if fault:
        name, *values = fault
        FAULTS[name](*values)
    from bench.cli import main

    return main(arguments)


def serve() -> None:
    import torch

    torch.set_num_threads(1)
    for module in ("bench.run", "bench.show", "bench.trainer", "experiments.mavil.method", "torch.utils.tensorboard"):
        importlib.import_module(module)
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            _become(request)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print(json.dumps(status), flush=True)


def _become(request: dict[str, Any]) -> None:
    """Ends this process after the command, with its output in files."""
    os.setpgid(0, 0)
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(Path(request["output"]) / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever started the tests may ignore it
    sys.exit(run(request["fault"], request["arguments"]))


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve()
    else:
        sys.exit(run(json.loads(sys.argv[1]), sys.argv[2:]))
