"""Numbers recorded from the authors' code (`tests/golden/<method>.json`), and the weights and inputs of those runs,
drawn again: each is a function of its name in their layout.

What of a method is compared stands in `recorded/<method>.py`, and `test_every_method.py` compares it.
"""

from __future__ import annotations

import importlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from bench import registry
from bench.config.schema import StageConfig
from datamodules import keyed
from experiments.common.optim import peak_lr, schedule_factor
from experiments.common.stage import Stage

NOT_RECORDED = {
    "baseline_cnn": "it is ours, and nobody else has code of it",
    "wavenet_multitask": "no code of it was published",
}
"""Method of the suite -> why there are no numbers of its authors."""
MADE_WITH = {
    *("repository", "commit", "class", "recipe", "config", "classes", "keys", "layout", "layouts", "gains"),
    *("lengths", "frames", "mel_bins", "strides", "channels", "weights", "steps_per_epoch"),
}
"""Keys of golden files under which stands what a run was made with, and which of its numbers were written down."""
SHOWN = 20
"""A deep weight that is off by a tenth changes some recorded number by this many tolerances."""


@cache
def recorded(name: str) -> Any:
    return json.loads((Path(__file__).parent.parent / "golden" / f"{name}.json").read_text())


@dataclass(frozen=True)
class Recording:
    """What was recorded of one method, and how large its drawn weights are."""

    method: str
    kernels: float = 0.0
    """At 12 the outputs of a layer have about the deviation of its inputs; 0: kernels are as large as vectors."""
    vectors: float = 0.2
    """Factor of biases and of the weights of norms, which are about 1."""
    variances: float = 1.0

    @cached_property
    def values(self) -> dict[str, Any]:
        return recorded(self.method)

    def drawn(self, name: str, *shape: int) -> Tensor:
        """Uniform numbers in [-0.5, 0.5) that depend on the method and the name alone."""
        key = torch.tensor([keyed.stable_hash(f"{self.method.replace('_', ' ')} parity", name)])
        return keyed.uniform(key, "value", math.prod(shape)).view(shape) - 0.5

    def weights(self, shapes: Mapping[str, Sequence[int]]) -> dict[str, Tensor]:
        """The authors' names -> weights."""
        return {name: self._weight(name, *shape) for name, shape in shapes.items()}

    def _weight(self, name: str, *shape: int) -> Tensor:
        if name.endswith("num_batches_tracked"):
            return torch.zeros(shape, dtype=torch.long)
        if name.endswith("running_var"):
            return 1 + self.variances * self.drawn(name, *shape)
        if len(shape) == 1:
            return self.vectors * self.drawn(name, *shape) + float(name.endswith("weight"))
        return self.drawn(name, *shape) * (self.kernel_factor(shape) if self.kernels else self.vectors)

    def kernel_factor(self, shape: Sequence[int]) -> float:
        return (self.kernels / math.prod(shape[1:])) ** 0.5


@dataclass(frozen=True)
class Run:
    """Recorded numbers, and what our code makes of the same weights and inputs."""

    at: str
    """Where the numbers stand in the golden file: keys with `/` between them."""
    ours: Callable[[Any], Any]
    """Of what `made` makes, numbers as tensors or plain, in dictionaries and lists as those that are expected."""
    made: Callable[[], Any] = lambda: None
    """A network or a stage with the weights of the run, made anew at each call."""
    name: str = ""
    """What distinguishes it from other runs with the same numbers."""
    expected: Callable[[Any], Any] = lambda numbers: numbers
    """The recorded numbers as ours are put together, where that is otherwise."""
    tolerance: float = 1e-4
    relative: float = 0.0
    """Tolerance in shares of each number, in addition."""
    deep: str = ""
    """The end of the name of a deep weight, which these numbers would tell if it were wrong."""
    method: str = field(default="", compare=False)

    def __str__(self) -> str:
        return "-".join(filter(None, (self.method, self.at.replace("/", "."), self.name)))

    def numbers(self) -> Any:
        found = recorded(self.method)
        for key in self.at.split("/"):
            found = found[key]
        return _without_inputs(self.expected(found))

    def differences(self, made: Any, tolerances: float = 1.0) -> list[str]:
        """Where ours are not the recorded numbers."""
        allowed = tolerances * self.tolerance, tolerances * self.relative
        return list(_differences(self.ours(made), self.numbers(), *allowed, self.at))

    def made_wrong(self) -> Any:
        """With the deep weight a tenth too large."""
        made = self.made()
        (weight,) = (value for name, value in made.state_dict().items() if name.endswith(self.deep))
        weight.mul_(1.1)
        return made


def _without_inputs(numbers: Any) -> Any:
    if isinstance(numbers, dict):
        return {key: _without_inputs(value) for key, value in numbers.items() if key not in MADE_WITH}
    if isinstance(numbers, list) and numbers and isinstance(numbers[0], dict):
        return [_without_inputs(each) for each in numbers]
    return numbers


def _differences(ours: Any, theirs: Any, absolute: float, relative: float, place: str) -> Iterator[str]:
    if isinstance(theirs, dict):
        if not isinstance(ours, dict) or ours.keys() != theirs.keys():
            yield f"{place}: {list(ours)} instead of {list(theirs)}"
            return
        for key in theirs:
            yield from _differences(ours[key], theirs[key], absolute, relative, f"{place}/{key}")
    elif isinstance(ours, list):
        if not isinstance(theirs, list) or len(ours) != len(theirs):
            yield f"{place}: {len(ours)} values, not those of {theirs}"
            return
        for number, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
            yield from _differences(mine, other, absolute, relative, f"{place}/{number}")
    elif isinstance(theirs, str | bool | None):
        if ours != theirs:
            yield f"{place}: {ours}, not {theirs}"
    else:
        mine, other = _tensor(ours), _tensor(theirs)
        exact = not (mine.is_floating_point() or other.is_floating_point())
        if mine.shape != other.shape:
            yield f"{place}: shape {list(mine.shape)}, not {list(other.shape)}"
        elif not ((mine - other).abs() <= (0 if exact else absolute + relative * other.abs())).all():
            yield f"{place}: off by {(mine - other).abs().max().item():.3g}"


def _tensor(value: Any) -> Tensor:
    """Of whole numbers, or of float64."""
    found = value.detach() if isinstance(value, Tensor) else torch.tensor(value)
    if not found.is_floating_point():
        return found
    return found.double() if isinstance(value, Tensor) else torch.tensor(value, dtype=torch.float64)


def load_parent(stage: Stage[Any, Any], weights: dict[str, Tensor]) -> None:
    """As a stage starts from a file."""
    stage.load_parent(weights)


@dataclass(frozen=True)
class Released:
    """Weights in the layout of the authors' files, and what of ours starts from them."""

    name: str
    made: Callable[[], nn.Module]
    weights: Callable[[], dict[str, Tensor]]
    load: Callable[[Any, dict[str, Tensor]], None] = load_parent
    unused: tuple[str, ...] = ()
    """Prefixes of what the authors' class never uses."""
    missing: tuple[str, str] = ("", "")
    """A key of theirs, and what of ours is missing without it."""
    strange: tuple[str, ...] = ("nobody.weight",)
    """Keys that have no place here, as of another variant or in our own names."""
    summed: tuple[str, ...] = ()
    """Kernels of three channels, of which ours has the sum."""
    parallel: bool = True
    """Whether the authors save it out of DataParallel, too."""
    method: str = field(default="", compare=False)

    def __str__(self) -> str:
        return "-".join(filter(None, (self.method, self.name)))


FOLDER = Path(__file__).parent / "recorded"


@cache
def methods() -> dict[str, ModuleType]:
    """Method of the suite -> `recorded/<method>.py`, of those that have one."""
    own = [name for name in registry.methods() if (FOLDER / f"{name}.py").is_file()]
    return {name: importlib.import_module(f"tests.experiments.recorded.{name}") for name in own}


def runs() -> list[Run]:
    """Of all methods."""
    return [replace(run, method=name) for name, module in methods().items() for run in module.RUNS]


def released() -> list[Released]:
    """Of all methods."""
    return [replace(file, method=name) for name, module in methods().items() for file in module.RELEASED]


def rates(stage: StageConfig, steps_per_epoch: int, every: int = 1, _: None = None) -> list[float]:
    """The learning rate of each step of a stage's training, or of every so-manieth."""
    peak, total = peak_lr(stage.optim, stage.batch_size), steps_per_epoch * stage.epochs
    return [
        peak * schedule_factor(stage.optim, stage.batch_size, step, steps_per_epoch, stage.epochs)
        for step in range(0, total, every)
    ]
