"""What `auto` means on this machine."""

from __future__ import annotations

import torch

from bench.config import TrainerConfig
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
    """Lightning's name of the precision."""
    if config.precision != "auto":
        return config.precision
    on_gpu = resolve_accelerator(config) == "gpu"
    return "bf16-mixed" if on_gpu and torch.cuda.is_bf16_supported() else "32-true"
