"""What determines a result: settings without their defaults, the same for records of all times."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields, make_dataclass
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench import registry
from bench.config import first_settings as first
from bench.config.compose import compose
from bench.config.configured import of_row, stage_settings, unlike_defaults
from bench.config.first_settings import DEFAULTS, first_settings
from bench.config.parts import parts_of_a_batch
from bench.config.schema import StageConfig, TrainerConfig
from bench.plan import identity
from bench.plan.identity import shareable
from bench.plan.row_settings import row_settings
from bench.records.archive import read
from datamodules.types import FeatureInputs, TextInputs
from tests import gated_method
from tests.bench import defaults


@dataclass
class Inner:
    size: int = 3
    names: list[str] = field(default_factory=lambda: ["a"])


@dataclass
class Outer:
    lr: float = 0.1
    inner: Inner = field(default_factory=lambda: Inner(size=4))
    text: Inner | None = None


def test_a_setting_at_its_field_s_default_contributes_nothing_and_a_part_that_is_there_differs_from_none():
    assert unlike_defaults(Outer()) == {}
    assert unlike_defaults(Outer(inner=Inner())) == {"inner.size": 3}, "the field's default, not the class's"
    assert unlike_defaults(Outer(text=Inner())) == {"text": {}}
    assert unlike_defaults(Outer(text=Inner(size=9))) == {"text": {}, "text.size": 9}


def determining(config, name: str, stage: StageConfig) -> dict[str, Any]:
    objects = config.stages[name].objects
    return identity.determining(config, stage.carry(objects), objects.stage_class, None, None, None, None, [], 1)


def grown(config: Any, path: str, value: int) -> Any:
    """The same configuration, of classes of which the one at `path` has a new field `novel` with the default 0."""
    name, _, rest = path.partition(".")
    own = {field.name: getattr(config, field.name) for field in fields(config)}
    if not name:
        kind = make_dataclass(f"New{type(config).__name__}", [("novel", int, 0)], bases=(type(config),))
        return kind(**own, novel=value)
    part = grown(getattr(config, name), rest, value)
    kind = make_dataclass(
        type(config).__name__, [(name, type(part), field(default_factory=type(part)))], bases=(type(config),)
    )
    return kind(**(own | {name: part}))


@pytest.mark.parametrize("path", ["", "optim", "data", "data.loader", "data.augment", "data.inputs.audio"])
def test_a_new_setting_changes_no_identity_and_no_row_until_it_is_set(path: str):
    config = compose("baseline_cnn", ["preset=tiny", "stages.train_esc10.fold=1"])
    name, stage = next(iter(config.stages.items()))
    before, unset = determining(config, name, stage), determining(config, name, grown(stage, path, 0))
    assert identity.identity(unset, 0, None, {}) == identity.identity(before, 0, None, {})
    assert stage_settings(grown(stage, path, 0)) == stage_settings(stage)
    key = f"{path}.novel".lstrip(".")
    assert determining(config, name, grown(stage, path, 1))["stage"] == before["stage"] | {key: 1}, "named nowhere"


def moved(then: Any, now: Any, path: str) -> Iterator[str]:
    """The fields that have another default than once; those that are new or gone are none of them."""
    there = [isinstance(each, dict) and defaults.WHERE_THERE not in each for each in (then, now)]
    if isinstance(then, dict) and isinstance(now, dict) and there[0] == there[1]:
        for key in then.keys() & now.keys():
            yield from moved(then[key], now[key], f"{path}.{key}")
    elif then != now:
        yield f"{path}: {then} -> {now}"


def plain(config: Any) -> Any:
    return json.loads(json.dumps(asdict(config)))


def unknown(then: Any, now: Any, path: str = "") -> Iterator[str]:
    """The fields whose default is not held yet."""
    for key in now if isinstance(then, dict) and isinstance(now, dict) else ():
        yield from unknown(then[key], now[key], f"{path}.{key}") if key in then else [f"{path}.{key}"]


def test_every_default_is_held_to_what_it_is():
    """Those of fields, methods and stages that came after the first, too."""
    held, now = json.loads(defaults.GOLDEN.read_text(encoding="utf-8")), defaults.present()
    assert not list(moved(held, now, "")), "a moved default moves the meaning of old records: give it another name"
    assert not list(unknown(held, now)), "new fields: `python -m tests.bench.defaults` adds them to the file"


FIRST = json.loads(DEFAULTS.read_text(encoding="utf-8"))


def test_no_default_has_changed_its_meaning():
    """Old identities and rows leave defaults out: what is to have another default needs another name, or all that it
    could touch a raised `version`."""
    assert not list(moved(FIRST["stage"], plain(StageConfig()), "stage"))
    assert not list(moved(FIRST["trainer"], plain(TrainerConfig()), "trainer"))
    for name, kind in (("text", TextInputs), ("features", FeatureInputs)):
        assert not list(moved(FIRST["optional"][f"data.inputs.{name}"], plain(kind()), name))


@pytest.mark.parametrize("method", FIRST["methods"])
def test_no_default_of_a_method_has_changed_its_meaning(method: str):
    of_method, module = FIRST["methods"][method], registry.method_module(method)
    for name, options in of_method["options"].items():
        if (kind := getattr(module, name, None)) is not None:
            assert not [*moved(options, plain(kind.options_config()), name)]
            assert not [*moved(of_method["model"], plain(kind.model_config()), "model")]


# --- rows

PARTS = ("train_esc10_fold1", "train_esc10_fold3")


@cache
def recorded(
    *overrides: str, stage: str = PARTS[0], method: str = "baseline_cnn"
) -> tuple[dict[str, Any], dict[str, Any]]:
    """(settings that a new record names, the whole configuration, which is all that an old one has)."""
    config = compose(method, ["preset=tiny", *overrides])
    own, trainer = config.stages[stage], config.trainer
    per_video = own.data.narration.per_video if own.objects.source.narrated else 1
    parts = parts_of_a_batch(own.batch_size, trainer.devices * trainer.nodes, trainer.device_batch, per_video)
    own_class = own.objects.stage_class
    planned = SimpleNamespace(
        name=stage, config=own, ancestors=[], stage_class=own_class, parts=parts, learns_from_sample=False
    )
    of_method = FIRST["methods"].get(method, {"model": {}, "options": {}})
    usual = FIRST["stage"] | {"options": of_method["options"].get(own.module)}
    whole = {
        "model": known(plain(config.model), of_method["model"]),
        "stages": {stage: known(json.loads(json.dumps(shareable(own))), usual)},
        "trainer": known(plain(config.trainer), FIRST["trainer"]),
    }
    return row_settings(config, planned), whole


def known(now: Any, then: Any, path: str = "") -> Any:
    """The configuration without the fields that came later."""
    then = FIRST["optional"].get(path) if then is None else then
    if not isinstance(now, dict) or not then:
        return now
    return {key: known(now[key], then[key], f"{path}.{key}".lstrip(".")) for key in now.keys() & then.keys()}


SETTING = st.sampled_from(
    [
        ("stages.train_esc10.epochs=7", True),
        ("stages.train_esc10.optim.lr=0.03", True),
        ("stages.train_esc10.data.augment.mixup=0.4", True),
        ("trainer.grad_clip=2.0", True),
        ("trainer.precision=bf16", True),
        ("trainer.devices=2", False),
        ("trainer.device_batch=2", False),
        ("trainer.checkpoint_every=3", False),
        ("seed=4", False),
        ("stages.train_esc10.data.media=videos", False),
        ("stages.train_esc10.data.loader.workers=3", False),
        ("stages.train_esc10.data.min_coverage=0", False),
        ("runs=/elsewhere", False),
    ]
)


@pytest.mark.slow
@settings(max_examples=8, deadline=None)
@given(changes=st.lists(SETTING, unique=True, max_size=4))
def test_a_row_s_settings_are_those_that_determine_a_result_in_new_and_old_records_alike(changes):
    """Whatever the order in which they are set, the fold, the seed, the machine."""
    overrides = [override for override, _ in changes]
    new, whole = recorded(*overrides)
    assert first_settings("baseline_cnn", whole) | {"version": registry.method_version("baseline_cnn")} == new
    assert recorded(*reversed(overrides), stage=PARTS[1])[0] == new
    assert (new != recorded()[0]) == any(determines for _, determines in changes)


def test_what_auto_means_on_a_machine_parts_no_rows():
    assert recorded("trainer.precision=auto:bf16-mixed")[0] == recorded("trainer.precision=auto")[0]


@pytest.mark.parametrize(
    ("method", "stage", "overrides", "parts"),
    [
        ("mavil", "pretrain", ("trainer.device_batch=64",), 8),
        ("mavil", "pretrain", ("trainer.device_batch=64", "trainer.devices=2", "trainer.nodes=2"), 2),
        ("mavil", "pretrain", ("trainer.device_batch=64", "trainer.devices=8"), 1),
        ("avlnet", "pretrain", ("trainer.device_batch=64", "stages.pretrain.data.narration.per_video=32"), 8),
        ("avlnet", "pretrain", ("trainer.device_batch=63", "stages.pretrain.data.narration.per_video=32"), 16),
    ],
)
def test_rows_differ_by_the_parts_of_a_batch_where_its_clips_are_compared(method, stage, overrides, parts):
    """Not by the setting from which and from the devices the parts follow."""
    batch = f"stages.{stage}.batch_size=512"
    usual, (new, whole) = (
        recorded(batch, method=method, stage=stage)[0],
        recorded(batch, *overrides, method=method, stage=stage),
    )
    of_parts = {f"stages.{stage}.parts": parts} if parts > 1 else {}
    per_video = {key: value for key, value in new.items() if key.endswith(".per_video")}
    assert new == usual | per_video | of_parts
    assert {key: value for key, value in first_settings(method, whole).items() if key.endswith(".parts")} == of_parts


def test_the_version_of_a_dataset_parts_rows_and_so_old_ones_of_vggsound_from_those_of_its_own_list():
    """57f53bc: where both are there, a split's own list is read instead of `vggsound.csv`."""
    new, whole = recorded("stages.finetune_vggsound_v.epochs=2", method="mavil", stage="finetune_vggsound_v")
    old = first_settings("mavil", whole)
    assert new == old | {"dataset.vggsound.version": 2, "version": registry.method_version("mavil")} and not any(
        key.startswith("dataset.") for key in old
    )
    assert not any(key.startswith("dataset.") for key in recorded()[0]), "of version 1"


def test_a_stage_that_does_not_train_is_not_identified_by_its_training():
    stage = StageConfig(module="Train", dataset="esc10", epochs=9, train=[])
    assert stage_settings(stage) == {"module": "Train", "dataset": "esc10"}
    assert "epochs" in stage_settings(StageConfig(module="Train", dataset="esc10", epochs=9, train=["fold1"]))


def test_folds_have_the_same_settings_and_so_has_what_they_come_from():
    def fold(n: int) -> dict[str, Any]:
        own = {"fold": n, "train": [f"fold{m}" for m in (1, 2, 3) if m != n], "epochs": 2}
        return of_row({f"a_fold{n}": own, f"b_fold{n}": own | {"teacher": f"a_fold{n}"}}, {}, {}, 1, {})

    assert fold(1) == fold(2) and fold(1)["stages.b.teacher"] == "a"


def test_the_method_s_version_parts_rows():
    assert of_row({}, {}, {}, 1, {"esc50": 1}) == {} and of_row({}, {}, {}, 2, {}) == {"version": 2}


def test_the_committed_old_records_of_all_folds_have_the_same_settings():
    old = [record for record in map(read, sorted(Path("leaderboards/results").glob("*.json"))) if not record.settings]
    rows = {(r.method, r.stage, json.dumps(first_settings(r.method, r.config))) for r in old}
    assert len(rows) == len({row[:2] for row in rows})


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[pytest.MonkeyPatch]:
    """A method of another package is installed; undo it to uninstall the package."""
    caches = (registry.methods, registry.datasets, first._of_method)
    with pytest.MonkeyPatch.context() as installed:
        installed.syspath_prepend(str(gated_method.install(tmp_path)))
        for cached in caches:
            cached.cache_clear()
        yield installed
    for cached in caches:
        cached.cache_clear()
    for module in ("gated", "gated.method"):
        sys.modules.pop(module, None)


def test_old_records_of_a_method_of_another_package_join_its_new_ones_where_it_is_installed(elsewhere):
    new, whole = recorded(method="gated", stage="pretrain")
    assert first_settings("gated", whole) | {"dataset.vggsound.version": 2} == new
    assert new["model.widths"] == [8, 16, 16, 16] and "model.dropout" not in new
    elsewhere.undo()
    registry.methods.cache_clear()
    first._of_method.cache_clear()
    assert first_settings("gated", whole)["model.dropout"] == whole["model"]["dropout"], "without it all settings count"


def test_a_record_without_a_trainer_has_no_setting_of_it():
    for config in ({}, {"trainer": {}, "model": {}, "stages": {}}):
        assert first_settings("mavil", config) == first_settings("elsewhere", config) == {}


ODD = st.recursive(st.none() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x))


@settings(deadline=None)
@given(ODD)
def test_no_odd_configuration_of_an_old_record_stops_the_tables(config):
    first_settings("mavil", config if isinstance(config, dict) else {"stages": config, "model": config})
    first_settings("mavil", {"stages": {"x": config}, "trainer": {"precision": config}})
    first_settings("mavil", {"stages": {"x": {"module": config, "options": config, "fold": config, "train": config}}})
