"""What launched this process: torchrun, Slurm's srun, or nothing that launches others beside it."""

from __future__ import annotations

import os
from dataclasses import replace

from bench.config.schema import TrainerConfig
from bench.errors import UserError


def by_torchrun() -> bool:
    """Whether torchrun started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ and "LOCAL_WORLD_SIZE" in os.environ


def by_srun() -> bool:
    """Whether srun started several of these. One alone in its step (or in a batch script) starts its own ranks."""
    return int(os.environ.get("SLURM_STEP_NUM_TASKS", 1)) > 1 and "SLURM_PROCID" in os.environ


def launched() -> tuple[int, int] | None:
    """(processes a node, nodes) as a launcher has started them; None without one."""
    if by_torchrun():
        here = int(os.environ["LOCAL_WORLD_SIZE"])
        return here, int(os.environ["WORLD_SIZE"]) // here
    if by_srun():
        tasks, nodes = int(os.environ["SLURM_STEP_NUM_TASKS"]), int(os.environ.get("SLURM_STEP_NUM_NODES", 1))
        if tasks % nodes:
            raise UserError(
                f"srun started {tasks} processes on {nodes} nodes; each node must have as many as the others"
            )
        return tasks // nodes, nodes
    return None


def as_launched(config: TrainerConfig) -> TrainerConfig:
    """With the devices and nodes of the launcher, where there is one.

    Raises:
        UserError: the configuration asks for others.
    """
    found = launched()
    if found is None:
        return config
    for key, here in zip(("devices", "nodes"), found, strict=True):
        if getattr(config, key) not in (1, here):
            raise UserError(
                f"trainer.{key}={getattr(config, key)}, but torchrun or srun started {found[0]} processes on each of "
                f"{found[1]} nodes; leave trainer.{key} out"
            )
    return replace(config, devices=found[0], nodes=found[1])
