"""`bench weights convert`: other frameworks' files of weights as one that `init=FILE` takes.

Names stay those of the file. What they are here a method says in its `checkpoints.py`, as for all others' weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from bench.config.settings import parse_settings
from bench.errors import UserError
from datamodules import array_pickles, tensor_bundles
from datamodules.files import replacing


@dataclass(frozen=True)
class Format:
    """How weights lie in a file."""

    what: str
    """It is, for messages."""
    endings: tuple[str, ...]
    """Of the names of its files."""
    read: Callable[[Path], Mapping[str, Tensor]]
    """Raises a ValueError that says what is wrong with a file."""


FORMATS: dict[str, Format] = {
    "haiku": Format("a pickle of Haiku's parameters and state", (".pkl", ".pickle"), array_pickles.read),
    "tensorflow": Format("the index of a TensorFlow checkpoint", (".index",), tensor_bundles.read),
}
"""Name, as `format=` says it -> the format."""


def converted(file: str, overrides: Sequence[str]) -> Path:
    """`convert`, of a command line's file and settings."""
    return convert(Path(file), **parse_settings(overrides, to="", format=""))


def convert(path: Path, to: str = "", format: str = "") -> Path:
    """Writes the weights of a file as torch does.

    Args:
        path: the file.
        to: the new file; empty = beside it, called `<name>.pt`.
        format: one of `FORMATS`; empty = as the file's name ends.

    Returns:
        The new file.

    Raises:
        UserError: there is no such file or format, or it holds something else.
    """
    if not path.exists():
        raise UserError(f"{path}: there is no such file")
    known = {name: each for name, each in FORMATS.items() if format == name or (not format and _ends(path, each))}
    if not known:
        each = "; ".join(f"format={name} is {form.what} ({', '.join(form.endings)})" for name, form in FORMATS.items())
        raise UserError(
            f"{path}: {f'there is no format {format}' if format else 'its name does not say what it is'}; {each}"
        )
    (found,) = known.values()
    try:
        weights = dict(found.read(path))
    except ValueError as error:
        raise UserError(f"{path}, as {found.what}: {error}") from error
    target = Path(to) if to else path.with_name(f"{path.stem}.pt")
    with replacing(target) as temporary:
        torch.save(weights, temporary)
    return target


def _ends(path: Path, format: Format) -> bool:
    return path.name.endswith(format.endings)
