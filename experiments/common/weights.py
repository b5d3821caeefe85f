"""Loading weights by name, where every mismatch is an error that names the key."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn


def matches(key: str, prefixes: tuple[str, ...]) -> bool:
    """Whether `key` is, or lies under, one of the dotted `prefixes`."""
    return any(key == prefix or key.startswith(prefix + ".") for prefix in prefixes)


def without_prefix(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The weights with `prefix` removed from the keys that have it, e.g. a stage's as those of its `net`."""
    return {key.removeprefix(prefix): value for key, value in weights.items()}


def require_fit(wrong: list[str]) -> None:
    """Raises an error if `wrong` lists anything.

    Raises:
        ValueError: listing `wrong`, each entry a key and what is wrong with it.
    """
    if wrong:
        raise ValueError("these weights do not fit:\n  " + "\n  ".join(wrong))


def load_strict(
    module: nn.Module,
    weights: Mapping[str, Tensor],
    new: tuple[str, ...] = (),
    unused: tuple[str, ...] = (),
) -> None:
    """Copies `weights` into `module`; both must have the same keys and shapes, but for `new` and `unused`.

    Args:
        module: takes the weights.
        weights: a state dict.
        new: dotted prefixes of keys that may be absent from `weights` and then keep their fresh values.
        unused: dotted prefixes of keys of `weights` that may be left over.

    Raises:
        ValueError: naming every key that is missing, unknown or of another shape. Nothing is loaded then.
    """
    own = module.state_dict()
    wrong = [f"{key}: missing" for key in own if key not in weights and not matches(key, new)]
    wrong += [f"{key}: unknown" for key in weights if key not in own and not matches(key, unused)]
    wrong += [
        f"{key}: shape {list(weights[key].shape)}, not {list(value.shape)}"
        for key, value in own.items()
        if key in weights and weights[key].shape != value.shape
    ]
    require_fit(wrong)
    module.load_state_dict({key: weights[key] for key in own if key in weights}, strict=False)
