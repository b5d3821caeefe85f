"""AdamW with linear warm-up, half-cycle cosine and layer-wise decay: the recipe of the MAE family."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from experiments.common.stage import Stage


@dataclass
class OptimConfig:
    """Numbers of the optimiser and its schedule."""

    base_lr: float = 2e-4
    """Learning rate of 256 clips a step; the peak rate is `base_lr * batch_size / 256` (AudioMAE `--blr`)."""
    betas: list[float] = field(default_factory=lambda: [0.9, 0.95])
    """Of AdamW."""
    weight_decay: float = 0.0
    """Of AdamW; biases, norms and single tokens (parameters of one axis) are spared."""
    warmup_epochs: float = 0.0
    """Epochs in which the rate rises linearly from 0 to its peak."""
    min_lr: float = 0.0
    """Rate at the end of the cosine."""
    layer_decay: float = 1.0
    """The rate of layer i of n is multiplied by `layer_decay ** (n - i)`; 1 = off."""


def peak_lr(optim: OptimConfig, batch_size: int) -> float:
    """The learning rate after warm-up for a global batch of `batch_size` clips (linear scaling rule)."""
    return optim.base_lr * batch_size / 256


def lr_factor(epoch: float, epochs: float, warmup_epochs: float, min_factor: float) -> float:
    """Share of the peak rate at a fractional `epoch`: linear warm-up, then half a cosine down to `min_factor`."""
    if epoch < warmup_epochs:
        return epoch / warmup_epochs
    done = min((epoch - warmup_epochs) / max(epochs - warmup_epochs, 1e-9), 1.0)
    return min_factor + (1 - min_factor) * 0.5 * (1 + math.cos(math.pi * done))


def param_groups(stage: Stage) -> list[dict[str, Any]]:
    """The trainable parameters by (layer, decayed or not), each group with its learning rate and weight decay."""
    optim, peak = stage.spec.optim, peak_lr(stage.spec.optim, stage.spec.batch_size)
    groups: dict[tuple[int, bool], dict[str, Any]] = {}
    for name, parameter in stage.named_parameters():
        if not parameter.requires_grad:
            continue
        layer, layers = stage.layer_of(name)
        decayed = parameter.ndim > 1
        group = groups.setdefault(
            (layer, decayed),
            {
                "name": f"layer {layer}" + ("" if decayed else ", no decay"),
                "params": [],
                "lr": peak * optim.layer_decay ** (layers - layer),
                "weight_decay": optim.weight_decay if decayed else 0.0,
            },
        )
        group["params"].append(parameter)
    return list(groups.values())


def make_optimizer(stage: Stage) -> dict[str, Any]:
    """AdamW and its per-step schedule, as Lightning's `configure_optimizers` returns them."""
    spec, optim = stage.spec, stage.spec.optim
    optimizer = torch.optim.AdamW(param_groups(stage), betas=tuple(optim.betas))
    min_factor = optim.min_lr / peak_lr(optim, spec.batch_size)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: lr_factor(step / spec.steps_per_epoch, spec.epochs, optim.warmup_epochs, min_factor),
    )
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
