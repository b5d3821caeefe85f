"""What composing hands over: names are objects from then on, and nothing downstream changes a configuration."""

from __future__ import annotations

from collections import Counter
from copy import deepcopy
from dataclasses import FrozenInstanceError, asdict, fields, replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from bench import registry
from bench.config.compose import compose
from bench.config.schema import StageConfig
from bench.plan.combinations import check_combinations
from bench.plan.graph import make_plan
from experiments.common.stage import Stage
from experiments.mavil.method import Distill, DistillOptions, MAViLConfig
from tests.sample_data import SampleMaker


@pytest.fixture
def asked(monkeypatch) -> Counter:
    """How often the registry was asked for each name."""
    registry.boards()  # which asks every dataset for its boards, once
    found: Counter = Counter()
    for kind in ("dataset", "board"):
        real = getattr(registry, kind)
        monkeypatch.setattr(
            registry, kind, lambda name, kind=kind, real=real: found.update([(kind, name)]) or real(name)
        )
    return found


def test_a_name_is_looked_up_once_a_stage_and_never_again(asked):
    config = compose("mavil", ["preset=tiny"])
    stages = [*config.stages.values()]
    uses = Counter([("dataset", each.dataset) for each in stages] + [("board", each.board) for each in stages])
    del uses["board", None]
    assert all(count <= uses[name] for name, count in asked.items() if name in uses)
    asked.clear()
    check_combinations(config, [name for name, stage in config.stages.items() if not stage.on_request])
    assert not asked


def test_a_stage_carries_what_its_names_stand_for():
    found = compose("mavil", ["preset=tiny"]).stages["pretrain_2"].objects
    assert (found.source.name, found.board, found.stage_class) == ("audioset", None, Distill)
    folds = compose("cmkd", ["preset=tiny"]).stages
    assert folds["train_cnn_esc10_fold3"].objects.board == registry.board("esc10")
    assert folds["ensemble_audioset20k"].objects.stage_class is None


def test_what_a_stage_carries_is_no_setting():
    stage = compose("baseline_cnn", ["preset=tiny"]).stages["train_fsd50k"]
    assert asdict(stage).keys() == {field.name for field in fields(StageConfig)}
    with pytest.raises(RuntimeError, match="not composed"):
        _ = replace(stage).objects


def test_a_composed_configuration_is_frozen_and_a_copy_is_not():
    config = compose("baseline_cnn", ["preset=tiny"])
    stage = config.stages["train_fsd50k"]
    for part in (config, config.trainer, stage, stage.optim, stage.data, stage.data.inputs, stage.data.inputs.audio):
        name = fields(part)[0].name
        with pytest.raises(FrozenInstanceError, match=f"{name} is composed"):
            setattr(part, name, getattr(part, name))
        setattr(deepcopy(part), name, None)
        setattr(replace(part), name, None)


def test_planning_leaves_the_configuration_as_it_is(tmp_path: Path, make_sample: SampleMaker):
    """The stage listens only: what it does not look at is read of no clip, but its configuration has it still."""
    make_sample(tmp_path, ["esc50"], counts={"esc50": {f"fold{n}": 8 for n in range(1, 6)}})
    settings = ["stages.train_esc10.fold=1", "stages.train_esc10.batch_size=4", "data.inputs.video.frames=2"]
    places = [f"data_root={tmp_path}", f"runs={tmp_path / 'runs'}", "preset=tiny", "stage=train_esc10"]
    config = compose("baseline_cnn", [*places, *settings])
    before = deepcopy(config)
    (planned,) = make_plan(config).stages
    assert config == before and config.stages[planned.name].data.inputs.video is not None
    assert planned.config.data.inputs.video is None and planned.spec.inputs.video is None


# --- a method's options are typed


def test_what_stands_in_a_base_s_brackets_is_what_a_configuration_is_checked_by():
    assert (Distill.model_config, Distill.options_config) == (MAViLConfig, DistillOptions)

    class Named(Distill):
        options_config = SimpleNamespace

    class Inherited(Named):
        pass

    assert Inherited.options_config is SimpleNamespace and Inherited.model_config is MAViLConfig
    assert not hasattr(Stage, "options_config")
