"""What `auto` means on this machine, and how its processes find each other."""

from __future__ import annotations

import os

import torch
from lightning.fabric.plugins.environments import ClusterEnvironment, LightningEnvironment, SLURMEnvironment

from bench.config.launched import by_srun, by_torchrun
from bench.config.schema import TrainerConfig
from bench.errors import UserError


def resolve_accelerator(config: TrainerConfig) -> str:
    """`gpu` or `cpu`.

    Raises:
        UserError: if more GPUs are asked for than there are.
    """
    gpus = torch.cuda.device_count()
    accelerator = ("gpu" if gpus else "cpu") if config.accelerator == "auto" else config.accelerator
    if accelerator not in ("gpu", "cpu"):
        raise UserError(f"trainer.accelerator={accelerator}: choose auto, gpu or cpu")
    if config.devices > gpus and (accelerator == "gpu" or config.accelerator == "auto" and config.devices > 1):
        raise UserError(
            f"trainer.devices={config.devices}, but this machine has {gpus} GPUs; "
            f"for processes on the CPU add trainer.accelerator=cpu"
        )
    return accelerator


def resolve_precision(config: TrainerConfig) -> str:
    """Lightning's name of the precision; `auto:NAME` is what `auto` means on the machine of the jobs."""
    asked, _, found = config.precision.partition(":")
    if asked != "auto" or found:
        return found or asked
    on_gpu = resolve_accelerator(config) == "gpu"
    return "bf16-mixed" if on_gpu and torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"


class SrunEnvironment(SLURMEnvironment):
    """The ranks that one srun started. Lightning's own class reads the numbers of the job, which may have been given
    other steps, and asks that the configuration repeat them."""

    def __init__(self) -> None:
        super().__init__(auto_requeue=False)

    def world_size(self) -> int:
        return int(os.environ["SLURM_STEP_NUM_TASKS"])

    @staticmethod
    def _validate_srun_variables() -> None:
        """Those of the job say nothing here."""

    def validate_settings(self, num_devices: int, num_nodes: int) -> None:
        """`as_launched` has seen to it."""


def cluster_environment() -> ClusterEnvironment | None:
    """How ranks find each other; None: as Lightning finds out under torchrun."""
    if by_torchrun():
        return None
    # Elsewhere inside a job of Slurm, Lightning would take itself for one rank of many.
    return SrunEnvironment() if by_srun() else LightningEnvironment()
