"""Measures the runs of a suite: predictions, the times of training steps, memory.

Two trees are measured side by side: both train at the same time and take their steps in turn, so that whatever else
the machine does slows both alike.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from bench.plan.layout import PREDICTIONS, RECORD
from bench.progress import console
from datamodules.files import write_json

SCRIPT = Path(__file__).with_name("steps.py")
MEASURED = "measured.json"
LINES = 8
"""Of a failed run's log that are shown."""


@dataclass
class Run:
    """One of a suite's runs: `bench run METHOD key=value…`."""

    method: str = "???"
    overrides: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Scored:
    """A measured stage."""

    stage: str
    board: str
    modality: str
    fold: str
    predictions: str
    """The name of its file."""

    @property
    def key(self) -> tuple[str, ...]:
        """What is equal of it on both sides."""
        return self.stage, self.board, self.modality, self.fold


@dataclass(frozen=True)
class MeasuredRun:
    """What a run left, as it lies in a folder: `measured.json` and the predictions beside it."""

    folder: Path
    run: Run
    scored: tuple[Scored, ...] = ()
    seconds: tuple[float, ...] = ()
    """Of each training step."""
    memory: int | None = None
    """Bytes, at most; of the GPU if there is one."""
    failure: str = ""
    """Why there is no more of it."""
    about: dict[str, Any] = field(default_factory=dict)
    """For people: the commit, the machine."""

    def write(self) -> None:
        content = {name: value for name, value in vars(self).items() if name not in ("folder", "run", "scored")}
        write_json(
            self.folder / MEASURED,
            content | {"run": asdict(self.run), "scored": [asdict(each) for each in self.scored]},
        )


def load(folder: Path) -> MeasuredRun:
    """What `MeasuredRun.write` wrote."""
    content = json.loads((folder / MEASURED).read_text())
    content["run"], content["seconds"] = Run(**content["run"]), tuple(content["seconds"])
    content["scored"] = tuple(Scored(**each) for each in content["scored"])
    return MeasuredRun(folder, **content)


@dataclass(frozen=True)
class MeasuredTree:
    """A tree whose code runs, and where."""

    tree: Path
    folder: Path
    """Of what it leaves, one folder a run."""
    overrides: tuple[str, ...]
    """For all runs, e.g. `trainer.devices=8`."""


def measure(name: str, run: Run, sides: Sequence[MeasuredTree]) -> list[MeasuredRun]:
    """Runs one of the suite's runs on all sides, their training steps taken in turn.

    A run that fails does not raise; its `failure` says why.
    """
    processes = [_Process(name, run, side) for side in sides]
    try:
        order, training = list(processes), True
        while training:
            training = any([process.step() for process in order])
            order.reverse()  # neither is always the one that finds the other's data in the cache
        return [process.finish() for process in processes]
    finally:
        for process in processes:
            process.end()


class _Process:
    """A run on one side."""

    def __init__(self, name: str, run: Run, side: MeasuredTree):
        self.run, self.folder = run, side.folder / name
        self.folder.mkdir(parents=True)
        self.log: IO[bytes] = (self.folder / "log.txt").open("wb")
        places = [f"runs={self.folder / 'runs'}", f"leaderboards={self.folder / 'leaderboards'}"]
        self.process = subprocess.Popen(
            [sys.executable, str(SCRIPT), run.method, *side.overrides, *run.overrides, *places],
            cwd=side.tree,
            env=os.environ | {"PYTHONPATH": str(side.tree)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            bufsize=0,
        )
        assert self.process.stdout is not None
        self.reports = os.fdopen(os.dup(self.process.stdout.fileno()), "r")
        self.seconds: list[float] = []
        self.memory: int | None = None

    def step(self) -> bool:
        """Lets it take one step; False if it trains no more."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(b".")
        except BrokenPipeError:
            return False
        line = self.reports.readline()
        if not line:
            return False
        report = json.loads(line)
        self.seconds.append(report["seconds"])
        self.memory = report["memory"]
        return True

    def finish(self) -> MeasuredRun:
        """Waits for its end, and keeps what is compared."""
        status = self.process.wait()
        if status:
            return MeasuredRun(self.folder, self.run, failure=self._failure(status))
        scored = []
        for path in sorted((self.folder / "runs").glob(f"*/*/{RECORD}")):
            record = json.loads(path.read_text())
            file = "-".join(filter(None, (record["stage"], record["board"], record["fold"]))) + ".parquet"
            shutil.move(path.with_name(PREDICTIONS), self.folder / file)
            scored.append(Scored(record["stage"], record["board"], record["modality"], record["fold"], file))
            about = {key: record[key] for key in ("created", "commit", "dirty", "hardware", "versions")}
        if not scored:
            return MeasuredRun(self.folder, self.run, failure="it measured no board")
        measured = MeasuredRun(self.folder, self.run, tuple(scored), tuple(self.seconds), self.memory, "", about)
        measured.write()
        return measured

    def _failure(self, status: int) -> str:
        lines = (self.folder / "log.txt").read_text(errors="replace").strip().splitlines()
        for line in lines[-LINES:]:
            console.print(f"  {line}", markup=False, soft_wrap=True)
        return f"ended with {status}: {lines[-1] if lines else 'it said nothing'}"

    def end(self) -> None:
        """Kills it if it still runs."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for stream in (self.log, self.reports, self.process.stdin, self.process.stdout):
            assert stream is not None
            stream.close()
