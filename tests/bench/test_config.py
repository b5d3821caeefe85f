"""The configuration: one order of composition, and messages that name the mistake and the cure."""

from __future__ import annotations

import pytest

from bench.config.compose import compose
from bench.errors import UserError

FEW = tuple(f"stages.{stages}_*=null" for stages in ("finetune", "retrieval", "evaluate"))
"""MAViL's pretraining alone: mistakes are looked for in every stage."""


def message(*overrides: str, method: str = "mavil") -> str:
    with pytest.raises(UserError) as caught:
        compose(method, overrides)
    return str(caught.value)


def test_later_layers_win():
    paper = compose("mavil", ["preset=paper"])
    tiny = compose("mavil", ["preset=tiny"])
    given = compose("mavil", ["preset=tiny", "model.dim=48", "stages.pretrain.optim.base_lr=0.5"])
    assert paper.model.dim == 768 and tiny.model.dim == 64 and given.model.dim == 48
    assert given.stages["pretrain"].optim.base_lr == 0.5
    assert given.stages["pretrain"].optim.betas == tiny.stages["pretrain"].optim.betas


def test_data_holds_for_all_stages_and_a_stage_changes_it_for_itself():
    config = compose("mavil", ["data.loader.workers=3", "stages.pretrain.data.loader.workers=5"])
    assert config.stages["pretrain"].data.loader.workers == 5
    assert config.stages["finetune_vggsound_a"].data.loader.workers == 3


def test_the_dataset_gives_its_statistics():
    config = compose("mavil")
    assert config.stages["pretrain"].data.inputs.audio.mean == -4.2677393


def test_without_data_the_preset_is_tiny_and_with_data_it_is_paper(tmp_path):
    assert compose("mavil").preset == "tiny"
    assert compose("mavil", [f"data_root={tmp_path}"]).preset == "paper"


def test_a_stage_is_removed_with_null():
    assert "pretrain_2" not in compose("mavil", ["stages.pretrain_2=null"]).stages


def test_no_such_method():
    assert "no such method: 'mavli'. Did you mean 'mavil'?" in message(method="mavli")


def test_no_such_preset():
    text = message("preset=papre")
    assert "no such preset of mavil: 'papre'. Did you mean 'paper'?" in text and "tiny" in text


def test_no_such_variant():
    assert "Did you mean 'scratch'?" in message("variant=scrach")


def test_an_unknown_key_on_the_command_line():
    text = message(*FEW, "stages.pretrain.optim.base_rl=1")
    assert text == (
        "command line: no such key 'stages.pretrain.optim.base_rl'. Did you mean 'stages.pretrain.optim.base_lr'?"
    )


def test_an_unknown_option_of_a_stage():
    assert "Did you mean 'stages.pretrain.options.mask_ratio'?" in message(
        *FEW, "stages.pretrain.options.mask_rato=0.5"
    )


def test_an_unknown_top_level_key():
    assert "no such key 'sed'. Did you mean 'seed'?" in message(*FEW, "sed=1")


def test_an_unknown_stage_on_the_command_line():
    text = message("stages.finetune_vggsound_w.epochs=3")
    assert "'finetune_vggsound_w'. Did you mean 'finetune_vggsound_v'?" in text


def test_a_wrong_type_names_the_key_and_where_it_stands():
    text = message(*FEW, "stages.pretrain.epochs=many")
    assert text.startswith("command line: stages.pretrain.epochs: ") and "'many'" in text


def test_a_wrong_type_in_the_model():
    assert message(*FEW, "model.dim=wide").startswith("command line: model.dim: ")


def test_a_value_without_a_key():
    assert "'faster' is not key=value" in message("faster")


def test_a_mistake_in_the_method_file_names_the_file(tmp_path, monkeypatch):
    from bench import registry

    original = registry.method_folder("mavil") / "config.yaml"
    (tmp_path / "config.yaml").write_text(original.read_text().replace("  depth: 12 ", "  dept: 12 "))
    monkeypatch.setattr(registry, "method_folder", lambda method: tmp_path)
    assert message() == f"{tmp_path / 'config.yaml'}: no such key 'model.dept'. Did you mean 'model.depth'?"


def test_a_setting_of_a_stage_that_the_variant_leaves_out():
    text = message("variant=scratch", "stages.pretrain.epochs=2")
    assert text.startswith("command line: stages.pretrain: this stage is left out by ") and "scratch" in text
