"""Where the windows of a clip lie, see `WindowConfig`.

Windows are placed in relation to each other first, then all of them together within the clip, so that none of them
reaches past its end.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping

from datamodules.errors import DataError
from datamodules.streams.known import streams_of
from datamodules.types import Inputs, WindowConfig

OWN = ""
"""The name of the clip's own window."""
Draw = Callable[[str], float]
"""A uniform number in [0, 1) for a purpose; the same one at each call."""
ROUNDING = 1e-6
"""Seconds by which a clip may be shorter than its windows need."""


class TooShort(Exception):
    """A clip that is shorter than its windows."""


def window_lengths(inputs: Inputs) -> dict[str, float]:
    """Window -> seconds that its longest stream reads, that of the clip's own under `OWN`."""
    lengths = dict.fromkeys((OWN, *inputs.windows), 0.0)
    for stream in streams_of(inputs).values():
        lengths[stream.window] = max(lengths[stream.window], stream.seconds)
    return lengths


def check_windows(windows: Mapping[str, WindowConfig]) -> None:
    """Checks how windows are said to lie.

    Raises:
        DataError: naming the setting.
    """
    for name, config in windows.items():
        where = f"data.inputs.windows.{name}"
        if not name.isidentifier():
            raise DataError(f"{where}: no window can be called {name!r}; choose letters, digits and _")
        if config.count < 1:
            raise DataError(f"{where}.count={config.count}: there is 1 window or more")
        if len(config.by) != 2 or config.by[0] > config.by[1]:
            raise DataError(f"{where}.by={config.by}: give the least and the most, e.g. [0.5, 0.5]")
        if config.lies == "overlapping" and not 0 <= config.by[0] <= config.by[1] <= 1:
            raise DataError(f"{where}.by={config.by}: windows have a share from 0 to 1 in common")
        if config.lies == "apart" and config.by[0] < 0:
            raise DataError(f"{where}.by={config.by}: windows are 0 s or more apart; lies=overlapping has them overlap")
    in_order(windows)


def in_order(windows: Mapping[str, WindowConfig]) -> list[str]:
    """Their names, each after the one from which its place is counted.

    Raises:
        DataError: for a window that is not there, or a circle.
    """
    for name, config in windows.items():
        if config.to not in (OWN, *windows):
            raise DataError(
                f"data.inputs.windows.{name}.to={config.to}: there is no such window; there are: {', '.join(windows)}"
            )
        if config.to and windows[config.to].lies == "anywhere":
            raise DataError(
                f"data.inputs.windows.{name}.to={config.to}: that window lies anywhere, and nothing is counted from it"
            )
    order: list[str] = []
    while len(order) < len(windows):
        ready = [name for name in windows if name not in order and windows[name].to in (OWN, *order)]
        if not ready:
            left = [name for name in windows if name not in order]
            raise DataError(f"data.inputs.windows: {', '.join(left)} are each counted from another of them")
        order += ready
    return order


def seconds_needed(inputs: Inputs) -> float:
    """The least length of a clip whose windows can be read; 0 where it has no more than its own."""
    return span(inputs.windows, window_lengths(inputs)) if inputs.windows else 0.0


def span(windows: Mapping[str, WindowConfig], lengths: Mapping[str, float]) -> float:
    """The most seconds of a clip that its windows need.

    Args:
        windows: by name.
        lengths: seconds of each, see `window_lengths`.
    """
    # What is furthest apart is at the ends of what is drawn.
    corners = itertools.product(((0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0)), repeat=len(windows))
    return max(_extent(_offsets(windows, lengths, _corner(windows, corner)), lengths) for corner in corners)


def _corner(windows: Iterable[str], corner: tuple[tuple[float, float], ...]) -> Draw:
    ends = {
        f"window {purpose} {name}": u
        for name, each in zip(windows, corner, strict=True)
        for purpose, u in zip(("side", "by"), each, strict=True)
    }
    return lambda purpose: ends[purpose.rpartition(" ")[0]]


def places(
    windows: Mapping[str, WindowConfig],
    lengths: Mapping[str, float],
    seconds: float,
    window: float,
    draw: Draw,
    grid: float = 0.0,
) -> dict[str, list[float]]:
    """Window -> where each of its kind begins, in seconds from the clip's start.

    Args:
        windows: by name.
        lengths: seconds of each, see `window_lengths`.
        seconds: of the clip.
        window: 0 = all of them as early as they can be, 1 = as late.
        draw: for what else is drawn.
        grid: seconds, see `Inputs.grid`.

    Raises:
        TooShort: the clip is.
    """
    offsets = _offsets(windows, lengths, draw)
    spare = seconds - max(_extent(offsets, lengths), *lengths.values())
    if spare < -ROUNDING:
        raise TooShort(f"{seconds:g} s of the {seconds - spare:g} s that its windows need")
    first = min(itertools.chain(*offsets.values()))
    # A video whose length is not known, as its file is not read, is cut at its start.
    own = _on_grid(-first, max(0.0, spare if spare < math.inf else 0.0), window, grid)
    begins = {name: [own + offset for offset in each] for name, each in offsets.items()}
    for name, config in windows.items():
        if config.lies == "anywhere":
            room = max(0.0, seconds - lengths[name]) if seconds < math.inf else 0.0
            begins[name] = [draw(f"window by {name} {place}") * room for place in range(config.count)]
    return begins


def _on_grid(first: float, spare: float, window: float, grid: float) -> float:
    """Where the clip's own window begins: from `first` on, up to `spare` seconds later, where there is room for it at a
    multiple of `grid`."""
    if grid:
        least, most = math.ceil((first - ROUNDING) / grid), math.floor((first + spare + ROUNDING) / grid)
        if least <= most:
            return grid * min(most, least + int(window * (most - least + 1)))
    return first + window * spare


def _offsets(windows: Mapping[str, WindowConfig], lengths: Mapping[str, float], draw: Draw) -> dict[str, list[float]]:
    """Window -> by how many seconds each of its kind begins later than the clip's own."""
    offsets = {OWN: [0.0]}
    for name in in_order(windows):
        config = windows[name]
        if config.lies == "anywhere":
            continue
        if config.lies == "within":
            room = max(0.0, lengths[config.to] - lengths[name])
            drawn = (draw(f"window by {name} {place}") for place in range(config.count))
            offsets[name] = [offsets[config.to][-1] + u * room for u in drawn]
            continue
        at, before = offsets[config.to][-1], config.to
        offsets[name] = []
        for place in range(config.count):
            u = draw(f"window side {name} {place}"), draw(f"window by {name} {place}")
            at += _step(config, lengths[name], lengths[before], *u)
            offsets[name].append(at)
            before = name
    return offsets


def _step(config: WindowConfig, own: float, other: float, side: float, by: float) -> float:
    """Seconds from the begin of the window before to its own.

    Args:
        config: how it lies.
        own: seconds of the window.
        other: seconds of the one before.
        side, by: 0..1, what is drawn.
    """
    least, most = config.by
    drawn = least + by * (most - least)
    before = config.side == "before" or (config.side == "either" and side >= 0.5)
    match config.lies:
        case "same":
            return 0.0
        case "shifted":
            return -drawn if before else drawn
        case "overlapping":
            return -(1 - drawn) * own if before else (1 - drawn) * other
        case "adjacent":
            return -own if before else other
        case _:
            return -(own + drawn) if before else other + drawn


def _extent(offsets: Mapping[str, list[float]], lengths: Mapping[str, float]) -> float:
    """Seconds from the begin of the first window to the end of the last."""
    first = min(itertools.chain(*offsets.values()))
    return max(offset + lengths[name] for name, each in offsets.items() for offset in each) - first
