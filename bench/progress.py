"""One progress display for all long work: a bar with the time left, or plain lines where nobody watches."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

T = TypeVar("T")

LINE_EVERY_SECONDS = 10.0

console = Console(stderr=True, highlight=False)


def clock(seconds: float) -> str:
    """`75` -> `1:15`, `4000` -> `1:06:40`."""
    minutes, second = divmod(int(round(seconds)), 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour}:{minute:02}:{second:02}" if hour else f"{minute}:{second:02}"


class Progress:
    """Counts done work up to `total`; a bar on a terminal, a line every ten seconds elsewhere.

    `start` is work that an earlier, cut-off run has done: it counts as done, not towards the speed.
    """

    def __init__(self, title: str, total: int, start: int = 0):
        self.title, self.total, self.done = title, total, start
        self._start, self._began, self._last_line = start, time.monotonic(), time.monotonic()
        self._note = ""
        self._bar: RichProgress | None = None

    def __enter__(self) -> Progress:
        if sys.stderr.isatty():
            self._bar = RichProgress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
                console=console,
            )
            self._bar.start()
            self._task = self._bar.add_task(self.title, total=self.total, completed=self.done, note="")
        return self

    def advance(self, note: str | None = None) -> None:
        """One more unit is done; `note` (a loss, say) is shown beside the time left until the next note."""
        self.done += 1
        self._note = self._note if note is None else note
        if self._bar is not None:
            self._bar.update(self._task, advance=1, note=self._note)
        elif time.monotonic() - self._last_line >= LINE_EVERY_SECONDS:
            self._last_line = time.monotonic()
            print(
                f"{self.title}: {self.done}/{self.total}, {self._time_left()} left  {self._note}".rstrip(),
                file=sys.stderr,
            )

    def _time_left(self) -> str:
        speed = (self.done - self._start) / max(time.monotonic() - self._began, 1e-9)
        return clock((self.total - self.done) / speed) if speed else "?"

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.stop()
        elif error[0] is None:
            took = clock(time.monotonic() - self._began)
            print(f"{self.title}: {self.done}/{self.total} done in {took}", file=sys.stderr)


def track(items: Iterable[T], title: str, total: int) -> Iterator[T]:
    """Yields the items, showing progress."""
    with Progress(title, total) as progress:
        for item in items:
            yield item
            progress.advance()
