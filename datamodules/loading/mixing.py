"""Mix-up: some training clips are mixed with another one, `lambda * clip + (1 - lambda) * other`, labels too.

As the loaders of AST, PSLA, UAVM and AudioMAE do (`dataloader.py`, `dataset.py`): lambda is from Beta(10, 10); the
other clip is drawn uniformly from all training clips, the clip itself included, also where clips are drawn by
class-balancing weights (they found partners that are drawn by weight too to do worse); the pair is as long as the
clip. Who is mixed, with whom and how depends on the clip's key alone, so on neither the batch nor the number of workers
or devices. A worker reads the partner beside the clip; what is to be mixed is mixed on the device.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch

from datamodules.keyed import beta, stable_hash, uniform
from datamodules.loading.samplers import ClipRef
from datamodules.streams.kind import Transform, named, parts
from datamodules.streams.mixed import mix_in
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


def mixup(raw: RawBatch, transforms: Mapping[str, Transform]) -> RawBatch:
    """Mixes the partners into their clips: labels, and what the streams can mix of what was read.

    Args:
        raw: with `partner` and `partner_place`; with `audio_feat` or `video_feat` these are left to the method, as it
            is for it to say what is done to features before they are mixed.
        transforms: of the streams, by name.

    Returns:
        The batch, with a `partner` as in `Batch` where features are to be mixed, else with none.
    """
    other, place_M = raw["partner"], raw["partner_place"]
    weight_M = 1 - beta(raw["key"][place_M], "mixup lambda", 10, 10)
    mixed = cast(dict[str, Any], raw.copy())
    del mixed["partner"], mixed["partner_place"]
    mixed["label"] = mix_in(raw["label"], other["label"], place_M, weight_M)
    for name, transform in transforms.items():
        mixed |= named(transform.mixed(parts(raw, name), parts(other, name), place_M, weight_M), name)
    if names := [name for name in FEATURE_KEYS.values() if name in other]:
        partner = Partner(place=place_M, weight=weight_M)
        for name in names:
            partner[name] = other[name]
        mixed["partner"] = partner  # from here on a `Batch`'s
    return cast(RawBatch, mixed)
