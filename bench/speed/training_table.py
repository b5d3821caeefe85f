"""What `bench speed train` prints."""

from __future__ import annotations

import platform

import lightning
import numpy as np
import timm
import torch
from numpy.typing import NDArray
from rich.table import Table

from bench.speed.ranking import processor
from bench.speed.timed_loops import HARNESS
from bench.speed.training import BY_HAND, PLAIN, TrainingSpeed, ratio
from bench.tables.show import console


def print_measured(found: TrainingSpeed, packed: bool) -> None:
    """Prints the loops' speeds side by side."""
    timed = found.timed
    table = Table("loop", "samples/s", "ms a step", "processor ms a step", "peak memory")
    console.print(
        f"{found.method} {timed.stage.name}: {timed.stage.config.batch_size} clips a step, {timed.settings.precision}; "
        f"medians of {timed.rounds} turns of {timed.steps} steps each",
        soft_wrap=True,
    )
    for name, seconds in found.seconds.items():
        second, work = float(np.median(seconds)), float(np.median(found.work[name]))
        memory = found.memory[name]
        table.add_row(
            name,
            f"{found.clips / second:.1f}",
            f"{1000 * second / timed.steps:.1f}",
            f"{1000 * work / timed.steps:.1f}",
            "?" if memory is None else f"{memory / 2**20:,.0f} MiB",
        )
    console.print(table)
    for line in lines(found, packed):
        console.print(line, soft_wrap=True)


def lines(found: TrainingSpeed, packed: bool) -> list[str]:
    """What does not fit in a row."""
    text = [f"the harness takes longer than the plain loop by {longer(found.seconds)} of its time"]
    if found.timed.settings.device.type == "cpu":
        text[0] += f", {longer(found.work)} of the processor's"
    if BY_HAND in found.seconds:
        times, low, high = ratio(found.seconds, BY_HAND, PLAIN)
        text.append(f"attention by hand takes {times:.2f} ({low:.2f} to {high:.2f}) times as long as torch's own")
    source = "a pack" if packed else "media and feature files"
    seconds, _, waited = found.reading
    text.append(
        f"with the loader, from {source}: {found.clips * found.timed.rounds / seconds:.1f} samples/s, "
        f"{100 * waited / seconds:.1f} % of the time spent waiting for data"
    )
    rate, peak = found.flops_per_second, found.peak
    text.append(
        f"{found.flops / 1e9:,.1f} GFLOPs a step, {rate / 1e9:,.1f} GFLOP/s: {100 * rate / peak.measured:.1f} % of "
        f"{peak.measured / 1e9:,.1f}, the best product of matrices here ({peak.size} x {peak.size})"
    )
    if peak.specified is not None:
        share, specified = 100 * rate / peak.specified, peak.specified / 1e12
        text.append(f"and {share:.1f} % of the data sheet's {specified:,.0f} T ({peak.source})")
    return [*text, machine(found.timed.settings.device)]


def longer(times: dict[str, NDArray]) -> str:
    """`1.2 % (0.4 to 2.0)`: the harness than the plain loop, with its interval."""
    share, low, high = (100 * (value - 1) for value in ratio(times, HARNESS, PLAIN))
    return f"{share:.1f} % ({low:.1f} to {high:.1f})"


def machine(device: torch.device) -> str:
    """The hardware and the versions."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{processor()}, no GPU"
    versions = f"torch {torch.__version__}, lightning {lightning.__version__}, timm {timm.__version__}"
    return f"{name}, {torch.get_num_threads()} threads; {versions}, Python {platform.python_version()}"
