"""Methods x seeds x settings as one table of jobs, one a stage; what several runs share is in it once."""

from __future__ import annotations

import itertools
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bench import registry
from bench.config.compose import compose
from bench.config.schema import BenchConfig, TrainerConfig
from bench.errors import UserError, unknown
from bench.launch.jobs import Job
from bench.plan import identity
from bench.plan.graph import Plan, PlannedStage, make_plan
from bench.plan.layout import DONE

JOBS = "sweeps"
"""Below the folder of the runs: the jobs' logs."""


@dataclass(frozen=True)
class SweepRun:
    """One run of the sweep."""

    method: str
    overrides: tuple[str, ...]
    """`key=value` for `bench run`, seed and settings included."""
    seed: int
    varied: tuple[str, ...] = ()
    """Of the overrides those in which it differs from others of its method."""


@dataclass(frozen=True)
class Entry:
    """A row of the table: a job, and what a person calls it."""

    job: Job
    method: str
    stage: str
    seed: int
    varied: tuple[str, ...]
    """Of the first run that has the stage."""

    @property
    def title(self) -> str:
        return " ".join((self.method, self.stage, f"seed={self.seed}", *self.varied))


def make_cells(arguments: Sequence[str], seeds: Sequence[int], grid: Sequence[str]) -> list[SweepRun]:
    """All combinations.

    Args:
        arguments: methods, and `key=value` for all of them or `<method>.key=value` for one.
        seeds: of each method.
        grid: `key=a,b,c`; commas within brackets belong to the value.

    Raises:
        UserError: if there is no method, or one that does not exist; if `seed` is among the settings.
    """
    methods = list(dict.fromkeys(argument for argument in arguments if "=" not in argument))
    for method in methods:
        registry.method_folder(method)
    if not methods:
        raise UserError("name at least one method, e.g. bench sweep mavil mbt --data vggsound")
    overrides = [argument for argument in arguments if "=" in argument]
    for override in (*overrides, *grid):
        if override.startswith("seed="):
            raise UserError(f"{override}: in a sweep give seeds as --seeds {override.removeprefix('seed=')}")
    settings = list(itertools.product(*map(_values, grid)))
    cells = []
    for method, seed, varied in itertools.product(methods, dict.fromkeys(seeds), settings):
        own = tuple(filter(None, (_of_method(override, method, methods) for override in overrides)))
        cells.append(SweepRun(method, (*own, *varied, f"seed={seed}"), seed, varied))
    return cells


def _of_method(override: str, method: str, methods: Sequence[str]) -> str | None:
    """`mavil.variant=scratch` -> `variant=scratch` for mavil, None for the others."""
    first, _, rest = override.partition(".")
    return override if first not in methods else rest if first == method else None


def _values(setting: str) -> list[str]:
    """`key=1,2` -> `key=1`, `key=2`."""
    key, equals, values = setting.partition("=")
    if not equals:
        raise UserError(f"--grid {setting!r} is not key=value,value")
    return [f"{key}={value}" for value in re.split(r",(?![^\[{]*[\]}])", values)]


def plan_cell(
    cell: SweepRun, datasets: Sequence[str], machine: Callable[[TrainerConfig], Sequence[str]]
) -> tuple[SweepRun, Plan]:
    """The stages of a run.

    Args:
        cell: the run.
        datasets: the stages that are measured on one of these, and what they build on; none = all.
        machine: gives the overrides that say what the jobs will run on.

    Returns:
        The run with these overrides, and its plan.

    Raises:
        UserError: if the run's configuration is wrong or its data is not there.
    """
    try:
        config = compose(cell.method, cell.overrides)
        cell = replace(cell, overrides=(*cell.overrides, *machine(config.trainer)))
        config = compose(cell.method, cell.overrides)
        if datasets:
            config = replace(config, stage=measured_on(config, datasets))
        return cell, make_plan(config)
    except UserError as error:
        raise UserError(f"{cell.method}: {error}") from error


def measured_on(config: BenchConfig, datasets: Sequence[str]) -> list[str]:
    """The stages with a board of one of the datasets, of those that would run.

    Raises:
        UserError: if there are none.
    """
    for dataset in datasets:
        if dataset not in registry.datasets():
            raise unknown("dataset", dataset, registry.datasets())
    stages = {n: s for n, s in config.stages.items() if (n in config.stage if config.stage else not s.on_request)}
    found = [name for name, stage in stages.items() if stage.board and stage.dataset in datasets]
    if not found:
        there = sorted({stage.dataset for stage in stages.values() if stage.board})
        raise UserError(
            f"preset {config.preset} has no stage that is measured on {' or '.join(datasets)}; "
            f"it has some on {', '.join(there) or 'no dataset'}"
        )
    return found


def make_table(planned: Iterable[tuple[SweepRun, Plan]]) -> list[Entry]:
    """One entry a distinct stage, each after those it needs.

    Raises:
        UserError: if a stage cannot be run by itself.
    """
    entries: dict[str, Entry] = {}
    for cell, plan in planned:
        for stage in plan.stages:
            job = make_job(cell, plan.config, stage)
            entries.setdefault(job.name, Entry(job, cell.method, stage.name, cell.seed, cell.varied))
    return list(entries.values())


def make_job(cell: SweepRun, config: BenchConfig, stage: PlannedStage) -> Job:
    """The job that runs one stage, when those that it uses are done."""
    _check_init(config, stage)
    name = job_name(config, stage)
    return Job(
        name=name,
        command=(sys.executable, "-m", "bench", "run", cell.method, *cell.overrides, f"stage={stage.name}"),
        folder=(Path(config.runs) / JOBS / name).absolute(),
        result=(stage.folder / DONE).absolute(),
        needs=tuple(job_name(config, used) for used in stage.used),
        gpu=config.trainer.accelerator == "gpu",
        devices=config.trainer.devices,
        nodes=config.trainer.nodes,
    )


def job_name(config: BenchConfig, stage: PlannedStage) -> str:
    """`mavil/pretrain-0123456789`: a stage of one identity is one job."""
    return f"{config.method}/{stage.folder.name}"


def _check_init(config: BenchConfig, stage: PlannedStage) -> None:
    """`init=` is for the stages that `stage=` names, and a job names one."""
    alone = replace(config, stage=[stage.name])
    for each in (*stage.ancestors, stage):
        if each.parent is None and not each.members and identity.start(alone, each.name) != each.start:
            raise UserError(
                f"{config.method}: init={config.init} would be for {each.name} in one job and not in another; "
                f"in a sweep give it as stages.<name>.init="
            )
