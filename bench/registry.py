"""Finds methods and datasets by folder and by entry point, without importing torch.

A method is a package with `config.yaml` and `method.py`: a folder of `experiments/`, or a package that
somebody else's distribution names in the entry point group `avl_bench.methods`. A dataset is a `Source` class with a
`name` in a file at the top of `datamodules/`, or one that the group `avl_bench.datasets` names.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType

import datamodules
from bench.errors import UserError, unknown
from datamodules.boards import Board
from datamodules.found import classes_of
from datamodules.source import Source

EXPERIMENTS = Path(__file__).parent.parent / "experiments"
RECIPES = EXPERIMENTS / "common" / "recipes"
"""Settings that several methods include in their `config.yaml`."""

DATAMODULES = Path(datamodules.__file__).parent
NO_LICENCE = "not known here"
"""What is printed of a dataset that says none."""


@cache
def methods() -> dict[str, str]:
    """Method name -> its package, e.g. `mavil` -> `experiments.mavil`."""
    ours = {p.parent.name: f"experiments.{p.parent.name}" for p in sorted(EXPERIMENTS.glob("*/config.yaml"))}
    return ours | {e.name: e.value for e in entry_points(group="avl_bench.methods")}


def _package(method: str) -> str:
    if method not in methods():
        error = unknown("method", method, methods())
        for folder in (Path(method), Path("experiments", method), Path("methods", method)):
            if (folder / "config.yaml").is_file():
                raise UserError(
                    f"{error}. {folder}/ looks like one: a method of another package is found when that is installed, "
                    "`pip install --editable FOLDER` where the pyproject.toml is that names it in "
                    '[project.entry-points."avl_bench.methods"]'
                )
        raise error
    return methods()[method]


def method_folder(method: str) -> Path:
    """The folder with the method's `config.yaml` and `README.md`.

    Raises:
        UserError: there is no such method, or its entry point names no package with a `config.yaml`.
    """
    package = _package(method)
    with _named_by(f"method {method}", package, "avl_bench.methods"):
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            raise ModuleNotFoundError(f"there is no package {package!r}", name=package)
    folder = Path(spec.origin).parent
    for file in ("config.yaml", "method.py"):
        if not (folder / file).is_file():
            raise UserError(f"method {method}: its package {package} ({folder}) has no {file}")
    return folder


@contextmanager
def _named_by(what: str, place: str, group: str) -> Iterator[None]:
    """Says of a module that cannot be imported which entry point names it.

    Raises:
        UserError: what the entry point names is not there, or lacks a package that it imports.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if place.startswith(("experiments.", "datamodules.")):
            raise
        raise UserError(
            f"{what} is {place!r} by an entry point of the group {group}, which cannot be imported: {error}. Correct "
            "it in the pyproject.toml of its package and install that again, or uninstall it"
        ) from error


@cache
def method_version(method: str) -> int:
    """The `version` of the method's `config.yaml`: raised when its code changes in a way that changes results."""
    from omegaconf import DictConfig, OmegaConf  # `bench list` need not wait for it

    config = OmegaConf.load(method_folder(method) / "config.yaml")
    assert isinstance(config, DictConfig)
    return int(config.get("version", 1))


def method_module(method: str) -> ModuleType:
    """The method's `method.py`, imported (and torch with it)."""
    return importlib.import_module(f"{_package(method)}.method")


@cache
def datasets() -> dict[str, str]:
    """Dataset name -> `module:Class`, without importing any."""
    ours = classes_of(DATAMODULES, datamodules.__name__, "Source", "name")
    return ours | {e.name: e.value for e in entry_points(group="avl_bench.datasets")}


def dataset(name: str) -> type[Source]:
    """The dataset's `Source` class.

    Raises:
        UserError: there is no such dataset, or what is registered under its name is no `Source` of that name.
    """
    if name not in datasets():
        raise unknown("dataset", name, datasets())
    place = datasets()[name]
    module, _, attribute = place.partition(":")
    with _named_by(f"dataset {name}", place, "avl_bench.datasets"):
        imported = importlib.import_module(module)
        if not hasattr(imported, attribute):
            raise ModuleNotFoundError(f"{module} has no class {attribute!r}", name=module)
    found = getattr(imported, attribute)
    if not (isinstance(found, type) and issubclass(found, Source) and found.name == name):
        raise UserError(
            f"dataset {name}: {place} is no subclass of datamodules.source.Source that says name = {name!r}"
        )
    _check_complete(name, place, found)
    return found


def _check_complete(name: str, place: str, source: type[Source]) -> None:
    """Raises a UserError that names what a dataset's class does not say, or says as something else."""
    said = [field for field in Source.__annotations__ if hasattr(source, field)]
    # `cached_property` hides that what it wraps is abstract.
    abstract = source.__abstractmethods__ | ({"classes"} if source.classes is Source.classes else set())
    missing = sorted((Source.__annotations__.keys() - set(said)) | abstract)
    if missing:
        raise UserError(f"dataset {name}: {place} does not say {', '.join(missing)}; see docs/adding_a_dataset.md")
    for field, kind in (("folders", str), ("splits", str), ("boards", Board)):
        values = getattr(source, field)
        if not isinstance(values, (tuple, list)) or not all(isinstance(value, kind) for value in values):
            raise UserError(
                f"dataset {name}: {field} of {place} is {values!r}, which is no tuple of {kind.__name__}s: one alone "
                "needs its comma, (one,)"
            )
    for board in source.boards:
        if board.dataset != name:
            raise UserError(f"dataset {name}: the board {board.name} of {place} says dataset={board.dataset!r}")


@cache
def boards() -> dict[str, Board]:
    """Board name -> board, of all datasets.

    Raises:
        UserError: two boards have one name.
    """
    found: dict[str, Board] = {}
    for board in (board for name in datasets() for board in dataset(name).boards):
        if other := found.get(board.name):
            both = " and ".join(f"{each} ({datasets()[each]})" for each in (other.dataset, board.dataset))
            raise UserError(f"{both} both have a board {board.name}; give one of them another name")
        found[board.name] = board
    return found


def board(name: str) -> Board:
    """The board of a name."""
    if name not in boards():
        raise unknown("board", name, boards())
    return boards()[name]
