"""Finds methods and datasets by folder and by entry point, without importing torch.

A method is a package with `config.yaml` and `method.py`: a folder of `experiments/`, or a package that
somebody else's distribution names in the entry point group `avl_bench.methods`. Datasets are the
`Source` classes of `datamodules/`, or those named in the group `avl_bench.datasets`.
"""

from __future__ import annotations

import importlib
import importlib.util
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from bench.errors import unknown
from datamodules.types import Board

if TYPE_CHECKING:
    from datamodules.source import Source

EXPERIMENTS = Path(__file__).parent.parent / "experiments"
RECIPES = EXPERIMENTS / "common" / "recipes"
"""Settings that several methods include in their `config.yaml`."""

# Ours: name -> where its class is.
DATASETS = {
    "audioset": "datamodules.audioset:AudioSet",
    "vggsound": "datamodules.vggsound:VGGSound",
    "esc50": "datamodules.esc50:ESC50",
    "esc10": "datamodules.esc50:ESC10",
    "fsd50k": "datamodules.fsd50k:FSD50K",
    "howto100m": "datamodules.howto100m:HowTo100M",
    "youcook2": "datamodules.youcook2:YouCook2",
    "crosstask": "datamodules.crosstask:CrossTask",
    "mining_youtube": "datamodules.mining_youtube:MiningYouTube",
    "msrvtt": "datamodules.msrvtt:MSRVTT",
}


@cache
def methods() -> dict[str, str]:
    """Method name -> its package, e.g. `mavil` -> `experiments.mavil`."""
    ours = {p.parent.name: f"experiments.{p.parent.name}" for p in sorted(EXPERIMENTS.glob("*/config.yaml"))}
    return ours | {e.name: e.value for e in entry_points(group="avl_bench.methods")}


def _package(method: str) -> str:
    if method not in methods():
        raise unknown("method", method, methods())
    return methods()[method]


def method_folder(method: str) -> Path:
    """The folder with the method's `config.yaml` and `README.md`."""
    spec = importlib.util.find_spec(_package(method))
    assert spec is not None and spec.origin is not None, f"{_package(method)} is not an importable package"
    return Path(spec.origin).parent


@cache
def method_version(method: str) -> int:
    """The `version` of the method's `config.yaml`: raised when its code changes in a way that changes results."""
    from omegaconf import OmegaConf  # `bench list` need not wait for it

    return int(OmegaConf.load(method_folder(method) / "config.yaml").get("version", 1))


def method_module(method: str) -> ModuleType:
    """The method's `method.py`, imported (and torch with it)."""
    return importlib.import_module(f"{_package(method)}.method")


@cache
def datasets() -> dict[str, str]:
    """Dataset name -> `module:Class`."""
    return DATASETS | {e.name: e.value for e in entry_points(group="avl_bench.datasets")}


def dataset(name: str) -> type[Source]:
    """The dataset's `Source` class."""
    if name not in datasets():
        raise unknown("dataset", name, datasets())
    module, _, attribute = datasets()[name].partition(":")
    return getattr(importlib.import_module(module), attribute)


@cache
def boards() -> dict[str, Board]:
    """Board name -> board, of all datasets."""
    return {board.name: board for name in datasets() for board in dataset(name).boards}


def board(name: str) -> Board:
    if name not in boards():
        raise unknown("board", name, boards())
    return boards()[name]
