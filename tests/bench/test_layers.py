"""Included files and patterns of stages: what they mean, in which order, and how mistakes are reported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from bench import registry
from bench.config.compose import compose
from bench.config.layers import Layer, by_name, with_included, without_removed, without_removed_parts
from bench.errors import UserError


def layer(source: str, values: dict[str, Any]) -> Layer:
    return Layer(source, OmegaConf.create(values))


def stages(*layers: dict[str, Any]) -> dict[str, Any]:
    """The stages that are left, merged."""
    found, names = without_removed(by_name([layer(str(i), {"stages": own}) for i, own in enumerate(layers)]))
    merged = OmegaConf.merge(*(each.values.stages for each in found))
    return {name: OmegaConf.to_container(merged)[name] for name in names}


DECLARED = {name: {"module": "Train", "epochs": 1} for name in ("tune_x", "tune_y", "extract")}


def test_a_pattern_means_the_stages_of_its_and_of_earlier_layers_by_their_names_and_in_their_order():
    found = stages(DECLARED, {"tune_*": {"epochs": 2}, "new": {"module": "Train"}}, {"*": {"fold": 1}})
    assert list(found) == ["tune_x", "tune_y", "extract", "new"]
    assert [own.get("epochs") for own in found.values()] == [2, 2, 1, None]
    assert all(own["fold"] == 1 for own in found.values())


def test_mappings_are_merged_in_depth_and_a_later_pattern_and_a_stage_s_own_name_win():
    first = {"tune_?": {"optim": {"lr": 1, "betas": [1, 2]}}, "tune_y": {"optim": {"lr": 3}}}
    found = stages(DECLARED, first | {"*_y": {"optim": {"lr": 2, "decay": 5}}})
    assert found["tune_x"]["optim"] == {"lr": 1, "betas": [1, 2]}
    assert found["tune_y"]["optim"] == {"lr": 3, "betas": [1, 2], "decay": 5}


@pytest.mark.parametrize("order", [1, -1])
def test_what_a_pattern_leaves_out_stays_out_unless_its_own_name_is_there(order):
    patterns = dict([("tune_*", {"epochs": 2}), ("*_x", None)][::order])
    assert list(stages(DECLARED, patterns)) == ["tune_y", "extract"]
    assert stages(DECLARED, patterns | {"tune_x": {"epochs": 9}})["tune_x"]["epochs"] == 9


def test_a_pattern_does_not_mean_what_an_earlier_layer_left_out():
    assert list(stages(DECLARED, {"tune_x": None}, {"tune_*": {"epochs": 2}})) == ["tune_y", "extract"]
    with pytest.raises(UserError, match=r"^2: stages\.tune_x: this stage is left out by 1$"):
        stages(DECLARED, {"tune_*": None}, {"tune_x": {"epochs": 2}})


def test_a_pattern_of_no_stage_is_refused_with_its_layer_and_the_nearest_stage():
    with pytest.raises(UserError, match=r"no such stage \(1: stages\.tine_\*\): 'tine_\*'\. Did you mean 'tune_[xy]'"):
        stages(DECLARED, {"tine_*": {"epochs": 2}})


def test_a_pattern_on_the_command_line():
    found = compose("mbt", ["preset=tiny", "stages.*_vggsound_*.epochs=3"]).stages
    assert {own.epochs for name, own in found.items() if "vggsound" in name} == {3}
    assert {own.epochs for name, own in found.items() if name.startswith("train_audioset")} == {20}


def test_a_part_of_a_mixture_is_left_out_by_null_and_is_there_again_where_its_dataset_is_named():
    def parts(*layers: dict[str, Any]) -> dict[str, Any]:
        of = [layer(str(i), {"stages": {"x": {"mixture": {"parts": own}}}}) for i, own in enumerate(layers)]
        return OmegaConf.merge(*(each.values for each in without_removed_parts(of))).stages.x.mixture.parts

    both = {"a": {"dataset": "esc50", "weight": 2}, "b": {"dataset": "fsd50k"}}
    assert parts(both, {"a": None}) == {"b": {"dataset": "fsd50k"}}
    assert parts(both, {"a": None}, {"a": {"dataset": "esc10"}})["a"].dataset == "esc10"
    with pytest.raises(UserError, match=r"^2: stages\.x\.mixture\.parts\.a: this part is left out by 1$"):
        parts(both, {"a": None}, {"a": {"weight": 3}})


# --- included files


@pytest.fixture
def folder(tmp_path: Path, monkeypatch) -> Path:
    """Of a method with the file `own.yaml`; all methods share `shared.yaml`."""
    recipes = tmp_path / "recipes"
    recipes.mkdir()
    (recipes / "shared.yaml").write_text("seed: 1\ninit: shared\n")
    (tmp_path / "own.yaml").write_text("include: shared.yaml\ninit: own\n")
    monkeypatch.setattr(registry, "RECIPES", recipes)
    return tmp_path


def test_included_files_come_before_what_includes_them_each_under_its_own_name(folder: Path):
    found = with_included(layer("file", {"include": ["own.yaml"], "runs": "r"}), folder)
    assert [each.source for each in found] == [str(folder / "recipes/shared.yaml"), str(folder / "own.yaml"), "file"]
    assert OmegaConf.merge(*(each.values for each in found)) == {"seed": 1, "init": "own", "runs": "r"}


def test_a_missing_file_to_include_is_refused_with_the_nearest(folder: Path):
    with pytest.raises(UserError, match=r"file to include \(file\): 'shard.yaml'. Did you mean 'shared.yaml'\?.*own"):
        with_included(layer("file", {"include": "shard.yaml"}), folder)


def test_a_file_that_includes_itself_is_refused(folder: Path):
    (folder / "own.yaml").write_text("include: [own.yaml]\n")
    with pytest.raises(UserError, match=r"own\.yaml: include: own\.yaml includes itself"):
        with_included(layer("file", {"include": "own.yaml"}), folder)


def test_a_mistake_in_an_included_file_names_that_file(folder: Path, monkeypatch):
    original = registry.method_folder("baseline_cnn") / "config.yaml"
    (folder / "own.yaml").write_text("model: {widhts: [1]}\n")
    (folder / "config.yaml").write_text("include: own.yaml\n" + original.read_text())
    monkeypatch.setattr(registry, "method_folder", lambda method: folder)
    with pytest.raises(UserError) as caught:
        compose("baseline_cnn", ["preset=tiny"])
    text = f"{folder / 'own.yaml'}: no such key 'model.widhts'. Did you mean 'model.widths'?"
    assert str(caught.value) == text
