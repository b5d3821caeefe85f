"""How many floating-point operations a device does at best."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

DATA_SHEETS = {
    "H200": (989e12, "https://www.nvidia.com/en-us/data-center/h200/"),
    "H100 80GB HBM3": (989e12, "https://www.nvidia.com/en-us/data-center/h100/"),
    "A100-SXM4": (312e12, "https://www.nvidia.com/en-us/data-center/a100/"),
}
"""Part of a GPU's name -> (dense bfloat16 FLOPs a second, source)."""
SIZES = {"cpu": (512, 1024, 2048), "cuda": (4096, 8192, 16384)}
"""Sides of the matrices that are multiplied."""
ROUNDS = 5


@dataclass(frozen=True)
class Peak:
    """What a device does at best, in one precision."""

    measured: float
    """FLOPs a second of the quickest product of two matrices."""
    size: int
    """Side of those."""
    specified: float | None
    """The same by the data sheet."""
    source: str | None


def peak(device: torch.device, dtype: torch.dtype) -> Peak:
    """The best of a few products, and the data sheet's number where the GPU is known and the precision bfloat16."""
    measured, size = max((product(device, dtype, size), size) for size in SIZES[device.type])
    specified, source = None, None
    if device.type == "cuda" and dtype == torch.bfloat16:
        name = torch.cuda.get_device_name(device)
        specified, source = next((known for part, known in DATA_SHEETS.items() if part in name), (None, None))
    return Peak(measured, size, specified, source)


def product(device: torch.device, dtype: torch.dtype, size: int) -> float:
    """FLOPs a second of the quickest of a few products of [size, size] matrices."""
    a, b = torch.randn(2, size, size, device=device).to(dtype)
    seconds = []
    for _ in range(1 + ROUNDS):  # the first is to warm up
        synchronise(device)
        began = time.perf_counter()
        a @ b
        synchronise(device)
        seconds.append(time.perf_counter() - began)
    return 2 * size**3 / min(seconds[1:])


def synchronise(device: torch.device) -> None:
    """Waits until the device has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
