"""What follows a clip's end within a stream.

Shape suffixes: B clips, T moments.
"""

from __future__ import annotations

import torch
from torch import Tensor


def pad_to(values: Tensor, length: int) -> Tensor:
    """[B, n, ...] -> [B, length, ...], zeros at the end."""
    padded = values.new_zeros(len(values), length, *values.shape[2:])
    padded[:, : values.shape[1]] = values
    return padded


def starting_over(values: Tensor, length_B: Tensor) -> Tensor:
    """[B, T, D] whose first `length` moments are a clip's: past them the clip starts over, if it has any."""
    source_BT = torch.arange(values.shape[1], device=values.device) % length_B.clamp(min=1)[:, None]
    repeated = values.gather(1, source_BT[..., None].expand_as(values))
    return torch.where((length_B > 0)[:, None, None], repeated, values)
