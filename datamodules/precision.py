"""Where float32 has to mean float32."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Neither autocast nor TF32 or bfloat16 products and convolutions inside: features, pixels and scores keep 24 bits.

    Training switches these on (`torch.set_float32_matmul_precision`), and torch itself has cuDNN's convolutions in
    TF32; they would cost up to 1e-3 of a log-mel.
    """
    cuda, cpu = torch.backends.cudnn, torch.backends.mkldnn
    backends: tuple[Any, ...] = (  # modules that torch puts in place when it is imported
        torch.backends.cuda.matmul,
        *(getattr(cpu, part) for part in ("matmul", "conv", "rnn")),
        *(getattr(cuda, part) for part in ("conv", "rnn")),
    )
    before = [backend.fp32_precision for backend in backends]
    try:
        for backend in backends:
            backend.fp32_precision = "ieee"
        with no_autocast(device):
            yield
    finally:
        for backend, precision in zip(backends, before, strict=True):
            backend.fp32_precision = precision


def no_autocast(device: torch.device) -> AbstractContextManager[None]:
    """Operations within keep their arguments' precision; the meta device, which has shapes alone, knows no other."""
    return nullcontext() if device.type == "meta" else torch.autocast(device.type, enabled=False)
