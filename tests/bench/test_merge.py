"""Layers that are merged at once give what they give one by one, or are left to that."""

from __future__ import annotations

from copy import deepcopy

import pytest
from omegaconf.errors import OmegaConfBaseException

from bench import registry
from bench.config import compose as composing
from bench.config import merge
from bench.config.by_layer import merge_by_layer
from bench.config.compose import compose
from bench.errors import UserError


@pytest.fixture
def both(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Compares every merge with that by layer; filled with whether it was done at once."""
    done: list[bool] = []
    at_once = merge.at_once

    def compared(layers, classes, sources):
        copies = deepcopy(layers)
        try:
            found = at_once(layers, classes, sources)
        except (OmegaConfBaseException, merge.NotAtOnce):
            done.append(False)
            raise
        expected = merge_by_layer(copies, classes, sources, "config.yaml")
        assert found == expected and repr(found) == repr(expected) and list(found.stages) == list(expected.stages)
        done.append(True)
        return found

    monkeypatch.setattr(composing.merge, "at_once", compared)
    return done


@pytest.mark.slow
@pytest.mark.parametrize("method", registry.methods())
def test_every_method_is_composed_at_once_and_as_by_layers(method: str, both: list[bool]):
    compose(method, ["preset=tiny", "seed=3", "data.loader.workers=2", "trainer.grad_clip=1"])
    assert both == [True]


@pytest.mark.parametrize(
    "setting",
    ["stages.train_esc50.epochs=${seed}", "data.inputs.video.size=64", "data=3", "stages.train_esc50.optim=null"],
    ids=["an interpolation", "a part of what is null", "a value for a mapping", "null for a mapping"],
)
def test_what_has_no_meaning_at_once_is_left_to_the_layers(setting: str, both: list[bool]):
    try:
        compose("baseline_cnn", ["preset=paper", setting])
    except UserError as error:
        assert setting.partition("=")[0] in str(error)
    assert both == [False]


def test_a_mistake_is_named_where_layers_add_to_an_entry_that_one_before_has_made():
    """Windows are entries of a mapping; what an interpolation leads to is merged by layer, too."""
    assert compose("avenet", ["preset=tiny", "stages.pretrain.epochs=${seed}", "seed=3"]).stages["pretrain"].epochs == 3
    with pytest.raises(UserError, match=r"^command line: no such key 'stages.pretrain.data.inputs.windows.around.lie'"):
        compose("avenet", ["preset=tiny", "stages.pretrain.data.inputs.windows.around.lie=same"])


@pytest.mark.parametrize("at_once", [True, False])
def test_a_part_of_a_mixture_has_its_dataset_s_data_then_the_method_s_its_stage_s_and_its_own(
    at_once: bool, both: list[bool]
):
    stage, part = "stages.train_esc10", "stages.train_esc10.mixture.parts.more"
    settings = [
        *(f"{part}.dataset=fsd50k", f"{part}.train=[train]", f"{part}.data.augment.shift=3", "data.root=/esc10"),
        *("data.inputs.audio.frames=77", f"{stage}.data.augment.mixup=0.5", f"{stage}.data.augment.shift=2"),
    ]
    config = compose("baseline_cnn", ["preset=tiny", *settings, f"{stage}.epochs=" + ("2" if at_once else "${seed}")])
    assert both == [at_once]
    for own in (each for name, each in config.stages.items() if name.startswith("train_esc10")):
        theirs, mine = own.mixture.parts["more"].data, own.data
        assert (mine.root, theirs.root) == ("/esc10", None), "where a dataset lies is its own"
        assert (mine.inputs.audio.frames, theirs.inputs.audio.frames) == (77, 77)
        assert (mine.augment.mixup, theirs.augment.mixup) == (0.5, 0.5)
        assert (mine.augment.shift, theirs.augment.shift) == (2, 3)
        for data, dataset in ((mine, "esc10"), (theirs, "fsd50k")):
            assert data.inputs.audio.mean == registry.dataset(dataset).defaults["inputs"]["audio"]["mean"]


def test_options_of_an_ensemble_are_a_mistake(both: list[bool]):
    with pytest.raises(UserError, match="no such key 'stages.ensemble_fsd50k.options.temperature'"):
        compose("cmkd", ["preset=tiny", "stages.ensemble_fsd50k.options.temperature=2"])
    assert both == [False]
