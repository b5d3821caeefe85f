"""The command line with a fault put into it: `python tests/bench/faulty_bench.py '["stop", 3, 15]' run METHOD …`.

With `serve` it imports everything once and then runs each command that comes on its standard input in a process of its
own, forked, which saves the seconds that an import takes.
"""

from __future__ import annotations

import importlib
import io
import json
import multiprocessing
import os
import re
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

LIMIT = 300
"""Seconds after which waiting for another process is given up."""


def in_step(step: int, do: Callable[[Any, Any], None], rank: int = 0) -> None:
    """Calls `do(trainer, module)` in the middle of a step (the first is 1) of one rank."""
    from bench.run.callbacks import StepSeed

    begin = StepSeed.on_train_batch_start

    def begin_and_do(self: Any, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
        begin(self, trainer, module, batch, batch_idx)
        if trainer.global_step == step - 1 and trainer.global_rank == rank:
            do(trainer, module)

    StepSeed.on_train_batch_start = begin_and_do


def stop(step: int, signum: int, rank: int = 0) -> None:
    """A signal to one rank."""
    in_step(step, lambda *_: os.kill(os.getpid(), signum), rank)


def stop_group(step: int, signum: int) -> None:
    """A signal to all processes, those that load data included."""
    in_step(step, lambda *_: os.killpg(os.getpgid(0), signum))


def stop_measuring(signum: int) -> None:
    """A signal when the first clips have been measured."""
    from bench.run.gathered import Collect

    collect = Collect.on_test_batch_end

    def collect_and_stop(self: Any, *given: Any) -> None:
        collect(self, *given)
        os.kill(os.getpid(), signum)

    Collect.on_test_batch_end = collect_and_stop


def kill_validating(batch: int) -> None:
    """The process is killed when so many batches have been validated."""
    from bench.run import validation

    class Killing(validation.Collect):
        done = 0

        def add(self, *given: Any) -> None:
            super().add(*given)
            Killing.done += 1
            if Killing.done == batch:
                os.kill(os.getpid(), signal.SIGKILL)

    validation.Collect = Killing


def kill(step: int) -> None:
    """The process is killed in the middle of a step."""
    in_step(step, lambda *_: os.kill(os.getpid(), signal.SIGKILL))


def stop_checking(signum: int) -> None:
    """A signal to all processes when the first files have been checked."""
    from datamodules.manifest.checks import Checks

    judgements = Checks._judgements

    def judge_and_stop(self: Any, paths: Any) -> Iterator[Any]:
        for done, judgement in enumerate(judgements(self, paths), 1):
            yield judgement
            if done == 10:
                os.killpg(os.getpgid(0), signum)

    Checks._judgements = judge_and_stop


def nan(step: int) -> None:
    """The weights become NaN, and with them the loss."""
    in_step(step, lambda trainer, module: next(module.parameters()).data.fill_(float("nan")))


def full_disk(step: int, limit: int) -> None:
    """From this step on no file grows beyond `limit` bytes."""
    in_step(step, lambda *_: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY)))


def kill_worker(step: int) -> None:
    """A process that loads data is killed, as by the system when memory runs out."""
    in_step(step, lambda *_: multiprocessing.active_children()[0].kill())


def kill_rank(step: int, rank: int) -> None:
    in_step(step, lambda *_: os.kill(os.getpid(), signal.SIGKILL), rank)


def kill_parent_of_worker(step: int, noted: str) -> None:
    """The run is killed; the worker's process number is noted."""

    def kill(*_: Any) -> None:
        Path(noted).write_text(str(multiprocessing.active_children()[0].pid))
        os.kill(os.getpid(), signal.SIGKILL)

    in_step(step, kill)


def meet(folder: str) -> None:
    """Of two runs the one that trains waits in its second step until the other one waits for it; notes its steps."""
    from bench.run import execute

    say, waiting = execute.say, Path(folder) / "waiting"

    def say_and_note(text: str) -> None:
        say(text)
        if "another run works on it" in text:
            waiting.touch()

    def wait(*_: Any) -> None:
        deadline = time.monotonic() + LIMIT
        while not waiting.exists() and time.monotonic() < deadline:
            time.sleep(0.05)

    def note(step: int) -> Callable[..., None]:
        return lambda *_: (Path(folder) / f"step-{step}-{os.getpid()}").touch()

    execute.say = say_and_note
    in_step(2, wait)
    for step in range(1, 7):
        in_step(step, note(step))


def jumping_clock() -> None:
    """Each time it is asked, the clock of the day is a year off, in one direction or the other."""
    now, asked = time.time, iter(range(1 << 62))
    time.time = lambda: now() + (-1) ** next(asked) * 365 * 86400


def moments(log: str | None, last: Sequence[str] = ()) -> None:
    """Gives every moment that matters a name: what is done, to which file, in which step. Writes the names to `log`;
    at the first one that is among `last`, the process is killed."""
    import torch

    from bench.run.callbacks import StepSeed

    step = 0

    def at(what: str, path: Any) -> None:
        file = re.sub(r"^\.|\.\d+\.tmp$|-[0-9a-f]{16}(?=\.json)", "", os.path.basename(path))
        name = f"{what} {file}" + (f" {step}" if file.startswith(("resume", "step")) else "")
        if log is not None:
            with open(log, "a") as names:
                print(name, file=names)
        if name in last:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(function: Callable[..., Any], place: int) -> Callable[..., Any]:
        def called(*paths: Any, **options: Any) -> Any:
            at(f"before {function.__name__}", paths[place])
            function(*paths, **options)
            at(f"after {function.__name__}", paths[place])

        return called

    save, write_text, begin = torch.save, Path.write_text, StepSeed.on_train_batch_start

    def save_in_halves(content: Any, file: Any) -> None:
        buffer = io.BytesIO()
        save(content, buffer)
        half = len(buffer.getvalue()) // 2
        file.write(buffer.getvalue()[:half])
        file.flush()
        at("half of", file.name)
        file.write(buffer.getvalue()[half:])

    def write_in_halves(self: Path, text: str, **options: Any) -> None:
        write_text(self, text[: len(text) // 2], **options)
        at("half of", self)
        write_text(self, text, **options)

    def begin_step(self: Any, trainer: Any, *given: Any) -> None:
        nonlocal step
        begin(self, trainer, *given)
        step = trainer.global_step + 1
        at("in", "step")

    torch.save, Path.write_text, StepSeed.on_train_batch_start = save_in_halves, write_in_halves, begin_step
    os.replace, os.link = around(os.replace, 1), around(os.link, 1)


FAULTS = {
    function.__name__: function
    for function in (
        stop, stop_group, stop_measuring, kill, kill_validating, stop_checking, nan, full_disk, kill_worker, kill_rank,
        kill_parent_of_worker, meet, jumping_clock, moments,
    )
}  # fmt: skip


def run(fault: list[Any] | None, arguments: list[str]) -> int:
    if fault:
        name, *values = fault
        FAULTS[name](*values)
    from bench.cli import main

    return main(arguments)


def serve() -> None:
    import torch

    torch.set_num_threads(1)
    for module in (
        "bench.run.execute",
        "bench.tables.show",
        "bench.run.trainer",
        "experiments.mavil.method",
        "torch.utils.tensorboard",
    ):
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
