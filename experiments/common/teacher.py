"""A stage that learns from a frozen network which is no part of it."""

from __future__ import annotations

import torch
from torch import nn


class Taught:
    """For a `Stage`: a teacher that is in none of its parameters, checkpoints or state dict.

    What loads the teacher gives it to `take_teacher`, also when a cut-off run goes on.
    """

    device: torch.device
    _teacher: tuple[nn.Module, ...] = ()  # in a tuple, so that nn.Module does not take it for its own part

    @property
    def teacher(self) -> nn.Module:
        """The frozen network, in evaluation mode.

        Raises:
            RuntimeError: there is none.
        """
        if not self._teacher:
            raise RuntimeError(f"{type(self).__name__} needs a teacher: name the stage that trains one")
        return self._teacher[0]

    def take_teacher(self, net: nn.Module) -> None:
        self._teacher = (net.eval().requires_grad_(False),)

    def on_fit_start(self) -> None:
        self.teacher.to(self.device)
