"""Weights as Haiku names them and lays them out: `<module>/w`, `<module>/b`, and of batch norms `scale`, `offset` and
moving averages. Kernels are [*size, in, out] (`flax.py` has them, too)."""

from __future__ import annotations

import re

import torch
from torch import Tensor

from experiments.common.checkpoints.flax import convolution
from experiments.common.checkpoints.table import Entry
from experiments.common.networks.resnet_v2 import SHIFTED

LEAVES = {
    "w": "weight",
    "b": "bias",
    "scale": "weight",
    "offset": "bias",
    "~/mean_ema/average": "running_mean",
    "~/var_ema/average": "running_var",
    "~/mean_ema/counter": "num_batches_tracked",
}
"""Their names in a module -> torch's. The sums that averages are made of (`hidden`) have none."""


def module(theirs: str, ours: str) -> list[Entry]:
    r"""Of a `Table`: the weights of a convolution or linear layer. Groups of the pattern `theirs` are `\1`, … in
    `ours`."""
    return [_entry(theirs, "w|b", ours)]


def norm(theirs: str, ours: str, number: int = 0) -> list[Entry]:
    """The same of a batch norm, of which a module may have several."""
    called = rf"{theirs}/__(?:cross_replica_)?batch_norm{f'_{number}' if number else ''}"
    return [_entry(called, r"scale|offset|~/(?:mean|var)_ema/(?:average|counter|hidden)", ours)]


def _entry(theirs: str, leaves: str, ours: str) -> Entry:
    def name(match: re.Match[str]) -> str | None:
        leaf = LEAVES.get(match["leaf"])
        return f"{ours}.{leaf}" if leaf else None

    return rf"{theirs}/(?P<leaf>{leaves})", name


def flat(values: Tensor) -> Tensor:
    """[1, ..., C] of a norm -> [C]."""
    return values.flatten()


def resnet_v2(theirs: str, group: str, ours: str) -> list[Entry]:
    """Of a `ResNetV2`, whose stages they call `group` (MMV `resnet.py`, `tsm_resnet.py`)."""
    block, place = rf"{theirs}/(?:~/)?{group}_(\d)/block_(\d)", rf"{ours}.stages.\1.\2"
    return [
        *module(rf"{theirs}/(?:~/initial_conv|tsm_resnet_stem)", f"{ours}.stem.0"),
        *norm(theirs, f"{ours}.norm"),
        *module(rf"{block}/(?:~/)?conv_(\d)", rf"{place}.conv\3"),
        *module(rf"{block}/(?:~/)?shortcut_conv", f"{place}.shortcut"),
        *(entry for n in range(3) for entry in norm(block, f"{place}.norm{n}", n)),
    ]


def _units(theirs: str, ours: str) -> list[Entry]:
    """Of S3D-G: one or two convolutions with norms, and gates."""
    return [
        *module(f"{theirs}/~/conv3_d", f"{ours}.convs.0"),
        *module(f"{theirs}/~/conv3_d_1", f"{ours}.convs.1"),
        *norm(theirs, f"{ours}.norms.0"),
        *norm(theirs, f"{ours}.norms.1", 1),
        *module(f"{theirs}/self_gating", f"{ours}.gate"),
    ]


def s3d(theirs: str, ours: str) -> list[Entry]:
    """Of an `S3D` (MMV `s3d.py`)."""
    units = {"Conv2d_1a_7x7": "stem.0", "Conv2d_2b_1x1": "stem.2", "Conv2d_2c_3x3": "stem.3"}
    units[r"Mixed_(\w\w)/Branch_0_Conv2d_0a_1x1"] = r"mixed.\1.branch0"
    units[r"Mixed_(\w\w)/Branch_([12])_Conv2d_0a_1x1"] = r"mixed.\1.branch\2.0"
    units[r"Mixed_(\w\w)/Branch_([123])_Conv2d_0b_[13]x[13]"] = r"mixed.\1.branch\2.1"
    return [entry for unit, place in units.items() for entry in _units(f"{theirs}/{unit}", f"{ours}.{place}")]


def unshifted(kernel: Tensor) -> Tensor:
    """Of a convolution after their temporal shift, which makes the channels of the next frame the first."""
    few = kernel.shape[-2] // SHIFTED
    after, middle, before = convolution(kernel).split([few, kernel.shape[-2] - 2 * few, few], 1)
    return torch.cat([before, middle, after], 1)
