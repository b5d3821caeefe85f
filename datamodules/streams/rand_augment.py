"""RandAugment of a clip's pictures (Cubuk et al. 2020) by timm, the same for all frames."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from datamodules.errors import DataError

if TYPE_CHECKING:
    from timm.data.auto_augment import RandAugment


def rand_augment(frames_THW3: Tensor, key: int, how: str) -> Tensor:
    """[T, H, W, 3] uint8, changed by what the key draws.

    Args:
        frames_THW3: [T, H, W, 3] uint8 RGB.
        key: of the clip.
        how: as timm's `rand_augment_transform` reads it, e.g. `rand-m7-n4-mstd0.5-inc1`: four changes, each done or
            not, of magnitude 7 with a deviation of 0.5, that grow with the magnitude.

    Raises:
        DataError: timm cannot read it.
    """
    change, changed = _transform(how), []
    for frame_HW3 in frames_THW3.numpy():
        with _drawn_by(key):
            changed.append(np.asarray(change(Image.fromarray(frame_HW3))))
    return torch.from_numpy(np.stack(changed))


@cache
def _transform(how: str) -> RandAugment:
    """With bilinear interpolation, as XKD has it (`create_random_augment`)."""
    from timm.data.auto_augment import rand_augment_transform  # its package takes seconds to import

    try:
        return rand_augment_transform(how, {"interpolation": Image.Resampling.BILINEAR})
    except (AssertionError, ValueError) as error:
        raise DataError(f"rand_augment={how}: timm cannot read it; write e.g. rand-m7-n4-mstd0.5-inc1") from error


@contextmanager
def _drawn_by(key: int) -> Iterator[None]:
    """timm draws from the generators of Python and NumPy, which are given back as they were."""
    states = random.getstate(), np.random.get_state()
    random.seed(key)
    np.random.seed(key % 2**32)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
