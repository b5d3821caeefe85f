"""Runs of `bench` with the smallest network, in which something may go wrong, see `faulty_bench.py`."""

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

import torch

from tests.conftest import REPOSITORY

# A network that trains in a second; two epochs of two or three steps each.
SMALLEST = [
    *("model.dim=32", "model.depth=2", "model.heads=2", "model.fusion_depth=1"),
    *("model.decoder_dim=32", "model.decoder_depth=1", "model.decoder_heads=2"),
    *("data.loader.workers=0", "trainer.checkpoint_every=1"),
    *(f"stages.finetune_{name}=null" for name in ("audioset_a", "audioset_v", "vggsound_a", "vggsound_v")),
]
STAGES = ("pretrain", "pretrain_2", "finetune_audioset_av", "finetune_vggsound_av")
SCRATCH = ["variant=scratch", "stage=finetune_vggsound_av"]
TWO_PROCESSES = ["trainer.accelerator=cpu", "trainer.devices=2"]

SCRIPT = Path(__file__).with_name("faulty_bench.py")
LIMIT = 400
"""Seconds after which a run counts as stalled."""


@dataclass
class Ended:
    status: int
    stdout: str
    stderr: str


def whole_plan(sample_root: Path, folder: Path, *overrides: str) -> list[str]:
    """`run` and what follows: pretraining in two stages, both fine-tunings; with runs and boards in `folder`."""
    stages = STAGES[2:] if "variant=scratch" in overrides else STAGES
    training = [f"stages.{stage}.{setting}" for stage in stages for setting in ("epochs=2", "batch_size=16")]
    # Stochastic depth draws from torch's own generator, which a resumed run must find as it was.
    options = [f"stages.{stage}.options.{o}" for stage in STAGES[2:] for o in ("ft_fusion_depth=2", "drop_path=0.3")]
    places = [f"sample_root={sample_root}", f"runs={folder / 'runs'}", f"leaderboards={folder / 'leaderboards'}"]
    return ["run", "mavil", *SMALLEST, *training, *options, *places, *overrides]


def run_folders(folder: Path) -> dict[str, Path]:
    """Stage -> its folder."""
    return {path.name.rpartition("-")[0]: path for path in (folder / "runs" / "mavil").iterdir()}


def weights(folder: Path) -> dict[str, dict[str, torch.Tensor]]:
    return {stage: torch.load(path / "weights.pt", weights_only=True) for stage, path in run_folders(folder).items()}


def arguments(sample_root: Path, folder: Path, *overrides: str) -> list[str]:
    """The same for the smallest stage that trains and is measured."""
    return whole_plan(sample_root, folder, *SCRATCH, *overrides)


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
