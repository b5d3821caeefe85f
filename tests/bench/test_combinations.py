"""Settings that cannot work together are refused before anything is read; the message names the key to change."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bench.config.compose import compose
from bench.config.schema import BenchConfig, StageConfig, TrainerConfig
from bench.errors import UserError
from bench.plan.combinations import check_combinations
from datamodules.types import (
    AugmentConfig,
    DataConfig,
    FeatureInputs,
    Inputs,
    LoaderConfig,
    NarrationConfig,
    TextInputs,
    VideoInputs,
)
from tests.bench.hand_made import looked_up


def stage(**changes) -> StageConfig:
    """A stage that can work, with changes."""
    usual = {"module": "Train", "dataset": "audioset", "train": ["balanced"], "board": "audioset-20k", "modality": "a"}
    return StageConfig(**{**usual, "epochs": 4, **changes})


def measuring(**changes) -> StageConfig:
    return stage(**{"train": [], "after": "parent", **changes})


def ensemble(**changes) -> StageConfig:
    return stage(**{"module": None, "train": [], "ensemble": ["parent", "parent"], **changes})


def of(parent: StageConfig, x: StageConfig, **general) -> BenchConfig:
    return BenchConfig(method="m", stages={"parent": looked_up(parent), "x": looked_up(x)}, **general)


def message(x: StageConfig, parent: StageConfig | None = None, **general) -> str:
    with pytest.raises(UserError) as caught:
        check_combinations(of(parent=parent or stage(), x=x, **general), ["parent", "x"])
    return str(caught.value)


@pytest.mark.parametrize(
    ("x", "parent"),
    [
        (stage(), None),
        (measuring(), None),
        (measuring(average_weights=[2, 4]), None),
        (measuring(average_outputs=[1, 1]), None),
        (ensemble(), None),
        (stage(features={"a": "parent"}), stage(train=[], board=None, extract=["balanced", "eval"], init="imagenet")),
        (stage(data=DataConfig(loader=LoaderConfig(weighted_draws=-1, weighted_replacement=True))), None),
    ],
)
def test_what_can_work_is_let_through(x, parent):
    check_combinations(of(parent=parent or stage(), x=x), ["parent", "x"])


@pytest.mark.parametrize("method", ["cmkd", "mavil", "mbt", "uavm"])
def test_the_methods_own_configurations_can_work(method, tmp_path):
    for options in ([], [f"data_root={tmp_path}"]):
        config = compose(method, options)
        check_combinations(config, [name for name, each in config.stages.items() if not each.on_request])


# --- what concerns the whole run


@pytest.mark.parametrize("trainer", [{"devices": 3}, {"nodes": 3}])
def test_a_batch_that_does_not_divide(trainer):
    text = message(stage(), measuring(after=None, init="imagenet"), trainer=TrainerConfig(**trainer))
    assert "stages.x.batch_size=64 does not divide over trainer.devices x trainer.nodes = 3" in text


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_a_decay_that_is_none(decay):
    assert "stages.x.ema" in message(stage(ema=decay))


def test_one_folder_for_two_datasets(tmp_path):
    other = stage(dataset="vggsound", train=["train"], board="vggsound")
    text = message(stage(), other, data=DataConfig(root=str(tmp_path)))
    assert "data.root names one dataset's folder, but the stages use audioset, vggsound" in text
    assert "data_root=FOLDER" in text and "stage=NAME" in text


def test_an_init_that_is_not_there():
    assert message(measuring(), init="nowhere.pt").endswith("init=nowhere.pt: there is no such file")


# --- data


@pytest.mark.parametrize("key", ["train", "extract"])
def test_a_split_that_the_dataset_has_not(key):
    text = message(stage(**{"train": [], "board": None, "init": "imagenet", key: ["balance"]}))
    assert f"no such split of audioset (stages.x.{key}): 'balance'. Did you mean 'balanced'?" in text


def test_a_board_of_another_dataset():
    assert "stages.x.board: vggsound is a board of vggsound, not of audioset" in message(stage(board="vggsound"))


@pytest.mark.parametrize("modality", ["", "x", "audio", "va"])
def test_a_modality_that_is_none(modality):
    expected = f"stages.x.modality: {modality!r} is not made of a, v, t and i, in this order"
    assert expected in message(stage(modality=modality))


@pytest.mark.parametrize(
    ("modality", "inputs", "missing"),
    [("a", Inputs(None, VideoInputs()), "a"), ("av", Inputs(video=None), "v"), ("at", Inputs(), "t")],
)
def test_a_modality_that_the_inputs_leave_out(modality, inputs, missing):
    text = message(stage(modality=modality, data=DataConfig(inputs=inputs)))
    assert text == f"stages.x.modality is {modality!r}, but data.inputs leaves {missing!r} out"


def test_replacement_without_weighted_draws():
    text = message(stage(data=DataConfig(loader=LoaderConfig(weighted_replacement=True))))
    assert text == "stages.x.data.loader.weighted_replacement needs weighted_draws, e.g. -1"


@pytest.mark.parametrize(("modality", "strange"), [("a", "v"), ("a", "audio"), ("at", "t")])
def test_features_of_what_the_stage_does_not_look_at(modality, strange):
    parent = stage(train=[], board=None, extract=["balanced"], init="imagenet")
    text = message(stage(modality=modality, data=with_text(), features={strange: "parent"}), parent)
    assert text == f"stages.x.features.{strange}: only a and v of the stage's modality can be features"


def with_text() -> DataConfig:
    from datamodules.types import TextInputs

    return DataConfig(inputs=Inputs(text=TextInputs()))


def test_squares_of_pictures_that_are_squares_already():
    video = {"dataset": "vggsound", "board": "vggsound", "train": ["train"]}
    text = message(stage(**video, modality="av", data=DataConfig(crops=3)))
    assert text.startswith("stages.x.data.crops: 3 squares of each picture are to be scored, but pictures are resized")
    kept = DataConfig(crops=3, inputs=Inputs(video=VideoInputs(short_side=256)))
    check_combinations(of(parent=stage(), x=stage(**video, modality="av", data=kept)), ["x"])
    check_combinations(of(parent=stage(), x=stage(**video, modality="a", data=DataConfig(crops=3))), ["x"])


# --- purpose


def test_a_stage_with_nothing_to_do():
    text = message(stage(train=[], board=None))
    assert text.startswith("stages.x: neither trains (train is empty) nor measures (board is empty) nor extracts")


def test_a_stage_that_trains_and_extracts():
    assert message(stage(extract=["eval"])) == "stages.x: trains and extracts; let another stage extract, with after=x"


def test_features_of_a_stage_that_extracts_nothing():
    text = message(stage(features={"a": "parent"}))
    assert text == "stages.x.features.a: parent extracts nothing (its extract is empty)"


@pytest.mark.parametrize(
    ("extracting", "reason"),
    [
        (stage(dataset="vggsound", board=None, train=[], extract=["test"], init="imagenet"), "features of vggsound"),
        (stage(train=[], board=None, extract=["balanced"], init="imagenet"), "extracts balanced, but eval is read"),
        (stage(train=[], board=None, extract=["eval"], init="imagenet"), "extracts eval, but balanced is read"),
    ],
)
def test_features_are_of_the_clips_that_are_read(extracting, reason):
    text = message(stage(features={"a": "parent"}), extracting)
    assert text.startswith("stages.x.features.a: parent ") and reason in text


def test_probabilities_are_averaged_where_there_are_some():
    parent = stage(dataset="vggsound", train=["train"], board="vggsound")
    text = message(measuring(dataset="vggsound", board="vggsound-a2v", average_outputs=[1, 2]), parent)
    those = "tagging, classification, ranked classification, tagging (VOC 2007)"
    assert text == f"stages.x: probabilities can be averaged on boards of {those} only"


@pytest.mark.parametrize("work", [{}, {"board": None, "extract": ["eval"]}])
def test_weights_that_nobody_gives(work):
    text = message(measuring(after=None, **work))
    assert text == "stage x uses weights that it is given: init=FILE or stages.x.init=FILE"


def test_init_is_given_to_the_stage_that_is_named_and_only_to_it(tmp_path):
    (tmp_path / "weights.pt").touch()
    x = measuring(after=None)
    stages = {"x": looked_up(x), "y": looked_up(replace(x))}
    check_combinations(BenchConfig(method="m", stages=stages, stage=["x"], init=str(tmp_path / "weights.pt")), ["x"])
    with pytest.raises(UserError, match=r"stages\.y\.init=FILE"):
        config = BenchConfig(method="m", stages=stages, stage=["x"], init=str(tmp_path / "weights.pt"))
        check_combinations(config, ["x", "y"])


def test_a_stage_s_init_that_is_not_there():
    assert message(stage(init="nowhere.pt")) == "stages.x.init=nowhere.pt: there is no such file"


def test_a_stage_s_init_counts_before_the_run_s(tmp_path: Path):
    (tmp_path / "weights.pt").touch()
    text = message(stage(init="nowhere.pt"), init=str(tmp_path / "weights.pt"))
    assert text == "stages.x.init=nowhere.pt: there is no such file"


# --- ensembles and averages


@pytest.mark.parametrize("wrong", [{"train": ["balanced"]}, {"after": "parent"}, {"board": None, "extract": ["eval"]}])
def test_an_ensemble_only_measures(wrong):
    assert message(ensemble(**wrong)) == "stages.x: an ensemble has a board, and neither train nor after"


def test_embeddings_have_no_mean_probability():
    board = {"dataset": "vggsound", "board": "vggsound-a2v"}
    text = message(ensemble(**board), stage(train=["train"], **board))
    assert text.startswith("stages.x: probabilities can be averaged on boards of tagging, classification")


@pytest.mark.parametrize("other", ["audioset-2m", None])
def test_an_ensemble_of_stages_of_another_board(other):
    text = message(ensemble(), stage(board=other))
    assert text == f"stages.x.ensemble: parent is measured on {other}, not on audioset-20k"


AVERAGES = pytest.mark.parametrize("key", ["average_weights", "average_outputs"])


@AVERAGES
@pytest.mark.parametrize("span", [[3], [1, 2, 3], [0, 2], [3, 2]])
def test_a_span_of_epochs_that_is_none(key, span):
    text = message(measuring(**{key: span}))
    assert text == f"stages.x.{key}={span}: give the first and the last epoch, counted from 1"


@AVERAGES
def test_an_average_of_nothing(key):
    text = message(measuring(after=None, init="imagenet", **{key: [1, 2]}))
    assert text == f"stages.x.{key}: averages the weights of the stage in `after`, which is not set"


@AVERAGES
def test_an_average_over_more_epochs_than_there_are(key):
    assert message(measuring(**{key: [1, 5]})) == f"stages.x.{key}=[1, 5]: parent trains for 4 epochs"


@AVERAGES
def test_an_average_over_a_stage_that_does_not_train(key):
    text = message(measuring(**{key: [1, 2]}), measuring(after=None, init="imagenet"))
    assert text.startswith(f"stages.x.{key}=[1, 2]: parent trains for")


@pytest.mark.parametrize("wrong", [{"module": "Other"}, {"train": ["balanced"]}])
def test_an_average_of_outputs_is_of_the_parent_s_own_network(wrong):
    text = message(measuring(average_outputs=[1, 2], **wrong))
    assert text == "stages.x.average_outputs measures parent: give it the same module, and no train"


# --- mix-up


def mixing(**inputs) -> DataConfig:
    return DataConfig(inputs=Inputs(**inputs), augment=AugmentConfig(mixup=0.5))


NARRATED = replace(mixing(), narration=NarrationConfig(cut="windows"))


@pytest.mark.parametrize(
    ("x", "reason"),
    [
        (stage(dataset="howto100m", train=["train"], board=None, data=NARRATED), "have no labels to be mixed"),
        (stage(modality="at", data=mixing(text=TextInputs())), "labels would be mixed, but data.inputs.text cannot be"),
        (
            stage(modality="v", data=mixing(features=FeatureInputs())),
            "labels would be mixed, but data.inputs.features cannot be",
        ),
    ],
)
def test_labels_are_not_mixed_where_the_inputs_are_not(x, reason):
    assert "stages.x.data.augment.mixup=0.5: " in message(x) and reason in message(x)


def test_extracted_features_are_mixed_by_a_method_that_says_so(monkeypatch):
    from experiments.uavm.method import Train

    config = compose("uavm", ["data_root=none", "preset=paper"])
    check_combinations(config, ["train_vggsound"])
    monkeypatch.setattr(Train, "mixes_features", False)
    with pytest.raises(UserError, match="Train does not mix extracted features"):
        check_combinations(config, ["train_vggsound"])
