"""What `bench speed train` prints."""

from __future__ import annotations

import platform

import lightning
import numpy as np
import timm
import torch
from numpy.typing import NDArray
from rich.table import Table

from bench.show import console
from bench.speed_eval import processor
from bench.speed_train import BY_HAND, HARNESS, PLAIN, Measured, ratios


def print_measured(found: Measured, packed: bool) -> None:
    timed = found.timed
    rounds = len(found.seconds[HARNESS])
    table = Table("loop", "samples/s", "ms a step", "processor ms a step", "peak memory")
    console.print(
        f"{found.method} {timed.stage.name}: {timed.stage.config.batch_size} clips a step, {timed.settings.precision}; "
        f"medians of {rounds} rounds of {timed.steps} steps",
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


def lines(found: Measured, packed: bool) -> list[str]:
    """What does not fit in a row."""
    wall, work = (ratios(times, HARNESS, PLAIN) - 1 for times in (found.seconds, found.work))
    told = [f"the harness takes longer than the plain loop by {spread(100 * wall)} % of its time"]
    if found.timed.settings.device.type == "cpu":
        told[0] += f", {spread(100 * work)} % of the processor's"
    if BY_HAND in found.seconds:
        times = ratios(found.seconds, BY_HAND, PLAIN)
        told.append(f"attention by hand takes {spread(times, 2)} times as long as torch's own")
    source = "a pack" if packed else "media and feature files"
    told.append(
        f"with the loader, from {source}: {found.clips / found.reading_seconds:.1f} samples/s, "
        f"{100 * found.data_wait:.1f} % of the time spent waiting for data"
    )
    rate, peak = found.flops_per_second, found.peak
    told.append(
        f"{found.flops / 1e9:,.1f} GFLOPs a step, {rate / 1e9:,.1f} GFLOP/s: {100 * rate / peak.measured:.1f} % of "
        f"{peak.measured / 1e9:,.1f}, the best product of matrices here ({peak.size} x {peak.size})"
    )
    if peak.told is not None:
        told.append(f"and {100 * rate / peak.told:.1f} % of the data sheet's {peak.told / 1e12:,.0f} T ({peak.source})")
    return [*told, machine(found.timed.settings.device)]


def spread(values: NDArray, digits: int = 1) -> str:
    """`1.2 (0.4 to 2.0)`: the median, the least and the most."""
    return f"{np.median(values):.{digits}f} ({values.min():.{digits}f} to {values.max():.{digits}f})"


def machine(device: torch.device) -> str:
    """The hardware and the versions."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{processor()}, no GPU"
    versions = f"torch {torch.__version__}, lightning {lightning.__version__}, timm {timm.__version__}"
    return f"{name}, {torch.get_num_threads()} threads; {versions}, Python {platform.python_version()}"
