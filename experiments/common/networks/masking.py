"""Random masking of token sequences (MAE), drawn from the keys of the batch."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from datamodules import keyed


class Masking(NamedTuple):
    """Which of the L tokens of each clip are seen."""

    keep_BK: Tensor
    """[B, K] int64: the visible tokens' places, in random order."""
    masked_BL: Tensor
    """[B, L] bool: True where a token is hidden."""


def kept(length: int, ratio: float) -> int:
    """How many of `length` tokens stay visible: `length * (1 - ratio)` rounded down, at least 1.

    The small term undoes binary rounding: 5 tokens at ratio 0.8 keep 1 (5 * (1 - 0.8) is 0.99...).
    """
    if not 0 <= ratio < 1:
        raise ValueError(f"a mask ratio must be in [0, 1), not {ratio}")
    return max(int(length * (1 - ratio) + 1e-6), 1)


def random_places(key_B: Tensor, purpose: str, length: int, ratio: float) -> Tensor:
    """[B, K] int64: a uniformly random choice of K = kept(length, ratio) of `length` places for each clip."""
    noise_BL = keyed.uniform(key_B, purpose, length)
    return noise_BL.argsort(dim=1, stable=True)[:, : kept(length, ratio)]


def random_masking(key_B: Tensor, purpose: str, length: int, ratio: float) -> Masking:
    """Masks a share `ratio` of the tokens of each clip, uniformly at random and independently for each purpose."""
    keep_BK = random_places(key_B, purpose, length, ratio)
    masked_BL = torch.ones(len(key_B), length, dtype=torch.bool, device=key_B.device)
    return Masking(keep_BK, masked_BL.scatter(1, keep_BK, False))


def random_places_2d(key_B: Tensor, purpose: str, grid: tuple[int, int], ratios: tuple[float, float]) -> Tensor:
    """[B, K] int64: places on a rows x columns grid, after whole rows and whole columns are masked (AudioMAE).

    On MAViL's 64 x 8 grid of time x mel, ratios 0.2 and 0.2 keep 51 x 6 = 306 places.
    """
    rows, columns = grid
    row_BR = random_places(key_B, f"{purpose}, rows", rows, ratios[0])
    column_BC = random_places(key_B, f"{purpose}, columns", columns, ratios[1])
    return (row_BR[:, :, None] * columns + column_BC[:, None, :]).flatten(1)


def gather_tokens(tokens_BLD: Tensor, places_BK: Tensor) -> Tensor:
    """[B, L, D] tokens -> the [B, K, D] at `places_BK`."""
    return tokens_BLD.gather(1, places_BK[:, :, None].expand(-1, -1, tokens_BLD.shape[2]))


def scatter_tokens(tokens_BKD: Tensor, places_BK: Tensor, fill_D: Tensor, length: int) -> Tensor:
    """[B, K, D] tokens -> [B, length, D] with the tokens at `places_BK` and `fill_D` everywhere else."""
    batch, _, dim = tokens_BKD.shape
    filled_BLD = fill_D.to(tokens_BKD.dtype).expand(batch, length, dim)
    return filled_BLD.scatter(1, places_BK[:, :, None].expand(-1, -1, dim), tokens_BKD)


def masked_mse(prediction_BLP: Tensor, target_BLP: Tensor, masked_BL: Tensor) -> Tensor:
    """Squared error, averaged over the elements of a patch and then over the masked patches only (MAE)."""
    error_BL = (prediction_BLP.float() - target_BLP.float()).square().mean(dim=-1)
    return (error_BL * masked_BL).sum() / masked_BL.sum()  # indexing by the mask would wait for the device
