"""A small method for tests of jobs: as a package of its own, whose training can be made to wait or to fail.

It learns VGGSound's classes from sound in two stages. The environment says what its processes do:

`GATE=<folder>`: the first stage of seed 0 makes `<folder>/began` (with its number at Slurm) in its second step and goes
on when it has received SIGUSR1, which it notes as `<folder>/signalled`. A process that finds the note does not wait.
`BREAK=<seed>`: training with this seed fails.
"""

from __future__ import annotations

from pathlib import Path

NAME = "gated"
METHOD = """
import os
import signal
import time
from pathlib import Path

from experiments.baseline_cnn.method import Train

DEADLINE_SECONDS = 500


class Classify(Train):
    def training_step(self, batch, batch_idx):
        if os.environ.get("BREAK") == str(self.spec.seed):
            raise RuntimeError("broken on purpose")
        return super().training_step(batch, batch_idx)


class Pretrain(Classify):
    def training_step(self, batch, batch_idx):
        if "GATE" in os.environ and self.spec.seed == 0 and batch_idx == 1:
            wait_for_signal(Path(os.environ["GATE"]))
        return super().training_step(batch, batch_idx)


def wait_for_signal(folder):
    signalled, answer = folder / "signalled", signal.getsignal(signal.SIGUSR1)
    if signalled.exists():
        return

    def hear(number, frame):
        signalled.touch()
        answer(number, frame)

    signal.signal(signal.SIGUSR1, hear)
    number = folder / "number"
    number.write_text(os.environ.get("SLURM_JOB_ID", ""))
    number.rename(folder / "began")
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not signalled.exists():
        if time.monotonic() > deadline:
            raise RuntimeError("SIGUSR1 never came")
        time.sleep(0.01)
"""
CONFIG = """
version: 1
model: {widths: [8, 16, 16, 16]}
data:
  inputs:
    audio: {sample_rate: 16000, mel_bins: 32, frames: 100}
    video: null
  loader: {workers: 0}
trainer: {checkpoint_every: 1}
stages:
  pretrain: &train
    module: Pretrain
    dataset: vggsound
    train: [train]
    modality: a
    epochs: 2
    batch_size: 16
    optim: {base_lr: 1.6e-2}
  classify: {<<: *train, module: Classify, after: pretrain, board: vggsound}
presets:
  tiny: {}
  paper: {}
variants:
  scratch: {stages: {pretrain: null, classify: {after: null}}}
"""


def install(folder: Path) -> Path:
    """Writes the package and what names it, to be put on `PYTHONPATH`; returns the folder."""
    package, named = folder / NAME, folder / f"{NAME}-1.dist-info"
    for new in (package, named):
        new.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "method.py").write_text(METHOD)
    (package / "config.yaml").write_text(CONFIG)
    (named / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {NAME}\nVersion: 1\n")
    (named / "entry_points.txt").write_text(f"[avl_bench.methods]\n{NAME} = {NAME}\n")
    return folder
