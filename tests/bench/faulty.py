"""Runs of `bench` in which something goes wrong, see `faulty_bench.py`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench.test_run import SCRATCH, command
from tests.conftest import REPOSITORY

SCRIPT = Path(__file__).with_name("faulty_bench.py")
LIMIT = 400
"""Seconds after which a run counts as stalled."""


@dataclass
class Ended:
    status: int
    stdout: str
    stderr: str


def arguments(sample_root: Path, folder: Path, *overrides: str) -> list[str]:
    """`run` and what follows: the smallest stage that trains and is measured, with runs and boards in `folder`."""
    return command(sample_root, folder, *SCRATCH, *overrides)[3:]


def bench(fault: list[Any] | None, arguments: list[str]) -> Ended:
    """In a process of its own, which may start others; a whole process group."""
    run = [sys.executable, str(SCRIPT), json.dumps(fault), *arguments]
    done = subprocess.run(
        run, cwd=REPOSITORY, env=environment(), capture_output=True, text=True, timeout=LIMIT, process_group=0
    )
    return Ended(done.returncode, done.stdout, done.stderr)


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}


@dataclass
class Server:
    """Runs one command after the other, each in a process that has everything imported."""

    process: subprocess.Popen[str]
    output: Path

    def __call__(self, fault: list[Any] | None, arguments: list[str]) -> Ended:
        assert self.process.stdin is not None and self.process.stdout is not None
        request = {"fault": fault, "arguments": arguments, "output": str(self.output)}
        print(json.dumps(request), file=self.process.stdin, flush=True)
        status = json.loads(self.process.stdout.readline())
        return Ended(status, *((self.output / name).read_text() for name in ("stdout", "stderr")))


@contextmanager
def server(output: Path) -> Iterator[Server]:
    """A `Server`; the output of the last run lies in the folder."""
    run = [sys.executable, str(SCRIPT), "serve"]
    pipe = subprocess.PIPE
    with subprocess.Popen(run, cwd=REPOSITORY, env=environment(), stdin=pipe, stdout=pipe, text=True) as process:
        yield Server(process, output)
        assert process.stdin is not None
        process.stdin.close()
