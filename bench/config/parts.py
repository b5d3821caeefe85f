"""How a batch is spread over devices."""

from __future__ import annotations


def parts_of_a_batch(batch: int, devices: int, device_batch: int, per_video: int = 1) -> int:
    """How many parts a device's share of a batch goes through it in: as few as `device_batch` allows, of equal size.

    Args:
        batch: clips of a step over all devices.
        devices: of all nodes.
        device_batch: see `TrainerConfig`.
        per_video: clips that must stay together.
    """
    rows = batch // (devices * per_video)
    most = device_batch // per_video if device_batch else rows
    return next((parts for parts in range(1, rows) if rows % parts == 0 and rows // parts <= most), max(rows, 1))
