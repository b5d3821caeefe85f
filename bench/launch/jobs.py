"""Jobs, and where they run: a queue for this machine's GPUs or CPU cores. Slurm's is in `slurm.py`.

A job is a command in a process of its own, started through submitit. It imports no torch: what it starts does.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from types import FrameType
from typing import Protocol

from submitit import LocalExecutor
from submitit.local.local import LocalJob

from bench.errors import UserError
from bench.launch.submitit_compat import send_signal

LOG = "log.txt"
"""In a job's folder: all that its command printed."""
FOREVER_MINUTES = 10 * 365 * 24 * 60.0
"""submitit wants a limit."""
STOPPED_BY = (signal.SIGTERM, signal.SIGUSR1)
"""Signals that a job gives on to its command, which then saves and ends."""


class State(StrEnum):
    """Of a job."""

    WAITS = "waits"
    RUNS = "runs"
    DONE = "done"
    FAILED = "failed"
    NOT_RUN = "not run"
    """A job that it needs failed."""

    @property
    def ended(self) -> bool:
        return self in (State.DONE, State.FAILED, State.NOT_RUN)


@dataclass(frozen=True)
class Job:
    """A command, and what must be there before and after it."""

    name: str
    """Unlike all others'."""
    command: tuple[str, ...]
    folder: Path
    """Of its log and of what submitit writes."""
    result: Path
    """The file that is there if and only if the job is done."""
    needs: tuple[str, ...] = ()
    """Jobs whose results it reads."""
    gpu: bool = False
    devices: int = 1
    """A node."""
    nodes: int = 1

    @property
    def log(self) -> Path:
        return self.folder / LOG

    @property
    def done(self) -> bool:
        try:  # listing a folder on NFS asks the server; asking for one file may answer from what was known
            return self.result.name in os.listdir(self.result.parent)
        except FileNotFoundError:
            return False


class Launcher(Protocol):
    """Where jobs run."""

    poll_seconds: float
    """Between two questions for the jobs' states."""

    def submit(self, job: Job) -> None:
        """Queues a job that is not done; those it needs have been submitted before, or are done.

        Raises:
            UserError: if it can never run there.
        """

    def states(self) -> dict[str, State]:
        """Of each job that was submitted, by its name."""

    def stop(self) -> str:
        """Stops the sweep; returns what the user should know about the jobs that have not ended."""


@dataclass(frozen=True)
class Work:
    """What the job's process does: a command with its surroundings."""

    command: tuple[str, ...]
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    """Beside the process's own."""
    cores: frozenset[int] = frozenset()
    """The command may use; empty = all."""


class CommandFailed(Exception):
    """The command ended with something else than 0."""


def run_command(work: Work) -> tuple[int, int | None]:
    """Runs a command to its end; what it prints goes to the end of the log.

    The first signal of `STOPPED_BY` is given on to it.

    Returns:
        Its exit status (negative: the signal that ended it), and the signal that was given on.
    """
    received: list[int] = []
    process: subprocess.Popen[bytes] | None = None

    def give_on(number: int, frame: FrameType | None) -> None:
        received.append(number)
        if process is not None and len(received) == 1:
            process.send_signal(number)

    for number in STOPPED_BY:
        signal.signal(number, give_on)
    if work.cores:
        os.sched_setaffinity(0, work.cores)
    work.log.parent.mkdir(parents=True, exist_ok=True)
    with work.log.open("ab") as log:
        log.write(f"$ {shlex.join(work.command)}\n".encode())
        log.flush()
        environment = {**os.environ, **work.environment}
        process = subprocess.Popen(work.command, stdout=log, stderr=subprocess.STDOUT, env=environment)
    if received:  # while it was being started
        process.send_signal(received[0])
    return process.wait(), received[0] if received else None


def local_work(work: Work) -> None:
    """What submitit calls in a job's process on this machine."""
    status, _ = run_command(work)
    if status:
        raise CommandFailed(f"exit status {status}")


@dataclass(frozen=True)
class Place:
    """The part of this machine that one job has for itself."""

    environment: Mapping[str, str]
    cores: frozenset[int] = frozenset()


def gpu_places(gpus: Sequence[str], devices: int, at_once: int | None) -> list[Place]:
    """One a set of GPUs; with more jobs at once than sets, several share one.

    Args:
        gpus: as `CUDA_VISIBLE_DEVICES` names them.
        devices: of one job.
        at_once: jobs; None = one a set.

    Raises:
        UserError: if there are fewer than one job wants.
    """
    sets = _sets(list(gpus), devices)
    if not sets:
        raise UserError(f"trainer.devices={devices}, but this machine has {len(gpus)} GPUs")
    return [Place({"CUDA_VISIBLE_DEVICES": ",".join(sets[i % len(sets)])}) for i in range(at_once or len(sets))]


def core_places(cores: Sequence[int], processes: int, at_once: int | None) -> list[Place]:
    """The cores in equal parts, one a job. A process has a thread a core, or as many as `OMP_NUM_THREADS` says.

    Args:
        cores: that may be used.
        processes: of one job.
        at_once: jobs; None = as many as have a core a process.
    """
    at_once = at_once or max(1, len(cores) // processes)
    sets = _sets(sorted(cores), max(1, len(cores) // at_once))
    mine = [sets[i % len(sets)] for i in range(at_once)]
    threads = os.environ.get("OMP_NUM_THREADS", str(max(1, len(sets[0]) // processes)))
    return [Place({"OMP_NUM_THREADS": threads}, frozenset(part)) for part in mine]


def _sets(items: list, size: int) -> list[list]:
    """Parts of `size` items each, without a rest."""
    return [items[start : start + size] for start in range(0, len(items) - size + 1, size)]


class LocalLauncher:
    """One job a place; the others wait for one, and for what they need."""

    poll_seconds = 0.2

    def __init__(self, places: Sequence[Place]):
        self._free = list(places)
        self._jobs: dict[str, Job] = {}
        self._states: dict[str, State] = {}
        self._running: dict[str, tuple[LocalJob[None], Place]] = {}

    def submit(self, job: Job) -> None:
        if job.nodes > 1:
            raise UserError(f"trainer.nodes={job.nodes}, but this is one machine; add --launcher slurm")
        self._jobs[job.name] = job
        self._states[job.name] = State.WAITS

    def states(self) -> dict[str, State]:
        """Of all jobs, after those have been started that can be."""
        for name, (process, place) in list(self._running.items()):
            if process.done():
                del self._running[name]
                self._free.append(place)
                self._states[name] = State.DONE if self._jobs[name].done else State.FAILED
        for name, job in self._jobs.items():
            if self._states[name] is State.WAITS:
                needed = {self._states[other] for other in job.needs if other in self._states}
                if needed & {State.FAILED, State.NOT_RUN}:
                    self._states[name] = State.NOT_RUN
                elif needed <= {State.DONE} and self._free:
                    self._start(job, self._free.pop(0))
        return dict(self._states)

    def _start(self, job: Job, place: Place) -> None:
        work = Work(job.command, job.log, place.environment, place.cores)
        executor = LocalExecutor(job.folder)
        executor.update_parameters(timeout_min=FOREVER_MINUTES, stderr_to_stdout=True)
        with _deaf_to_interrupts():
            process = executor.submit(local_work, work)
            assert isinstance(process, LocalJob)
            self._running[job.name] = (process, place)
        self._states[job.name] = State.RUNS

    def stop(self) -> str:
        """Signals the running jobs to save and exit, and waits for them."""
        stopped = len(self._running)
        while any(not process.done() for process, _ in self._running.values()):
            for process, _ in self._running.values():
                # Again and again: one that has just started does not listen yet.
                if not process.done():
                    send_signal(process, signal.SIGTERM)
            time.sleep(self.poll_seconds)
        return f"{stopped} jobs were stopped"


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Processes that are started here do not get Ctrl-C from the terminal: the launcher stops them, each once."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
