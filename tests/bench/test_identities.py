"""A stage's identity is what it was: `tests/golden/identities.json` was made by commit 935aa773, before the harness,
the data and the methods were put into packages, of the same small sample data.

An identity that has to change is changed there by hand, and CHANGELOG.md says why.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from bench import registry
from bench.config.compose import compose
from bench.plan.graph import make_plan

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "identities.json").read_text(encoding="utf-8"))
OWN = [method for method, place in registry.methods().items() if place.startswith("experiments.")]


def presets(method: str) -> list[str]:
    return list(OmegaConf.load(registry.method_folder(method) / "config.yaml").presets)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all, so that files are judged once."""
    return tmp_path_factory.mktemp("runs")


@pytest.mark.slow
@pytest.mark.parametrize(("method", "preset"), [(method, preset) for method in OWN for preset in presets(method)])
def test_every_stage_has_the_identity_that_it_had(method: str, preset: str, sample_root: Path, runs: Path):
    known = GOLDEN.get(f"{method} {preset}")
    if known is None:
        pytest.skip("its plan needs files of words, or more clips than the small sample data has")
    config = compose(method, [f"preset={preset}", f"sample_root={sample_root}", f"runs={runs}", "data.min_coverage=0"])
    assert {stage.name: [stage.identity, stage.recipe] for stage in make_plan(config).stages} == known
