"""The contract (`bench/contract`) over whatever the registry finds: configurations compose, networks are as large as
declared, and each stage that trains (in preset tiny, on made-up clips) learns, goes on from a checkpoint, never waits
for the device, starts from the stage before it and computes the same on two ranks. And over the methods of the suite:
each computes what its authors' code did (`golden.py`), and takes the weights of their files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

import experiments.common
from bench import registry
from bench.config.compose import compose
from bench.config.layers import read
from bench.contract import cases, checks, parameters, two_ranks
from bench.errors import UserError
from bench.plan.graph import Plan
from bench.run.rehearsal import rehearse
from tests.experiments import golden
from tests.experiments.every_stage import every_stage, of_all_methods

EXPERIMENTS = Path(experiments.common.__file__).parents[1]
NEVER_LEARNED = {"everything_at_once": {"net.masking_token"}}
"""Parameters that no loss reaches, in the authors' code neither (`test_narrated_stages.py`)."""


def configurations() -> list[tuple[str, str, str]]:
    """(method, preset, variant) of all that can be asked for."""
    found = []
    for method in registry.methods():
        presets = read(registry.method_folder(method) / "config.yaml")["presets"]
        found += [(method, preset, variant) for preset in presets for variant in cases.variants(method)]
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("method", "preset", "variant"), configurations())
def test_every_preset_and_variant_composes(method: str, preset: str, variant: str):
    """But for a variant of stages that the preset leaves out, which says so."""
    try:
        config = compose(method, [f"preset={preset}", *([f"variant={variant}"] if variant else [])])
    except UserError as error:
        assert variant and preset != "paper" and f"is left out by {registry.method_folder(method)}" in str(error)
        return
    assert config.stages and (config.preset, config.variant) == (preset, variant)
    for name, stage in config.stages.items():
        used = [stage.after, stage.teacher, *stage.features.values(), *stage.ensemble]
        assert {other for other in used if other} <= config.stages.keys(), name
        assert stage.train or stage.extract or stage.board, f"{name} does nothing"


@pytest.mark.slow
@pytest.mark.parametrize("method", registry.methods())
def test_networks_in_the_paper_s_preset_are_as_large_as_declared(method: str):
    parameters.are_as_declared(method)


@pytest.mark.slow
@pytest.mark.parametrize("method", registry.methods())
def test_no_stage_of_any_variant_is_refused_before_training(method: str):
    for variant in cases.variants(method):
        try:
            config = cases.composed(method, variant)
        except UserError:  # of stages that preset tiny leaves out
            continue
        stages: dict[str, Any] = {}
        for name, stage in config.stages.items():
            stages[name] = SimpleNamespace(
                name=name, config=stage, board=stage.objects.board, train=stage.train or None, done=False,
                extracted=stage.extract or None,
                stage_class=stage.objects.stage_class, spec=None if stage.ensemble else cases.spec(config, name),
            )  # fmt: skip
        for stage in stages.values():
            stage.parent, stage.teacher = stages.get(stage.config.after), stages.get(stage.config.teacher)
        rehearse(cast(Plan, SimpleNamespace(stages=list(stages.values()))))


@every_stage
def test_the_loss_falls_and_every_parameter_gets_a_gradient(case: cases.Case):
    checks.learns(case, NEVER_LEARNED.get(case.method, ()))


@every_stage
def test_a_checkpoint_brings_the_next_step_back_to_the_bit(case: cases.Case):
    checks.resumes(case)


@every_stage
def test_a_training_step_asks_for_no_value(case: cases.Case):
    checks.never_waits(case)


@pytest.mark.parametrize("case", [case for case in of_all_methods() if case.config.stages[case.stage].after], ids=str)
def test_a_stage_starts_from_the_one_before_and_names_what_is_missing_or_strange(case: cases.Case):
    checks.starts_from_parent(case)


@pytest.fixture(scope="module")
def on_two_ranks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, two_ranks.Step]:
    return two_ranks.steps_on_two_ranks(of_all_methods(), tmp_path_factory.mktemp("ranks"))


@every_stage
def test_two_ranks_compute_what_one_does(case: cases.Case, on_two_ranks: dict[str, two_ranks.Step]):
    two_ranks.agrees(case, on_two_ranks[str(case)])


# What the authors' code computed


def test_every_method_of_the_suite_has_numbers_of_its_authors_or_there_is_a_reason():
    own = {name for name in registry.methods() if registry.method_folder(name).parent == EXPERIMENTS}
    assert own == golden.methods().keys() | golden.NOT_RECORDED.keys()
    assert all(golden.NOT_RECORDED.values()) and not golden.methods().keys() & golden.NOT_RECORDED.keys()


@pytest.mark.parametrize("run", golden.runs(), ids=str)
def test_what_the_authors_code_computed_is_computed_here(run: golden.Run):
    assert run.differences(run.made()) == []


@pytest.mark.parametrize("run", [run for run in golden.runs() if run.deep], ids=str)
def test_the_numbers_would_tell_if_a_deep_weight_were_wrong(run: golden.Run):
    assert run.differences(run.made_wrong(), tolerances=golden.SHOWN)


@pytest.mark.parametrize("method", golden.methods())
def test_no_recorded_number_is_left_out(method: str):
    compared = [run.at for run in golden.runs() if run.method == method]
    compared += getattr(golden.methods()[method], "ELSEWHERE", ())

    def left_out(numbers: Any, at: str) -> Iterator[str]:
        if isinstance(numbers, dict):
            for key, value in numbers.items():
                if key not in golden.MADE_WITH:
                    yield from left_out(value, f"{at}/{key}" if at else key)
        elif not isinstance(numbers, str) and not any(f"{at}/".startswith(f"{place}/") for place in compared):
            yield at

    assert list(left_out(golden.recorded(method), "")) == []


# The authors' files

every_file = pytest.mark.parametrize("file", golden.released(), ids=str)


@every_file
def test_weights_out_of_data_parallel_or_not_fill_everything(file: golden.Released):
    made, weights = file.made(), {key.removeprefix("module."): value for key, value in file.weights().items()}
    expected = {key: value.clone() for key, value in made.state_dict().items()}
    for prefix in ("", "module.") if file.parallel else ("",):
        for value in made.state_dict().values():
            value.zero_()
        file.load(made, {prefix + key: value for key, value in weights.items()})
        assert [key for key, value in made.state_dict().items() if not torch.equal(value, expected[key])] == []


@every_file
def test_only_what_the_authors_never_use_is_left_out(file: golden.Released):
    """Each of their values is the number of its key."""
    made, weights = file.made(), file.weights()
    file.load(made, {key: torch.full_like(value, number) for number, (key, value) in enumerate(weights.items(), 1)})
    marks = {number for value in made.state_dict().values() for number in value.unique().tolist()}
    factor = dict.fromkeys(file.summed, 3)
    left_out = {key for number, key in enumerate(weights, 1) if number * factor.get(key, 1) not in marks}
    assert left_out == {key for key in weights if key.startswith(file.unused)}


@every_file
def test_keys_without_a_place_and_weights_that_are_missing_are_named(file: golden.Released):
    made, weights = file.made(), file.weights()
    for strange in file.strange:
        with pytest.raises(ValueError, match=f"{re.escape(strange)}: unknown"):
            file.load(made, {**weights, strange: torch.zeros(1)})
    theirs, ours = file.missing
    with pytest.raises(ValueError, match=f"{re.escape(ours)}: missing"):
        file.load(made, {key: value for key, value in weights.items() if key != theirs})
