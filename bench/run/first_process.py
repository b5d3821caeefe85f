"""What each of the processes that train together has for itself, batch norm's statistics above all: those that are
written are the first one's, so it is those that all must measure with.

DistributedDataParallel gives them to all at the beginning of a step, in which each goes on with its own clips.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch.distributed as dist
from torch import nn


def share_buffers(module: nn.Module, processes: int) -> None:
    """Gives all processes the buffers of the first one; to be called on each of them."""
    if processes > 1:
        for buffer in module.buffers():
            dist.broadcast(buffer.data, 0)


@contextmanager
def buffers_of_the_first(module: nn.Module, processes: int) -> Iterator[None]:
    """Within, all processes have the buffers of the first one, and afterwards their own again."""
    buffers = [buffer.data for buffer in module.buffers()]
    own = [buffer.clone() for buffer in buffers]
    share_buffers(module, processes)
    try:
        yield
    finally:
        for buffer, value in zip(buffers, own, strict=True):
            buffer.copy_(value)
