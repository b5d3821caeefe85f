"""Transformers as Flax code names them and lays them out (scenic): kernels are [in, out], those of heads
[D, heads, D / heads], convolutions [*size, in, out]."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from experiments.common.checkpoints.table import Entry, Table
from experiments.common.networks.convolutions import one_channel
from experiments.common.weights import require_fit

LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias"}
BLOCK = {
    "LayerNorm_0": "norm1",
    "LayerNorm_1": "norm2",
    "MultiHeadDotProductAttention_0/query": "attn.q",
    "MultiHeadDotProductAttention_0/key": "attn.k",
    "MultiHeadDotProductAttention_0/value": "attn.v",
    "MultiHeadDotProductAttention_0/out": "attn.proj",
    "MlpBlock_0/Dense_0": "mlp.fc1",
    "MlpBlock_0/Dense_1": "mlp.fc2",
}
"""Their modules of an encoder's block -> timm's, before `fused_qkv`."""


def module(theirs: str, ours: str) -> Entry:
    r"""Of a `Table`: a module's parameters. Groups of the pattern `theirs` are `\1`, … in `ours`."""
    return rf"{theirs}/(?P<leaf>kernel|scale|bias)", lambda match: f"{ours}.{LEAVES[match['leaf']]}"


def block(theirs: str, ours: str) -> list[Entry]:
    """Of a `Table`: the parameters of an encoder's block, see `module`."""
    return [module(f"{theirs}/{part}", f"{ours}.{name}") for part, name in BLOCK.items()]


def convolution(kernel: Tensor) -> Tensor:
    """[*size, in, out] -> [out, in, *size]."""
    return kernel.movedim((-1, -2), (0, 1))


def of_heads(kernel: Tensor) -> Tensor:
    """[D, heads, D / heads] -> [D, D]."""
    return kernel.flatten(1).T


def linear(kernel: Tensor) -> Tensor:
    """[..., out] -> [out, in]; what has one axis stays."""
    return kernel.flatten(0, -2).T if kernel.ndim > 1 else kernel


def fused_qkv(weights: dict[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """`attn.{q, k, v}` put together as `attn.qkv`; and what is missing for that, as lines of a message."""
    ours, missing = dict(weights), []
    for fused in sorted({re.sub(r"\.attn\.[qkv]\.", ".attn.qkv.", key) for key in weights if ".attn." in key}):
        parts = [fused.replace("qkv", part) for part in "qkv"]
        if "attn.qkv" not in fused:
            continue
        if absent := [part for part in parts if part not in weights]:
            missing += [f"{part}: missing" for part in absent]
        else:
            ours[fused] = torch.cat([ours.pop(part) for part in parts])
    return ours, missing


VIT_SHAPES = (
    (r".*(positions|bottleneck)", lambda table: table[0]),
    (r".*(cls_token|bias)", torch.flatten),
    (r"tokens\.a\.patch_embed\.weight", lambda kernel: one_channel(convolution(kernel))),
    (r"tokens\..\.patch_embed\.weight", convolution),
    (r".*attn\.[qkv]\.weight", of_heads),
    (r".*", linear),
)
"""Of a `Table`: how the parameters of scenic's ViTs lie in ours (`networks/scenic.py`), whose kernel of sound is of one
channel."""


def vit(weights: Mapping[str, Any], names: Sequence[Entry]) -> dict[str, Tensor]:
    """The parameters of a ViT of scenic's, arrays or tensors under names joined by `/`, -> a state dict.

    Raises:
        ValueError: naming every key that has no place here, or a query, key or value without the other two.
    """
    tensors = {key: torch.as_tensor(value) for key, value in weights.items()}
    ours, strange = Table(tuple(names), VIT_SHAPES).translated(tensors)
    ours, missing = fused_qkv(ours)
    require_fit(strange + missing)
    return ours
