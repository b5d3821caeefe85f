"""Settings of narrated videos and of steps in time that cannot work; the message names the key to change."""

from __future__ import annotations

from copy import deepcopy
from functools import cache

import pytest

from bench.config.compose import compose
from bench.config.schema import BenchConfig, StageConfig, TrainerConfig
from bench.errors import UserError
from bench.plan.combinations import check_combinations
from datamodules.types import AugmentConfig, DataConfig, FeatureInputs, Inputs, NarrationConfig, TextInputs
from tests.bench.hand_made import looked_up

CUTS = {"avlnet": "windows", "mcn": "captions", "everything_at_once": "mixed"}
"""How each method's first stage cuts."""


def stage(cut: str = "windows", modality: str = "av", per_video: int = 4, **changes) -> StageConfig:
    """A stage that trains on narrated videos and can work, with changes."""
    text = TextInputs() if "t" in modality else None
    data = DataConfig(inputs=Inputs(text=text), narration=NarrationConfig(per_video=per_video, cut=cut))
    usual = {"module": "Train", "dataset": "howto100m", "train": ["train"], "modality": modality, "data": data}
    return StageConfig(**{**usual, "epochs": 1, "batch_size": 64, **changes})


def localising(inputs: Inputs) -> StageConfig:
    measured = {"module": "Localise", "dataset": "crosstask", "board": "crosstask", "init": "imagenet"}
    return StageConfig(**measured, modality="av", data=DataConfig(inputs=inputs))


def check(x: StageConfig, **general) -> None:
    check_combinations(BenchConfig(method="m", stages={"x": looked_up(x)}, **general), ["x"])


def message(x: StageConfig, **general) -> str:
    with pytest.raises(UserError) as caught:
        check(x, **general)
    return str(caught.value)


@cache
def _composed(method: str, preset: str) -> BenchConfig:
    return compose(method, [f"preset={preset}"])


def composed(method: str, preset: str = "tiny") -> BenchConfig:
    return deepcopy(_composed(method, preset))


@pytest.mark.parametrize("preset", ["paper", "tiny"])
@pytest.mark.parametrize("method", CUTS)
def test_the_methods_own_configurations_can_work(method, preset, tmp_path):
    config = composed(method, preset)
    for each in config.stages.values():
        each.data.inputs.text.file = str(tmp_path / "words.bin") if preset == "paper" else None
    (tmp_path / "words.bin").touch()
    assert config.stages["pretrain"].data.narration.cut == CUTS[method]
    check_combinations(config, [name for name, each in config.stages.items() if not each.on_request])


@pytest.mark.parametrize("method", CUTS)
def test_word2vec_s_file_is_asked_for_where_words_are_read(method):
    config = composed(method, "paper")
    with pytest.raises(UserError, match=r"stages\.\w+\.data\.inputs\.text\.file=None.*data\.inputs\.text\.file=FILE"):
        check_combinations(config, [name for name, each in config.stages.items() if not each.on_request])


def test_a_stage_that_reads_no_words_needs_no_file():
    check_combinations(composed("avlnet", "paper"), ["pretrain", "zero_shot_a2v", "finetune"])


# --- what is said, and what is read of it


@pytest.mark.parametrize(
    ("cut", "modality"),
    [("windows", "av"), ("windows", "a"), ("captions", "avt"), ("captions", "at"), ("mixed", "avt"), ("mixed", "vt")],
)
def test_windows_go_without_text_and_captions_with_it(cut, modality):
    check(stage(cut, modality))


def test_windows_have_no_text():
    assert message(stage("windows", "avt")) == (
        "stages.x.data.narration.cut=windows: no text is read; leave t out of the modality 'avt'"
    )


@pytest.mark.parametrize("cut", ["captions", "mixed"])
@pytest.mark.parametrize("modality", ["av", "a", "v"])
def test_captions_are_not_opened_for_nothing(cut, modality):
    text = message(stage(cut, modality))
    assert text == f"stages.x.data.narration.cut={cut}: text is read; cut=windows does without"


@pytest.mark.parametrize("dataset", [{"dataset": "youcook2", "train": ["train"]}, {"train": [], "extract": ["train"]}])
def test_how_clips_are_cut_matters_only_where_training_cuts_them(dataset):
    check(stage("captions", "av", **dataset, init="imagenet"))


@pytest.mark.parametrize("dataset", ["crosstask", "mining_youtube"])
def test_steps_to_be_found_need_a_tokenizer_for_their_names(dataset):
    board = dataset.replace("_", "-")
    x = localising(Inputs())
    x.dataset, x.board = dataset, board
    assert message(x) == (
        f"stages.x.data.inputs.text: {board} compares clips with the names of classes; name a tokenizer"
    )
    x.data.inputs.text = TextInputs()
    check(x)


def test_features_are_what_is_seen():
    check(localising(Inputs(video=None, text=TextInputs(), features=FeatureInputs())))


@pytest.mark.parametrize("method", CUTS)
def test_the_way_a_method_cuts_is_tied_to_what_it_reads(method):
    config = composed(method)
    wrong = "mixed" if method == "avlnet" else "windows"
    config.stages["pretrain"].data.narration.cut = wrong
    with pytest.raises(UserError, match=rf"^stages\.pretrain\.data\.narration\.cut={wrong}: "):
        check_combinations(config, ["pretrain"])


@pytest.mark.parametrize("method", ["mcn", "everything_at_once"])
def test_a_method_that_localises_without_a_tokenizer(method):
    config = composed(method)
    config.stages["localise_crosstask"].data.inputs.text = None
    with pytest.raises(UserError, match=r"^stages\.localise_crosstask\.data\.inputs\.text: crosstask compares"):
        check_combinations(config, ["localise_crosstask"])


# --- batches count clips, of which several are of one video


@pytest.mark.parametrize(("batch", "per_video"), [(64, 5), (3, 4), (66, 32)])
def test_a_batch_that_is_no_multiple_of_a_video_s_clips(batch, per_video):
    text = message(stage(per_video=per_video, batch_size=batch))
    assert text == (
        f"stages.x.batch_size={batch} counts clips, of which stages.x.data.narration.per_video={per_video} are of one "
        "video; it must be a multiple"
    )


@pytest.mark.parametrize("trainer", [{"devices": 3}, {"nodes": 3}])
def test_whole_videos_are_divided_over_processes(trainer):
    text = message(stage(batch_size=16), trainer=TrainerConfig(**trainer))
    assert text == ("stages.x.batch_size=16 (of 4 videos) does not divide over trainer.devices x trainer.nodes = 3")
    check(stage(batch_size=24), trainer=TrainerConfig(**trainer))


def test_clips_that_divide_are_not_enough_where_their_videos_do_not():
    assert "(of 2 videos) does not divide" in message(stage(batch_size=8), trainer=TrainerConfig(devices=4))


def test_the_clips_of_one_video_stay_together():
    text = message(stage(batch_size=16), trainer=TrainerConfig(device_batch=3))
    assert "trainer.device_batch=3 is fewer than the stages.x.data.narration.per_video=4 clips" in text


def test_other_data_has_one_clip_a_row():
    x = stage("captions", "av", per_video=5, dataset="youcook2", batch_size=64)
    check(x, trainer=TrainerConfig(devices=4))
    assert message(x, trainer=TrainerConfig(devices=3)).startswith("stages.x.batch_size=64 does not divide")


@pytest.mark.parametrize("per_video", [0, -1])
def test_a_video_gives_at_least_one_clip(per_video):
    assert message(stage(per_video=per_video)).startswith(f"stages.x.data.narration.per_video={per_video}")


def test_sound_is_shifted_forwards_only():
    x = stage("mixed", "avt")
    x.data.narration.audio_shift = -1.0
    assert message(x).startswith("stages.x.data.narration.audio_shift=-1.0")


def test_what_only_measures_is_not_bound_to_whole_batches():
    check(stage("captions", "av", train=[], extract=["train"], batch_size=7, init="imagenet"))


# --- what is read of whole sources and around seconds


def test_only_decibels_are_relative_to_what_is_loudest_in_a_source():
    x = stage()
    x.data.inputs.audio.reference = "source"
    assert message(x) == (
        "stages.x.data.inputs.audio.reference=source: only kind=decibel is relative to what is loudest"
    )
    x.data.inputs.audio.kind = "decibel"
    check(x)


@pytest.mark.parametrize("augment", [{"mixup": 0.5}, {"roll_gain": True}])
def test_waveforms_that_are_not_read_are_not_changed(augment):
    x = stage()
    x.data.inputs.audio.kind, x.data.inputs.audio.reference = "decibel", "source"
    x.data.augment = AugmentConfig(**augment)
    assert "clips are cut of log-mels" in message(x) and "reference=clip" in message(x)


def test_rows_are_pooled_by_seconds_in_which_steps_are_to_be_found():
    inputs = Inputs(video=None, text=TextInputs(), features=FeatureInputs(rows="pooled"))
    check(localising(inputs))
    x = stage()
    x.data.inputs.features = FeatureInputs(rows="pooled")
    assert message(x) == "stages.x.data.inputs.features.rows=pooled is by the seconds in which steps are to be found"


def test_captions_beside_a_clip_s_own_are_those_of_narrated_videos_in_training():
    words = DataConfig(inputs=Inputs(text=TextInputs(candidates=3)), narration=NarrationConfig(cut="captions"))
    check(stage("captions", "avt", data=words))
    measured = {"module": "Train", "dataset": "youcook2", "board": "youcook2-t2v", "init": "imagenet", "modality": "vt"}
    assert "stages.x.data.inputs.text.candidates=3: only clips that training cuts" in message(
        StageConfig(**measured, data=words)
    )
