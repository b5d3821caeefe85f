"""Made-up YouTube ids."""

from __future__ import annotations

import string

from datamodules.sample.world import generator

ALPHABET = string.ascii_letters + string.digits + "-_"


def youtube_id(seed: int, dataset: str, split: str, index: int) -> str:
    """11 characters of YouTube's alphabet; one in ten starts with `-` or `_`, which trips up naive readers."""
    rng = generator(seed, dataset, split, index, "id")
    id_ = "".join(ALPHABET[i] for i in rng.integers(0, len(ALPHABET), size=11))
    return "-_"[index // 10 % 2] + id_[1:] if index % 10 == 3 else id_
