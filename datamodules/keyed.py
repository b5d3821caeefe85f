"""Randomness without state: every random number is a function of (key, what it is for, position).

A batch carries one key a clip, made from (seed, epoch, clip). Masks and augmentations drawn from it
are the same on CPU and GPU, for any number of workers, GPUs and restarts.
"""

from __future__ import annotations

import hashlib
import math

import torch
from torch import Tensor

# Constants of SplitMix64 (Steele, Lea, Flood 2014), as signed 64-bit integers.
_GAMMA = 0x9E3779B97F4A7C15 - (1 << 64)
_MIX_1 = 0xBF58476D1CE4E5B9 - (1 << 64)
_MIX_2 = 0x94D049BB133111EB - (1 << 64)


def stable_hash(*parts: object) -> int:
    """A signed 64-bit hash of the parts' texts that is the same in every process and version."""
    text = "\x1f".join(map(str, parts)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little", signed=True)


def _shift(x: Tensor, bits: int) -> Tensor:
    """Logical right shift of int64 (torch's own keeps the sign)."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _mix(x: Tensor) -> Tensor:
    """SplitMix64's finaliser: int64 -> well-mixed int64, wrapping around."""
    x = (x ^ _shift(x, 30)) * _MIX_1
    x = (x ^ _shift(x, 27)) * _MIX_2
    return x ^ _shift(x, 31)


def uniform(key_B: Tensor, purpose: str, *shape: int) -> Tensor:
    """Uniform numbers in [0, 1) a clip.

    Args:
        key_B: [B] int64, one key a clip.
        purpose: what the numbers are for, e.g. `"audio mask"`; different purposes are independent.
        shape: shape of the numbers of one clip.

    Returns:
        [B, *shape] float32 on the keys' device; 24 random bits each.
    """
    count = math.prod(shape)
    position = torch.arange(1, count + 1, device=key_B.device, dtype=torch.int64)
    stream_B = _mix(key_B ^ stable_hash(purpose))
    bits = _mix(stream_B[:, None] + position * _GAMMA)
    return (_shift(bits, 40).float() / (1 << 24)).view(len(key_B), *shape)


def normal(key_B: Tensor, purpose: str, *shape: int) -> Tensor:
    """Numbers from N(0, 1) a clip, with the arguments and the shape of `uniform` (Box and Muller 1958)."""
    distance, turn = uniform(key_B, purpose, 2, *shape).unbind(1)
    return (-2 * torch.log1p(-distance)).sqrt() * (2 * math.pi * turn).cos()


def derived(key_B: Tensor, purpose: str) -> Tensor:
    """[B] int64 keys for a purpose, whose numbers are independent of those of the keys themselves."""
    return _mix(_mix(key_B ^ stable_hash(purpose)) + _GAMMA)


def beta(key_B: Tensor, purpose: str, a: int, b: int) -> Tensor:
    """[B] numbers from Beta(a, b) for whole a, b: the a-th smallest of a + b - 1 uniform numbers."""
    return uniform(key_B, purpose, a + b - 1).kthvalue(a, dim=1).values
