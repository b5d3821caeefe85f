"""What a batch has under names that a method chooses, which its type does not know."""

from __future__ import annotations

from typing import cast

from torch import Tensor

from datamodules.types import Batch


def stream(batch: Batch, name: str) -> Tensor:
    """What is read under a name of the method's own, or of a part of a mixture."""
    return cast("dict[str, Tensor]", batch)[name]
