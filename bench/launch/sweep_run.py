"""Runs a table of jobs to its end, and shows where it stands."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.live import Live

from bench.config.schema import TrainerConfig
from bench.config.settings import parse_options
from bench.errors import UserError
from bench.launch.jobs import Launcher, LocalLauncher, State, core_places, gpu_places
from bench.launch.slurm import SlurmLauncher, slurm_machine
from bench.launch.sweep import Entry, make_cells, make_table, plan_cell
from bench.launch.sweep_table import counts, to_table
from bench.plan.devices import resolve_accelerator
from bench.progress import console
from bench.run.execute import measure_again, say
from bench.run.preemption import deferred
from bench.tables.show import print_measured

ROWS_AROUND = 6
"""Lines of the table that are no rows."""


@dataclass(frozen=True)
class Sweep:
    """What the command line says."""

    arguments: Sequence[str]
    """Methods and overrides."""
    datasets: Sequence[str] = ()
    seeds: Sequence[int] = (0,)
    grid: Sequence[str] = ()
    launcher: str = "local"
    slurm: Sequence[str] = ()
    at_once: int | None = None


def sweep(wanted: Sweep) -> bool:
    """Runs what is not done, then prints the boards.

    Returns:
        Whether all jobs are done.

    Raises:
        UserError: before anything is run.
    """
    machine = slurm_machine if wanted.launcher == "slurm" else local_machine
    cells = make_cells(wanted.arguments, wanted.seeds, wanted.grid)
    planned = [plan_cell(cell, wanted.datasets, machine) for cell in cells]
    for _, plan in planned:
        for stage in plan.stages:
            if stage.outdated:  # their jobs are done
                measure_again(plan, stage, f"{plan.config.method} {stage.name}")
    entries = make_table(planned)
    states = run_jobs(entries, make_launcher(wanted, entries))
    tell_failures(entries, states)
    print_measured(plan for _, plan in planned)
    return set(states.values()) <= {State.DONE}


def local_machine(config: TrainerConfig) -> list[str]:
    """The override that says what the jobs will run on."""
    return [f"trainer.accelerator={resolve_accelerator(config)}"]


def make_launcher(wanted: Sweep, entries: Sequence[Entry]) -> Launcher:
    """Where the command line says.

    Raises:
        UserError: for an option of the other one, and where it cannot work.
    """
    if wanted.launcher == "slurm":
        if wanted.at_once:
            raise UserError("--jobs is of --launcher local; Slurm says itself how many jobs run at once")
        return SlurmLauncher(parse_options(wanted.slurm))
    if wanted.slurm:
        raise UserError("--slurm has options of --launcher slurm")
    jobs = [entry.job for entry in entries]
    devices = max(job.devices for job in jobs)
    if any(job.gpu for job in jobs):
        return LocalLauncher(gpu_places(visible_gpus(), devices, wanted.at_once))
    return LocalLauncher(core_places(sorted(os.sched_getaffinity(0)), devices, wanted.at_once))


def visible_gpus() -> list[str]:
    """As `CUDA_VISIBLE_DEVICES` names them."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    return given.split(",") if given else [str(i) for i in range(torch.cuda.device_count())]


def run_jobs(entries: Sequence[Entry], launcher: Launcher) -> dict[str, State]:
    """Runs what is not done to its end.

    Returns:
        The jobs' states, by their names.
    """
    states = {entry.job.name: State.DONE if entry.job.done else State.WAITS for entry in entries}
    try:
        for entry in entries:
            if states[entry.job.name] is State.WAITS:
                launcher.submit(entry.job)
        with Display(entries) as display:
            display.show(states)
            while not all(state.ended for state in states.values()):
                with deferred():  # not between the start of a process and the note of it
                    states |= launcher.states()
                display.show(states)
                time.sleep(launcher.poll_seconds)
    except BaseException:
        say(launcher.stop())
        raise
    return states


class Display:
    """The table on a terminal; elsewhere a line for each job that changes its state."""

    def __init__(self, entries: Sequence[Entry]):
        self._entries = entries
        self._shown: dict[str, State] = {}
        self._live = Live(console=console, refresh_per_second=2) if console.is_terminal else None

    def __enter__(self) -> Display:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._live:
            self._live.stop()

    def show(self, states: Mapping[str, State]) -> None:
        if self._live:
            self._live.update(to_table(self._entries, states, max(1, console.height - ROWS_AROUND)))
            return
        changed = [entry for entry in self._entries if states[entry.job.name] != self._shown.get(entry.job.name)]
        for entry in changed:
            say(f"{entry.title}: {states[entry.job.name]}")
        if changed:
            say(f"sweep: {counts(states)}")
        self._shown = dict(states)


def tell_failures(entries: Sequence[Entry], states: Mapping[str, State]) -> None:
    """Each job that failed, the last line of its log, and where that is."""
    for entry in entries:
        if states[entry.job.name] is State.FAILED:
            say(f"{entry.title}: failed: {last_line(entry.job.log)} ({entry.job.log})")


def last_line(log: Path) -> str:
    """The last line of a log that is not blank."""
    lines = log.read_text(errors="replace").split("\n") if log.is_file() else []
    return next((line for line in reversed(lines) if line.strip()), "it printed nothing")
