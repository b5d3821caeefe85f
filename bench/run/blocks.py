"""What can be done to a network's blocks without the method's knowledge: less memory, or compiled code."""

from __future__ import annotations

from functools import partial

import torch
from torch.utils.checkpoint import checkpoint

from bench.config.schema import TrainerConfig
from bench.errors import UserError
from experiments.common.stage import Stage


def prepare_blocks(module: Stage, config: TrainerConfig, name: str) -> None:
    """Applies `checkpoint_activations` and `compile` to the stage's blocks, and the layout that the stage asks for. The
    names of the weights stay.

    Raises:
        UserError: the stage has no blocks that this can be done to.
    """
    if module.channels_last:
        module.to(memory_format=torch.channels_last)
    wanted = [key for key in ("checkpoint_activations", "compile") if getattr(config, key)]
    if not wanted:
        return
    blocks = module.blocks()
    if not blocks:
        raise UserError(f"stage {name} has no transformer blocks; leave trainer.{wanted[0]} out")
    for block in blocks:
        if config.checkpoint_activations:
            # Draws what it drew before, so that dropout and stochastic depth are the same.
            block.forward = partial(checkpoint, block.forward, use_reentrant=False)
        if config.compile:
            block.compile()
