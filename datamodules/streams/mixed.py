"""Clips of a batch mixed with their partners; see `loading.mixing` for who is mixed with whom.

Shape suffixes: B clips, M of them with a partner, T samples or frames.
"""

from __future__ import annotations

import torch
from torch import Tensor


def mix_in(values_B: Tensor, other_M: Tensor, place_M: Tensor, weight_M: Tensor) -> Tensor:
    """The values of all clips, with `weight` of the partner's in those at `place`.

    Args:
        values_B: [B, ...] float.
        other_M: [M, ...], of the partners.
        place_M: [M] int64.
        weight_M: [M], 0..1.
    """
    weight_M = weight_M.view(-1, *[1] * (values_B.ndim - 1))
    return values_B.index_copy(0, place_M, values_B[place_M].lerp(other_M, weight_M))


def mixed_sound(
    own_BT: Tensor,
    own_length_B: Tensor,
    theirs_MT: Tensor,
    their_length_M: Tensor,
    place_M: Tensor,
    weight_M: Tensor,
) -> Tensor:
    """[B, T]: the clips that are mixed without their means (AudioMAE `dataset.py`), as long as they were."""
    own_MT, length_M = own_BT[place_M], own_length_B[place_M]
    theirs_MT = _centred(theirs_MT, their_length_M)
    missing = own_MT.shape[1] - theirs_MT.shape[1]
    theirs_MT = torch.nn.functional.pad(theirs_MT, (0, missing))  # cuts where it is negative
    mix_MT = _centred(own_MT, length_M).lerp(theirs_MT, weight_M[:, None])
    mix_MT = torch.where(_within(length_M, mix_MT.shape[1]), mix_MT, 0.0)
    return own_BT.index_copy(0, place_M, mix_MT)


def mixed_pictures(
    own_BTHWC: Tensor, theirs_MTHWC: Tensor, place_M: Tensor, weight_M: Tensor, length_B: Tensor | None
) -> Tensor:
    """uint8 [B, T, H, W, 3]; where a clip has no pictures any more, its partner's are not seen either.

    They are mixed by the lambda of the sound (CAV-MAE `src/dataloader.py`).
    """
    own_MTHWC = own_BTHWC[place_M]
    mix_MTHWC = own_MTHWC.float().lerp_(theirs_MTHWC.float(), weight_M[:, None, None, None, None])
    if length_B is not None:
        within_MT = _within(length_B[place_M], own_MTHWC.shape[1])
        mix_MTHWC *= within_MT[..., None, None, None]
    return own_BTHWC.index_copy(0, place_M, mix_MTHWC.round_().to(torch.uint8))


def _centred(waveform_BT: Tensor, length_B: Tensor) -> Tensor:
    """Each clip minus its mean, its padding left at zero."""
    mean_B1 = waveform_BT.sum(dim=1, keepdim=True) / length_B.clamp(min=1)[:, None]
    return torch.where(_within(length_B, waveform_BT.shape[1]), waveform_BT - mean_B1, 0.0)


def _within(length_B: Tensor, size: int) -> Tensor:
    """[B, size] bool, true at what each clip has."""
    return torch.arange(size, device=length_B.device) < length_B[:, None]
