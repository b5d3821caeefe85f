"""`bench speed eval`: ranks of retrieval, beside sorting every row of the similarities with numpy.

The latter is what most repositories do (docs/protocols.md, rule 6). It is timed on some rows and scaled to all.
"""

from __future__ import annotations

import platform
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from rich.table import Table
from scipy.special import ndtri

from bench.errors import UserError
from bench.tables.show import console
from bench.tasks.ranks import retrieval_ranks

T = TypeVar("T")

SAMPLE = 1024
"""Queries whose rows are sorted."""
ROWS = 128
"""Rows that are sorted at a time: 100,000 items' are 51 MB, and as much again for each step of the routine."""


@dataclass
class Timing:
    """What ranking all queries took."""

    method: str
    seconds: float
    """For all queries."""
    work: float
    """Processor seconds, of all threads together: what the time would be on one thread of a quiet machine."""
    peak: int | None
    """Bytes above what was there before; None where the system does not report it."""


def timing(method: str, taken: NDArray[np.float64], peak: int | None) -> Timing:
    """A `Timing` of what `clocks` says was taken."""
    seconds, work = taken
    return Timing(method, seconds, work, peak)


def evaluation(queries: int, items: int, dim: int, seed: int) -> None:
    """Times everything and prints it."""
    if not 1 <= queries <= items or dim < 1:
        raise UserError(
            f"queries={queries} items={items} dim={dim}: expected 1 <= queries <= items and dim of 1 or more"
        )
    query_QD, gallery_ND = embeddings(queries, items, dim, seed)
    rows = np.unique(np.linspace(0, queries - 1, min(queries, SAMPLE)).astype(int))
    share = len(rows) / queries
    (by_sorting, product_seconds, sort_seconds), peak = measured(lambda: sorted_ranks(query_QD, gallery_ND, rows))
    began = clocks()
    ours, our_peak = measured(lambda: retrieval_ranks(query_QD, gallery_ND, similarity="dot"))
    our_seconds = clocks() - began
    timings = [
        timing("numpy: sort every row", sort_seconds / share, peak),
        timing("numpy: multiply, sort every row", (product_seconds + sort_seconds) / share, peak),
        timing("bench.tasks.ranks", our_seconds, our_peak),
    ]
    print_timings(timings, queries, f"{queries:,} queries x {items:,} items x {dim} dimensions, float32")
    console.print(
        f"{processor()}, torch {torch.__version__} with {torch.get_num_threads()} threads, numpy {np.__version__}"
    )
    if share < 1:
        console.print(f"numpy's rows: {len(rows):,} of {queries:,} were timed, and the seconds are scaled to all")
    rank_Q = ours.averaged
    same = np.count_nonzero(rank_Q[rows] == by_sorting)
    console.print(
        f"the same rank in {same:,} of {len(rows):,} sorted rows (float32 products may swap neighbours); "
        f"R@10 {100 * ours.found(10).mean():.1f} %, median rank {np.median(rank_Q) + 1:g}"
    )


def embeddings(queries: int, items: int, dim: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Vectors of length 1: random items, and the first ones with so much noise that R@10 is about a half."""
    rng = np.random.default_rng(seed)
    tenth = -ndtri(min(10 / items, 0.25))  # standard deviations of the tenth-best rival's cosine
    noise = np.float32(max(dim / tenth**2 - 1, 0) ** 0.5)
    gallery_ND = rng.standard_normal((items, dim), np.float32)
    query_QD = rng.standard_normal((queries, dim), np.float32)
    query_QD *= noise
    query_QD += gallery_ND[:queries]
    for x_ND in (query_QD, gallery_ND):
        x_ND /= np.sqrt(np.einsum("nd,nd->n", x_ND, x_ND))[:, None]
    return query_QD, gallery_ND


def sorted_ranks(query_QD: NDArray, gallery_ND: NDArray, rows: NDArray) -> tuple[NDArray, NDArray, NDArray]:
    """The ranks of these queries by sorting, ties averaged; `clocks` of the products, and of sorting and looking up."""
    found, product_seconds, sort_seconds = [], np.zeros(2), np.zeros(2)
    for start in range(0, len(rows), ROWS):
        own = rows[start : start + ROWS]
        began = clocks()
        similarity_bN = query_QD[own] @ gallery_ND.T
        multiplied = clocks()
        right_b1 = -np.take_along_axis(similarity_bN, own[:, None], axis=1)
        row, place = np.where(np.sort(-similarity_bN, axis=1) - right_b1 == 0)
        product_seconds += multiplied - began
        sort_seconds += clocks() - multiplied
        found.append(np.bincount(row, place) / np.bincount(row))
    return np.concatenate(found), product_seconds, sort_seconds


def clocks() -> NDArray:
    """[2] seconds of the wall clock and of the processor."""
    return np.array([time.perf_counter(), time.process_time()])


def measured(run: Callable[[], T]) -> tuple[T, int | None]:
    """What `run` gives, and the most memory that it took above what was there before (Linux)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    except OSError:
        return run(), None
    before = memory("VmRSS")
    return run(), memory("VmHWM") - before


def memory(field: str) -> int:
    """Bytes of this process, e.g. `VmRSS`, now, or `VmHWM`, the most."""
    found = re.search(rf"^{field}:\s*(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None
    return 1024 * int(found[1])


def processor() -> str:
    """The processor's name."""
    try:
        found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found[1] if found else platform.processor() or platform.machine()


def print_timings(timings: list[Timing], queries: int, title: str) -> None:
    """Prints the ways of ranking side by side; ours is the last one."""
    ours = timings[-1].seconds
    table = Table(
        "method", "seconds", "processor seconds", "queries/s", "times ours", "peak memory above the embeddings"
    )
    table.title = title
    table.title_justify = "left"
    for timing in timings:
        table.add_row(
            timing.method,
            f"{timing.seconds:.1f}",
            f"{timing.work:.1f}",
            f"{queries / timing.seconds:,.0f}",
            f"{timing.seconds / ours:.2f}",
            "?" if timing.peak is None else f"{timing.peak / 2**20:,.0f} MiB",
        )
    console.print(table)
