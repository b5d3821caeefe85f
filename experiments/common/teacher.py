"""Teachers: a frozen network that is no part of the stage, or one that follows the student as its moving mean."""

from __future__ import annotations

import math

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


def cosine_momentum(first: float, done: float) -> float:
    """The momentum of a moving mean that rises from `first` to 1 over half a cosine (BYOL, DINO).

    Args:
        first: in the first step.
        done: share of training, 0 to 1.
    """
    return 1 - (1 - first) * (1 + math.cos(math.pi * done)) / 2


@torch.no_grad()
def follow(teacher: nn.Module, student: nn.Module, momentum: float) -> None:
    """teacher <- momentum * teacher + (1 - momentum) * student, of each parameter."""
    for own, others in zip(teacher.parameters(), student.parameters(), strict=True):
        own.lerp_(others, 1 - momentum)
