"""Mix-up: some training clips are mixed with another one, `lambda * clip + (1 - lambda) * other`, labels too.

As the loaders of AST, PSLA, UAVM and AudioMAE do (`dataloader.py`, `dataset.py`): lambda is from Beta(10, 10); the
other clip is drawn uniformly from all training clips, the clip itself included, also where clips are drawn by
class-balancing weights (they found partners that are drawn by weight too to do worse); the pair is as long as the
clip. Who is mixed, with whom and how depends on the clip's key alone, so on neither the batch nor the number of workers
or devices. A worker reads the partner beside the clip; what is to be mixed is mixed on the device.

Shape suffixes: B clips, M of them with a partner, T samples or frames.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from datamodules.keyed import beta, stable_hash, uniform
from datamodules.loading.samplers import ClipRef
from datamodules.types import FEATURE_KEYS, Partner, RawBatch


def partner_of(key: int, epoch: int, clips: int, share: float) -> ClipRef | None:
    """The clip to be mixed into the one of this key, if there is one.

    Args:
        key: of the clip.
        epoch: in which it is seen.
        clips: training clips there are.
        share: of clips that are mixed, 0..1.
    """
    if not share or float(uniform(torch.tensor([key]), "mixup", 1)) >= share:
        return None
    own = stable_hash("partner", key)
    return ClipRef(own % clips, epoch, key=own)


def mixup(raw: RawBatch) -> RawBatch:
    """Mixes the partners into their clips: sound (each minus its mean, AudioMAE `dataset.py`), labels, and pictures by
    the same lambda (CAV-MAE `src/dataloader.py`).

    Args:
        raw: with `partner` and `partner_place`; with `audio_feat` or `video_feat` these are left to the method, as it
            is for it to say what is done to features before they are mixed.

    Returns:
        The batch, with a `partner` as in `Batch` where features are to be mixed, else with none.
    """
    other, place_M = raw["partner"], raw["partner_place"]
    weight_M = 1 - beta(raw["key"][place_M], "mixup lambda", 10, 10)
    mixed = raw.copy()
    del mixed["partner"], mixed["partner_place"]
    mixed["label"] = mix_in(raw["label"], other["label"], place_M, weight_M)
    if "waveform" in raw:
        mixed["waveform"] = _mixed_sound(raw, other, place_M, weight_M)
    if "frames" in raw:
        mixed["frames"] = _mixed_pictures(raw, other, place_M, weight_M)
    if names := [name for name in FEATURE_KEYS.values() if name in other]:
        partner = Partner(place=place_M, weight=weight_M)
        for name in names:
            partner[name] = other[name]
        cast(dict[str, Any], mixed)["partner"] = partner  # from here on a `Batch`'s
    return mixed


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


def _mixed_sound(raw: RawBatch, other: RawBatch, place_M: Tensor, weight_M: Tensor) -> Tensor:
    """[B, T]: the clips that are mixed without their means, as long as they were."""
    own_MT, length_M = raw["waveform"][place_M], raw["waveform_length"][place_M]
    theirs_MT = _centred(other["waveform"], other["waveform_length"])
    missing = own_MT.shape[1] - theirs_MT.shape[1]
    theirs_MT = torch.nn.functional.pad(theirs_MT, (0, missing))  # cuts where it is negative
    mix_MT = _centred(own_MT, length_M).lerp(theirs_MT, weight_M[:, None])
    mix_MT = torch.where(_within(length_M, mix_MT.shape[1]), mix_MT, 0.0)
    return raw["waveform"].index_copy(0, place_M, mix_MT)


def _mixed_pictures(raw: RawBatch, other: RawBatch, place_M: Tensor, weight_M: Tensor) -> Tensor:
    """uint8 [B, T, H, W, 3]; where a clip has no pictures any more, its partner's are not seen either."""
    own_MTHWC = raw["frames"][place_M]
    mix_MTHWC = own_MTHWC.float().lerp_(other["frames"].float(), weight_M[:, None, None, None, None])
    if "video_length" in raw:
        within_MT = _within(raw["video_length"][place_M], own_MTHWC.shape[1])
        mix_MTHWC *= within_MT[..., None, None, None]
    return raw["frames"].index_copy(0, place_M, mix_MTHWC.round_().to(torch.uint8))


def _centred(waveform_BT: Tensor, length_B: Tensor) -> Tensor:
    """Each clip minus its mean, its padding left at zero."""
    mean_B1 = waveform_BT.sum(dim=1, keepdim=True) / length_B.clamp(min=1)[:, None]
    return torch.where(_within(length_B, waveform_BT.shape[1]), waveform_BT - mean_B1, 0.0)


def _within(length_B: Tensor, size: int) -> Tensor:
    """[B, size] bool, true at what each clip has."""
    return torch.arange(size, device=length_B.device) < length_B[:, None]
