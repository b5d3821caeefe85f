"""Private parts of other libraries that training needs, each with the version it was written against.

Nothing else in `bench` may use these; `tests/bench/test_compat.py` fails when an update takes one of them away.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence

import lightning as L
import torch
from lightning.pytorch.strategies.launchers import subprocess_script
from torch import Tensor


def leave_signals_alone(trainer: L.Trainer) -> None:
    """Keeps Lightning (2.6.6) from handling signals, which `preemption.py` does.

    Lightning would put handlers of its own in their place, which stop without saving (and would requeue a Slurm job
    beside the launcher that does), and its ranks would broadcast SIGTERM before every step, waiting for the device
    each time.
    """
    connector, epoch_loop = trainer._signal_connector, trainer.fit_loop.epoch_loop
    connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]
    epoch_loop._broadcast_sigterm_tensor = lambda: None  # type: ignore[method-assign]


def callbacks_of(trainer: L.Trainer) -> list[L.Callback]:
    """The list of the Trainer's callbacks, which Lightning (2.6.6) sets without declaring it."""
    return trainer.callbacks  # type: ignore[attr-defined]


def steps_between_logs(trainer: L.Trainer) -> int:
    """`log_every_n_steps` of the Trainer, which Lightning (2.6.6) sets without declaring it."""
    return trainer.log_every_n_steps  # type: ignore[attr-defined]


def observe_ranks(watch: Callable[[list[subprocess.Popen]], None]) -> None:
    """Has the ranks that Lightning (2.6.6) starts on this machine watched by `watch`.

    Lightning's own observer kills this process without a word when a rank has ended, even where it is saving.
    """
    subprocess_script._launch_process_observer = watch  # type: ignore[assignment]  # its argument has a name


def times_written(tensor: Tensor) -> int:
    """How often a tensor was written in place, as torch (2.11) counts it for its gradients.

    Without it, weights that were loaded could not be distinguished from weights that were drawn and happen to be equal.
    """
    return tensor._version


def norms(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The 2-norm of each tensor, by a few kernels for all of them (torch 2.11).

    One by one, a network's hundreds of parameters would each cost a launch whenever they are checked.
    """
    return list(torch._foreach_norm(list(tensors)))


def lerp(ends: Sequence[Tensor], towards: Sequence[Tensor], weight: float) -> None:
    """Moves each tensor in place by a share of its way to another one, by a few kernels for all of them (torch 2.11).

    One by one, each parameter would cost a launch in every step.
    """
    torch._foreach_lerp_(list(ends), list(towards), weight)
