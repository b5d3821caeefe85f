"""Optimisers and their schedules, a function of the step alone; `plateau` is one of the validations so far, too.

AdamW with linear warm-up, half a cosine and layer-wise decay is the recipe of the MAE family; Adam with steps of the
rate that of AST, PSLA and UAVM; SGD with a cosine that of MBT.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from datamodules.frozen import Freezable


@dataclass
class OptimConfig(Freezable):
    """Hyperparameters of the optimiser and its schedule."""

    algorithm: Literal["adamw", "adam", "sgd"] = "adamw"
    """`sgd` has momentum `betas[0]`, not Nesterov's."""
    base_lr: float = 2e-4
    """Learning rate for 256 clips per step; the peak rate is `base_lr * batch_size / 256` (AudioMAE `--blr`)."""
    lr: float = 0.0
    """The peak rate itself, whatever the batch; 0 = see `base_lr`."""
    betas: list[float] = field(default_factory=lambda: [0.9, 0.95])
    weight_decay: float = 0.0
    """AdamW exempts biases, norms and single tokens (parameters of one axis); Adam and SGD exempt none, as in torch."""
    warmup_epochs: float = 0.0
    """Epochs in which the rate rises linearly from 0 to its peak."""
    warmup_steps: int = 0
    """The same in steps, on top of the schedule (AST, PSLA `traintest.py`)."""
    warmup_stairs: int = 1
    """Steps between two changes of the rate in `warmup_steps`; AST and PSLA change it every 50."""
    schedule: Literal["cosine", "step", "plateau"] = "cosine"
    """After `warmup_epochs`: half a cosine down to `min_lr`; steps down; or a step down, by `step_factor`, whenever the
    stage's validation has not improved for more than `plateau_patience` validations (torch's `ReduceLROnPlateau`)."""
    cosine_from: Literal["start", "warmup"] = "start"
    """The cosine begins with the first step, and `warmup_steps` multiply it, or it begins after them (MCN
    `train_tri_kmeans.py`)."""
    min_lr: float = 0.0
    """Rate at the end of the cosine."""
    step_first: int = 1
    """Epochs before the first step down (AST `lrscheduler_start`)."""
    step_every: int = 1
    """Epochs between steps down (AST `lrscheduler_step`)."""
    step_factor: float = 0.5
    """Factor by which a step multiplies the rate (AST `lrscheduler_decay`)."""
    plateau_patience: int = 2
    """Validations without improvement that `plateau` bears (PSLA, UAVM `lr_patience`)."""
    layer_decay: float = 1.0
    """The rate of layer i of n is multiplied by `layer_decay ** (n - i)`; 1 = off."""
    larc: float = 0.0
    """Trust coefficient of `LARCAdam`, for `adam`; 1e-3 in CrissCross; 0 = off."""


class Optimised(Protocol):
    """What is optimised, a `Stage`: its parameters, and the share of the learning rate that each of them gets."""

    spec: Any
    """A `StageSpec`."""
    plateau: float
    """Share of the rate that the validations so far have left."""

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]: ...

    def layer_of(self, name: str) -> tuple[int, int]: ...

    def share_of_rate(self, name: str) -> float: ...

    def keeps_rate(self, name: str) -> bool: ...


def peak_lr(optim: OptimConfig, batch_size: int) -> float:
    """The learning rate after warm-up for a global batch of `batch_size` clips (linear scaling rule)."""
    return optim.lr or optim.base_lr * batch_size / 256


def lr_factor(epoch: float, epochs: float, warmup_epochs: float, min_factor: float) -> float:
    """Share of the peak rate at a fractional `epoch`: linear warm-up, then half a cosine down to `min_factor`."""
    if epoch < warmup_epochs:
        return epoch / warmup_epochs
    done = min((epoch - warmup_epochs) / max(epochs - warmup_epochs, 1e-9), 1.0)
    return min_factor + (1 - min_factor) * 0.5 * (1 + math.cos(math.pi * done))


def step_down(epoch: int, first: int, every: int, factor: float) -> float:
    """Share of the peak rate in an epoch (the first is 0): multiplied by `factor` from epoch `first` on, and again
    every `every` epochs, as `MultiStepLR` stepped at the end of each epoch."""
    return 1.0 if epoch < first else factor ** ((epoch - first) // every + 1)


def stairs(step: int, steps: int, height: int) -> float:
    """Share of the scheduled rate while it rises from 0 to 1 over `steps`, changing every `height` steps."""
    return step // height * height / steps if step < steps else 1.0


def plateau_factor(values: Iterable[float], better: Literal["higher", "lower"], optim: OptimConfig) -> float:
    """Share of the peak rate that these values, of one validation after the other, leave."""
    rate = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    mode: Literal["max", "min"] = "max" if better == "higher" else "min"
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(rate, mode, optim.step_factor, optim.plateau_patience)
    for value in values:
        plateau.step(value)
    return float(rate.param_groups[0]["lr"])


def set_rates(schedule: torch.optim.lr_scheduler.LambdaLR) -> None:
    """The rates of the next step, where the schedule has changed since the last one."""
    for group, peak, factor in zip(
        schedule.optimizer.param_groups, schedule.base_lrs, schedule.lr_lambdas, strict=True
    ):
        group["lr"] = peak * factor(schedule.last_epoch)


def schedule_factor(
    optim: OptimConfig, batch_size: int, step: int, steps_per_epoch: int, epochs: int, plateau: float = 1.0
) -> float:
    """Share of the peak rate at a step.

    Args:
        plateau: see `plateau_factor`.
    """
    warm = stairs(step, optim.warmup_steps, optim.warmup_stairs)
    epoch = step / steps_per_epoch
    if optim.schedule == "cosine":
        min_factor = optim.min_lr / peak_lr(optim, batch_size)
        if optim.cosine_from == "warmup":
            return lr_factor(epoch, epochs, optim.warmup_steps / steps_per_epoch, min_factor)
        return warm * lr_factor(epoch, epochs, optim.warmup_epochs, min_factor)
    if epoch < optim.warmup_epochs:
        return warm * epoch / optim.warmup_epochs
    if optim.schedule == "plateau":
        return warm * plateau
    return warm * step_down(int(epoch), optim.step_first, optim.step_every, optim.step_factor)


def param_groups(stage: Optimised) -> list[dict[str, Any]]:
    """The trainable parameters by (layer, share of its rate, whether it stays, decayed or not), each group with its
    learning rate and weight decay."""
    optim, peak = stage.spec.optim, peak_lr(stage.spec.optim, stage.spec.batch_size)
    groups: dict[tuple[int, float, bool, bool], dict[str, Any]] = {}
    for name, parameter in stage.named_parameters():
        if not parameter.requires_grad:
            continue
        (layer, layers), share, constant = stage.layer_of(name), stage.share_of_rate(name), stage.keeps_rate(name)
        decayed = parameter.ndim > 1 or optim.algorithm != "adamw"
        said = ("" if share == 1 else f" x {share}") + (", constant" if constant else "")
        group = groups.setdefault(
            (layer, share, constant, decayed),
            {
                "name": f"layer {layer}{said}" + ("" if decayed else ", no decay"),
                "constant": constant,
                "params": [],
                "lr": peak * share * optim.layer_decay ** (layers - layer),
                "weight_decay": optim.weight_decay if decayed else 0.0,
            },
        )
        group["params"].append(parameter)
    return list(groups.values())


def _constant(step: int) -> float:
    return 1.0


class LARCAdam(torch.optim.Adam):
    """Adam on gradients that LARC has scaled, in the mode that clips (You et al. 2017; apex `parallel/LARC.py`, which
    CrissCross wraps around Adam).

    The gradient of each parameter, with its weight decay, is multiplied by
    `min(1, trust * |w| / ((|g| + decay * |w| + 1e-8) * lr))`, unless the parameter or its gradient is zero: then it is
    left as it is.
    """

    _EPS = 1e-8

    def __init__(self, groups: list[dict[str, Any]], trust: float, betas: tuple[float, float]):
        # What is decayed here is not decayed by Adam once more.
        super().__init__(
            [{**group, "larc_decay": group["weight_decay"], "weight_decay": 0.0} for group in groups], betas=betas
        )
        self.trust = trust

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._scale(parameter, parameter.grad, group["larc_decay"], group["lr"])
        super().step()
        return loss

    def _scale(self, parameter: Tensor, gradient: Tensor, decay: float, lr: float) -> None:
        size, slope = parameter.norm(), gradient.norm()
        local = self.trust * size / (slope + decay * size + self._EPS)
        factor = (local / max(lr, torch.finfo(local.dtype).tiny)).clamp(max=1)
        scaled = factor * gradient.add(parameter, alpha=decay)
        gradient.copy_(torch.where((size > 0) & (slope > 0), scaled, gradient))


def make_optimizer(stage: Optimised) -> dict[str, Any]:
    """The optimiser and its per-step schedule, as Lightning's `configure_optimizers` returns them."""
    spec, optim = stage.spec, stage.spec.optim
    groups = param_groups(stage)
    optimizer: torch.optim.Optimizer
    betas = (optim.betas[0], optim.betas[1])
    if optim.larc and optim.algorithm != "adam":
        raise ValueError(f"optim.larc={optim.larc:g} scales gradients for optim.algorithm=adam, not {optim.algorithm}")
    if optim.algorithm == "sgd":
        optimizer = torch.optim.SGD(groups, momentum=optim.betas[0])
    elif optim.larc:
        optimizer = LARCAdam(groups, optim.larc, betas)
    else:
        make = torch.optim.AdamW if optim.algorithm == "adamw" else torch.optim.Adam
        optimizer = make(groups, betas=betas)

    def scheduled(step: int) -> float:
        return schedule_factor(optim, spec.batch_size, step, spec.steps_per_epoch, spec.epochs, plateau=stage.plateau)

    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, [_constant if group["constant"] else scheduled for group in groups]
    )
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
