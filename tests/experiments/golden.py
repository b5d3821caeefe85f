"""Numbers recorded from the authors' code (`tests/golden/*.json`), and the weights and inputs of those runs, drawn
again: each is a function of its name in their layout."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from datamodules import keyed


def recorded(name: str) -> Any:
    return json.loads((Path(__file__).parent.parent / "golden" / f"{name}.json").read_text())


def drawn(recipe: str, name: str, shape: tuple[int, ...]) -> Tensor:
    """Uniform numbers in [-0.5, 0.5) that depend on the two names alone."""
    key = torch.tensor([keyed.stable_hash(recipe, name)])
    return keyed.uniform(key, "value", math.prod(shape)).view(shape) - 0.5


def assert_close(ours: Tensor, theirs: list[Any], tolerance: float = 1e-4) -> None:
    torch.testing.assert_close(ours, torch.tensor(theirs), rtol=0, atol=tolerance)
