"""A training loop as one would write it by hand for one device, to hold the harness against; and attention by hand."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import cast

import lightning as L
import torch
import torch.nn.functional as F
from lightning.fabric.utilities import move_data_to_device
from torch import Tensor, nn

from bench.errors import UserError
from bench.run.callbacks import seed_step
from datamodules.keyed import stable_hash
from datamodules.types import RawBatch
from experiments.common.stage import Stage


@dataclass
class Alone:
    """What a stage asks of its Trainer, in a loop that has none."""

    accumulate_grad_batches: int
    global_step: int = 0
    log_every_n_steps: int = 1 << 62
    estimated_stepping_batches: int = 1 << 62


@dataclass(frozen=True)
class LoopSettings:
    """Settings that the harness's Trainer is given, too."""

    device: torch.device
    precision: str
    grad_clip: float
    parts: int
    seed: int


def plain_loop(
    module: Stage, features: nn.Module, batches: Iterable[RawBatch], settings: LoopSettings
) -> Iterator[Tensor]:
    """Trains the module, a step each time that the next item is asked for.

    It does what the harness's steps do and in the same order: in float32 the weights are the same bit for bit.

    Args:
        module: is trained.
        features: what the workers decoded -> what the stage sees, on the device.
        batches: as the workers decoded them; `parts` of them are a step.
        settings: of the training.

    Yields:
        After each step, the last part's share of its loss.

    Raises:
        UserError: for a precision other than 32-true and bf16-mixed.
    """
    device, parts = settings.device, settings.parts
    alone = Alone(parts)
    module.trainer = cast(L.Trainer, alone)
    module.to(device).train()
    features.to(device)
    module.on_fit_start()
    module.on_train_start()
    configured = module.configure_optimizers()
    optimizer, schedule = configured["optimizer"], configured["lr_scheduler"]["scheduler"]
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for number, raw in enumerate(batches, 1):
        batch = features(on_device(raw, device), train=True)
        seed_step(stable_hash("step", settings.seed, number - 1, 0), device)
        with autocast(settings):
            loss = module.training_step(batch, number - 1) / parts
        loss.backward()
        if number % parts:
            continue
        if settings.grad_clip:
            nn.utils.clip_grad_norm_(parameters, settings.grad_clip)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        alone.global_step += 1
        yield loss.detach()


def on_device(raw: RawBatch, device: torch.device) -> RawBatch:
    """All tensors of the batch and of the partners within it."""
    return move_data_to_device(raw, device)


def autocast(settings: LoopSettings) -> AbstractContextManager[None]:
    """What the forward pass runs in. Unlike Lightning's, autocast keeps a weight that it has cast: the gradients of one
    that is used twice are added in bfloat16, and only in float32 is the harness the same bit for bit."""
    if settings.precision == "32-true":
        return nullcontext()
    if settings.precision == "bf16-mixed":
        return torch.autocast(settings.device.type, torch.bfloat16)
    raise UserError(f"trainer.precision={settings.precision}: the plain loop knows 32-true and bf16-mixed")


def attention_by_hand(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """softmax(Q K^T / sqrt(d)) V as most repositories have it; the arguments are `F.scaled_dot_product_attention`'s.

    Raises:
        ValueError: for `is_causal` and `enable_gqa`, which no method here has.
    """
    if is_causal or enable_gqa:
        raise ValueError("attention by hand has neither is_causal nor enable_gqa")
    score = query @ key.mT * (scale or 1 / math.sqrt(query.shape[-1]))
    if attn_mask is not None:
        score = score.masked_fill(~attn_mask, -torch.inf) if attn_mask.dtype == torch.bool else score + attn_mask
    return F.dropout(score.softmax(-1), dropout_p) @ value


@contextmanager
def hand_written_attention() -> Iterator[None]:
    """Within, every attention is the above."""
    fused = F.scaled_dot_product_attention
    F.scaled_dot_product_attention = attention_by_hand
    try:
        yield
    finally:
        F.scaled_dot_product_attention = fused
