"""What decoding makes of media files that may be broken.

Files are examined in a process that is watched from outside: a file at which it crashes or hangs is reported. The same
process takes file after file, so that what leaks shows.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from datamodules.media.decode import REASONS, MediaError, check, read_audio, read_frames

FRAME_TIMES = [0.0, 0.3, 0.9, 1.7, 8.0]
PICTURE_SIZE, SOUND_SECONDS, SOUND_RATE = 224, 10, 16000


@dataclass(frozen=True)
class Outcome:
    """What became of a file. Each verdict is "read", a reason of `REASONS`, or what else happened."""

    path: Path
    check: str
    sound: str = ""
    frames: str = ""
    duration: float = np.nan
    """Seconds, as `check` says."""
    seconds: float = 0.0
    """Wall-clock."""
    memory: int = 0
    """Bytes that are resident after the file."""
    peak: int = 0
    """The most bytes that were resident so far."""
    handles: int = 0
    """Open files of the process after the file."""

    @property
    def verdicts(self) -> tuple[str, str, str]:
        return self.check, self.sound, self.frames


def _verdict(use: Callable[[], str]) -> str:
    try:
        return use()
    except MediaError as error:
        return error.reason if error.reason in REASONS else f"unknown reason {error.reason}"
    except BaseException as error:
        return f"{type(error).__name__}: {error}"


def examine(path: Path) -> Outcome:
    """Checks a file and reads it, whatever the check says."""
    found = [np.nan]

    def checked() -> str:
        found[0] = check(path, need_audio=True, need_video=True).duration
        return "read" if np.isfinite(found[0]) else f"a duration of {found[0]} s"

    def heard() -> str:
        sound = read_audio(path, 0, SOUND_SECONDS, SOUND_RATE)
        right = sound.dtype == np.float32 and sound.ndim == 1 and len(sound) <= SOUND_SECONDS * SOUND_RATE
        return "read" if right and np.isfinite(sound).all() else f"sound {sound.dtype} {sound.shape}"

    def seen() -> str:
        frames = read_frames(path, FRAME_TIMES, PICTURE_SIZE)
        right = frames.dtype == np.uint8 and frames.shape == (len(FRAME_TIMES), PICTURE_SIZE, PICTURE_SIZE, 3)
        return "read" if right else f"frames {frames.dtype} {frames.shape}"

    start = time.perf_counter()
    verdicts = [_verdict(use) for use in (checked, heard, seen)]
    seconds = time.perf_counter() - start
    handles = len(os.listdir("/proc/self/fd"))
    return Outcome(path, *verdicts, found[0], seconds, _memory("VmRSS"), _memory("VmHWM"), handles)


def _memory(name: str) -> int:
    """A value of Linux' /proc/self/status in bytes; getrusage's peak is that of the process that started this one."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def _serve(connection: Connection, examine: Callable[[Path], Outcome]) -> None:
    while (path := connection.recv()) is not None:
        connection.send(examine(path))


def examine_all(paths: Iterable[Path], limit: float, examine: Callable[[Path], Outcome] = examine) -> Iterator[Outcome]:
    """Examines files in a child process: "crash" where it ends, "hang" where it takes over `limit` seconds."""
    context = multiprocessing.get_context("spawn")
    child = None
    for path in paths:
        if child is None:
            ours, theirs = context.Pipe()
            child = context.Process(target=_serve, args=(theirs, examine), daemon=True)
            child.start()
            theirs.close()
            ours.send(Path("none"))  # what is loaded once is not the first file's
            ours.recv()
        ours.send(path)
        try:
            outcome = ours.recv() if ours.poll(limit) else Outcome(path, "hang", seconds=limit)
        except EOFError:
            outcome = Outcome(path, "crash")
        yield outcome
        if outcome.check in ("hang", "crash"):
            child.kill()
            child = None
    if child is not None:
        ours.send(None)
        child.join()
