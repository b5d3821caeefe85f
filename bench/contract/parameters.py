"""How many parameters a method's networks have: `parameters` of its `config.yaml`, beside what was published."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any, cast

from omegaconf import OmegaConf

from bench import registry
from bench.contract.cases import composed, spec, stage_class, variants
from bench.plan import cost
from experiments.common.optim import OptimConfig

PRESET = "paper"
PATTERNS = ("stages", "variants")
"""Fields of an entry that are one string or a list of several."""


@dataclass(frozen=True)
class Size:
    """One entry: how large the networks of some stages are in preset paper. Of several that fit a stage the last
    counts."""

    stages: tuple[str, ...]
    """Names or patterns, as `train_*_av`."""
    here: int
    """Parameters of our network, trainable and fixed."""
    variants: tuple[str, ...] = ("*",)
    """Likewise, where variants differ; the name of none is empty."""
    classes: int = 0
    """Of the dataset, where the network has a classifier."""
    published: str = ""
    """What the paper says or the authors' code has, e.g. `173.2 M`; empty: nothing is known."""
    source: str = ""
    """Of `published`, and what makes the difference."""

    def fits(self, variant: str, stage: str) -> bool:
        return _any_fits(self.variants, variant) and _any_fits(self.stages, stage)


def _any_fits(patterns: tuple[str, ...], name: str) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def declared(method: str) -> list[Size]:
    """The entries of a method, in their order."""
    content = OmegaConf.load(registry.method_folder(method) / "config.yaml")
    entries = cast(list[dict[str, Any]], OmegaConf.to_container(content).get("parameters", []))  # type: ignore[union-attr]
    return [Size(**(entry | _patterns(entry))) for entry in entries]


def _patterns(entry: dict[str, Any]) -> dict[str, Any]:
    """Those of an entry as tuples."""
    said = {key: entry[key] for key in PATTERNS if key in entry}
    return {key: (value,) if isinstance(value, str) else tuple(value) for key, value in said.items()}


def networks(method: str) -> Iterator[tuple[str, str]]:
    """(variant, stage) of all that have a network in preset paper, of the folds of a board one."""
    for variant in variants(method):
        for name, stage in composed(method, variant, PRESET).stages.items():
            if not stage.ensemble and stage.fold in (0, 1):
                yield variant, name


def are_as_declared(method: str) -> None:
    """Every network is of the declared size, and no entry is left over."""
    sizes = declared(method)
    used, wrong, counted = set(), [], {}
    for variant, name in networks(method):
        fitting = [size for size in sizes if size.fits(variant, name)]
        place = f"{variant or 'no variant'}, {name}"
        if not fitting:
            wrong.append(f"{place}: `parameters` of config.yaml does not say how large the network is")
            continue
        size = fitting[-1]
        used.add(size)
        config = composed(method, variant, PRESET)
        network = replace(spec(config, name, size.classes), optim=OptimConfig())
        key = repr((stage_class(config, name), network))
        if key not in counted:
            counted[key] = cost.parameters(cost.build_on_meta(stage_class(config, name), network))
        found = counted[key]
        if found != size.here:
            wrong.append(f"{place}: {found:,} parameters, not {size.here:,}")
    wrong += [f"{size}: of no stage" for size in sizes if size not in used]
    assert not wrong, f"{method}: " + "\n".join(wrong)
