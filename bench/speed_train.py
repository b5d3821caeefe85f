"""`bench speed train`: a stage's steps in the harness, in a plain loop, and there with attention written by hand.

All get the same batches, weights and random numbers, in turns and in one process.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from bench import data, timed_loops
from bench.config import BenchConfig, compose
from bench.devices import resolve_accelerator, resolve_precision
from bench.errors import UserError, unknown
from bench.flops import Peak, flops_of, peak
from bench.plain_loop import Settings, hand_written_attention
from bench.plan import DONE, Plan, PlannedStage, make_plan
from bench.progress import track
from bench.run import quiet_libraries
from bench.speed_eval import measured
from bench.timed_loops import Clock, Timed
from datamodules.keyed import stable_hash
from datamodules.types import RawBatch
from experiments.common.stage import Stage
from experiments.common.teacher import Taught

HARNESS, PLAIN, BY_HAND = "harness", "plain loop", "plain loop, attention by hand"
DTYPES = {"32-true": torch.float32, "bf16-mixed": torch.bfloat16}


@dataclass
class Measured:
    """Of one stage, on one device."""

    method: str
    timed: Timed
    flops: int
    """Of a step."""
    peak: Peak
    data_wait: float
    """Share of the time that is spent waiting for data, with the stage's own loader."""
    reading_seconds: float
    """Of the timed steps with that loader."""
    seconds: dict[str, list[float]] = field(default_factory=dict)
    """Loop -> of the timed steps, a number a round."""
    work: dict[str, list[float]] = field(default_factory=dict)
    """The same of the processor, all threads together."""
    memory: dict[str, int | None] = field(default_factory=dict)
    """Loop -> most bytes: allocated on the GPU, or by which the process grew; None where the system does not tell."""

    @property
    def clips(self) -> int:
        """Of the timed steps."""
        return self.timed.steps * self.timed.stage.config.batch_size

    @property
    def flops_per_second(self) -> float:
        """Of the harness, in its median round."""
        return self.flops * self.timed.steps / float(np.median(self.seconds[HARNESS]))


def ratios(times: dict[str, list[float]], one: str, other: str) -> NDArray:
    """[rounds] the time of `one` by that of `other` in the same round."""
    return np.array(times[one]) / np.array(times[other])


def training(
    method: str, overrides: Sequence[str], name: str | None, steps: int, rounds: int, packed: bool
) -> Measured:
    """Measures a stage's steps.

    Args:
        method: its name.
        overrides: `key=value` as for `bench run`.
        name: of the stage; None = the first that trains.
        steps: that are timed in each round.
        rounds: in each of which every loop has its turn.
        packed: packs the data first, and reads the pack.

    Raises:
        UserError: for numbers below 1, several devices, a stage that does not train or lacks what it reads.
    """
    if steps < 1 or rounds < 1:
        raise UserError(f"--steps {steps} --rounds {rounds}: at least 1 of each")
    quiet_libraries()
    with tempfile.TemporaryDirectory(prefix="speed-") as folder:
        plan = planned(method, overrides, name)
        if packed:
            plan = planned(method, [*overrides, pack(plan, Path(folder) / "pack")], name)
        stage = replace(plan.stages[-1], folder=Path(folder) / "run")
        return measure(method, timed_of(plan.config, stage, steps), rounds)


def planned(method: str, overrides: Sequence[str], name: str | None) -> Plan:
    """The plan of a stage that trains, which is its last.

    Raises:
        UserError: there is no such stage, it wants several devices, or features that nobody has extracted.
    """
    config = compose(method, overrides)
    stages = [stage for stage in config.stages if config.stages[stage].train]
    if name is not None and name not in stages:
        raise unknown(f"stage of {method} that trains", name, stages)
    if config.trainer.devices * config.trainer.nodes > 1:
        raise UserError("a step is timed on one device: leave trainer.devices and trainer.nodes out")
    config.stage = [name or stages[0]]
    plan = make_plan(config)
    for modality, other in plan.stages[-1].features.items():
        if not (other.folder / DONE).is_file():
            raise UserError(f"stage {config.stage[0]} reads features of {modality}: run stage {other.name} first")
    return plan


def pack(plan: Plan, folder: Path) -> str:
    """Packs the splits of a plan's last stage for what it reads; the setting with which the pack is read."""
    stage, config = plan.stages[-1], plan.config
    inputs = stage.config.data.inputs
    if inputs.features is not None:
        raise UserError(f"stage {stage.name} reads feature files, which are not packed; leave --packed out")
    splits = [*stage.config.train, *([stage.scored_split] if stage.board else [])]
    settings = {
        "to": str(folder),
        "splits": "+".join(dict.fromkeys(splits)),
        "sample_rate": str(inputs.audio.sample_rate if inputs.audio else 0),
        "fps": str(inputs.video.fps if inputs.video else 0),
        "size": str(inputs.video.train_size if inputs.video else 0),
        "data_root": config.data_root or "",
        "data.root": stage.config.data.root or "",
        "data.media": stage.config.data.media or "",
        "runs": config.runs,
        "sample_root": config.sample_root,
        "workers": "0",
    }
    data.pack(stage.config.dataset, settings)
    return f"stages.{stage.name}.data.packed={folder}"


def timed_of(config: BenchConfig, stage: PlannedStage, steps: int) -> Timed:
    """The stage under the configuration's device and precision.

    Raises:
        UserError: for a precision that the plain loop does not know.
    """
    precision = resolve_precision(config.trainer)
    if precision not in DTYPES:
        raise UserError(f"trainer.precision={precision}: the plain loop knows {' and '.join(DTYPES)}")
    device = torch.device("cuda" if resolve_accelerator(config.trainer) == "gpu" else "cpu")
    seed = stable_hash("stage", stage.identity)
    settings = Settings(device, precision, config.trainer.grad_clip, stage.parts, seed)
    return Timed(config.trainer, stage, settings, steps)


def measure(method: str, timed: Timed, rounds: int) -> Measured:
    """One run that reads the data, then the rounds on some of its batches."""
    fresh = untrained(timed.stage, timed.settings.seed)
    clock, kept = timed_loops.read(timed, copy.deepcopy(fresh))
    reading_seconds, _, waited = clock.seconds
    flops, attends = counted(replace(timed, steps=0), fresh, kept)
    best = peak(timed.settings.device, DTYPES[timed.settings.precision])
    found = Measured(method, timed, flops, best, waited / reading_seconds, reading_seconds)
    loops: dict[str, Callable[[], Clock]] = {
        HARNESS: lambda: timed_loops.held(timed, copy.deepcopy(fresh), kept),
        PLAIN: lambda: timed_loops.plain(timed, copy.deepcopy(fresh), kept),
    }
    if attends:
        loops[BY_HAND] = lambda: by_hand(timed, copy.deepcopy(fresh), kept)
    names = list(loops)
    for turn in track(range(rounds), "rounds", rounds):
        for place in range(len(names)):
            name = names[(turn + place) % len(names)]  # each loop is first, second, ... as often as the others
            clock, memory = peak_memory(timed.settings.device, loops[name])
            found.seconds.setdefault(name, []).append(clock.seconds[0])
            found.work.setdefault(name, []).append(clock.seconds[1])
            found.memory[name] = max(memory, found.memory.get(name) or 0) if memory is not None else None
    return found


def by_hand(timed: Timed, module: Stage, kept: list[RawBatch]) -> Clock:
    """The plain loop with every attention written out."""
    with hand_written_attention():
        return timed_loops.plain(timed, module, kept)


def untrained(stage: PlannedStage, seed: int) -> Stage:
    """The stage with fresh weights, which are as quick as trained ones, and a teacher with such."""
    assert stage.stage_class is not None
    torch.manual_seed(seed)
    module = stage.stage_class(stage.spec)
    if isinstance(module, Taught):
        source = stage.teacher or stage.parent
        assert source is not None
        weights = untrained(source, seed).state_dict()
        if stage.teacher is not None:
            module.load_teacher(source.spec, weights)
        else:
            module.load_parent(weights)
    return module


def counted(timed: Timed, fresh: Stage, kept: list[RawBatch]) -> tuple[int, bool]:
    """FLOPs of a step, and whether there is attention in it, by training for the steps to warm up."""
    with patch.object(F, "scaled_dot_product_attention", wraps=F.scaled_dot_product_attention) as attention:
        flops = flops_of(lambda: timed_loops.plain(timed, copy.deepcopy(fresh), kept))
    return flops // timed.last, attention.called


def peak_memory(device: torch.device, run: Callable[[], Clock]) -> tuple[Clock, int | None]:
    """What `run` gives, and the most memory that it took."""
    if device.type == "cpu":
        return measured(run)
    torch.cuda.reset_peak_memory_stats(device)
    clock = run()
    return clock, torch.cuda.max_memory_allocated(device)
