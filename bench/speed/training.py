"""`bench speed train`: a stage's steps in the harness, in a plain loop, and there with attention written by hand.

All get the same batches, weights and random numbers, in turns of a few steps and in one process.
"""

from __future__ import annotations

import copy
import tempfile
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar
from unittest.mock import patch

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from bench.commands import data
from bench.config.compose import compose
from bench.config.schema import BenchConfig
from bench.errors import UserError, unknown
from bench.plan.cost import flops_of
from bench.plan.devices import resolve_accelerator, resolve_precision
from bench.plan.graph import Plan, PlannedStage, make_plan
from bench.plan.layout import DONE
from bench.progress import track
from bench.run.execute import quiet_libraries
from bench.speed import timed_loops
from bench.speed.flops import Peak, peak
from bench.speed.plain_loop import LoopSettings
from bench.speed.ranking import measured
from bench.speed.timed_loops import HARNESS, Timed
from bench.tasks.metrics import RESAMPLES, interval
from datamodules.keyed import stable_hash
from datamodules.streams.known import streams_of
from datamodules.types import RawBatch
from experiments.common.stage import Stage
from experiments.common.teacher import Taught

PLAIN, BY_HAND = "plain loop", "plain loop, attention by hand"
LOOPS = {PLAIN: timed_loops.plain, BY_HAND: timed_loops.by_hand}
"""What the harness is held against."""
T = TypeVar("T")
DTYPES = {"32-true": torch.float32, "bf16-mixed": torch.bfloat16}


@dataclass(frozen=True)
class TrainingSpeed:
    """Of one stage, on one device."""

    method: str
    timed: Timed
    flops: int
    """Of a step."""
    peak: Peak
    reading: NDArray
    """[3] of the timed steps with the stage's own loader: seconds by the wall clock, of the processor, and waited."""
    seconds: dict[str, NDArray]
    """Loop -> [rounds] of each turn."""
    work: dict[str, NDArray]
    """The same of the processor, all threads together."""
    memory: dict[str, int | None]
    """Loop -> peak bytes: allocated on the GPU, or by which the process grew; None where the system reports none."""

    @property
    def clips(self) -> int:
        """Of a turn."""
        return self.timed.steps * self.timed.stage.config.batch_size

    @property
    def flops_per_second(self) -> float:
        """Of the harness, in its median turn."""
        return self.flops * self.timed.steps / float(np.median(self.seconds[HARNESS]))


def ratio(times: dict[str, NDArray], one: str, other: str) -> tuple[float, float, float]:
    """The median of the times of `one` by those of `other` in the same rounds, and its 95 % bootstrap interval."""
    each = times[one] / times[other]
    drawn = np.median(np.random.default_rng(0).choice(each, (RESAMPLES, len(each))), 1)
    median = float(np.median(each))
    return median, *interval(drawn, median)


def training(
    method: str, overrides: Sequence[str], name: str | None, steps: int, rounds: int, packed: bool
) -> TrainingSpeed:
    """Measures a stage's steps.

    Args:
        method: its name.
        overrides: `key=value` as for `bench run`.
        name: of the stage; None = the first that trains.
        steps: of one turn.
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
        return measure(method, timed_of(plan.config, stage, steps, rounds))


def planned(method: str, overrides: Sequence[str], name: str | None) -> Plan:
    """The plan of a stage that trains, which is its last.

    Raises:
        UserError: there is no such stage, or it needs several devices or features that have not been extracted.
    """
    config = compose(method, overrides)
    stages = [stage for stage in config.stages if config.stages[stage].train]
    if name is not None and name not in stages:
        raise unknown(f"stage of {method} that trains", name, stages)
    if config.trainer.devices * config.trainer.nodes > 1:
        raise UserError("a step is timed on one device: leave trainer.devices and trainer.nodes out")
    config = replace(config, stage=[name or stages[0]])
    plan = make_plan(config)
    for modality, other in plan.stages[-1].features.items():
        if not (other.folder / DONE).is_file():
            raise UserError(f"stage {config.stage[0]} reads features of {modality}: run stage {other.name} first")
    for stream, other in plan.stages[-1].labels.items():
        if not other.done:
            raise UserError(f"stage {config.stage[0]} reads the labels {stream}: run stage {other.name} first")
    return plan


def pack(plan: Plan, folder: Path) -> str:
    """Packs the splits of a plan's last stage for what it reads; the setting with which the pack is read."""
    stage, config = plan.stages[-1], plan.config
    inputs = stage.config.data.inputs
    if inputs.features is not None:
        raise UserError(f"stage {stage.name} reads feature files, which are not packed; leave --packed out")
    splits = [*stage.config.train, *([stage.scored_split] if stage.board else [])]
    rates: dict[str, float] = {"sample_rate": 0, "fps": 0, "size": 0}
    for stream in streams_of(inputs).values():
        rates |= stream.packed()
    settings = {
        "to": str(folder),
        "splits": "+".join(dict.fromkeys(splits)),
        **{name: str(rate) for name, rate in rates.items()},
        "data_root": config.data_root or "",
        "data.root": stage.config.data.root or "",
        "data.media": stage.config.data.media or "",
        "runs": config.runs,
        "sample_root": config.sample_root,
        "workers": "0",
    }
    data.pack(stage.config.dataset, settings, inputs)
    return f"stages.{stage.name}.data.packed={folder}"


def timed_of(config: BenchConfig, stage: PlannedStage, steps: int, rounds: int) -> Timed:
    """The stage under the configuration's device and precision.

    Raises:
        UserError: for a precision that the plain loop does not know.
    """
    precision = resolve_precision(config.trainer)
    if precision not in DTYPES:
        raise UserError(f"trainer.precision={precision}: the plain loop knows {' and '.join(DTYPES)}")
    device = torch.device("cuda" if resolve_accelerator(config.trainer) == "gpu" else "cpu")
    seed = stable_hash("stage", stage.identity)
    settings = LoopSettings(device, precision, config.trainer.grad_clip, stage.parts, seed)
    return Timed(config.trainer, stage, settings, steps, rounds)


def measure(method: str, timed: Timed) -> TrainingSpeed:
    """Each loop by itself for its memory, then all in turns on some of the batches that were read."""
    fresh = untrained(timed.stage, timed.settings.seed)
    device = timed.settings.device
    memory: dict[str, int | None] = {}
    (reading, kept), memory[HARNESS] = peak_memory(device, lambda: timed_loops.read(timed, copy.deepcopy(fresh)))
    alone = replace(timed, rounds=0)
    with patch.object(F, "scaled_dot_product_attention", wraps=F.scaled_dot_product_attention) as attention:
        flops, memory[PLAIN] = peak_memory(device, lambda: flops_of(lambda: train(alone, PLAIN, fresh, kept)))
    if attention.called:
        _, memory[BY_HAND] = peak_memory(device, lambda: train(alone, BY_HAND, fresh, kept))
    others = {name: LOOPS[name](timed, copy.deepcopy(fresh), kept) for name in memory if name != HARNESS}
    turns = {name: np.stack(each) for name, each in timed_loops.held(timed, fresh, kept, others).seconds.items()}
    return TrainingSpeed(
        method=method,
        timed=timed,
        flops=flops // alone.last,
        peak=peak(device, DTYPES[timed.settings.precision]),
        reading=np.sum(reading.seconds[HARNESS], 0),
        seconds={name: seconds[:, 0] for name, seconds in turns.items()},
        work={name: seconds[:, 1] for name, seconds in turns.items()},
        memory=memory,
    )


def train(timed: Timed, name: str, fresh: Stage, kept: list[RawBatch]) -> None:
    """Trains a copy of the stage in a loop, to its end."""
    steps = LOOPS[name](timed, copy.deepcopy(fresh), kept)
    deque(track(steps, f"{timed.stage.name}: {name}", timed.last), maxlen=0)


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


def peak_memory(device: torch.device, run: Callable[[], T]) -> tuple[T, int | None]:
    """What `run` gives, and the most memory that it took."""
    if device.type == "cpu":
        return measured(run)
    torch.cuda.reset_peak_memory_stats(device)
    found = run()
    return found, torch.cuda.max_memory_allocated(device)
