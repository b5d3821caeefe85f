"""Speech Commands' lists and folders, and the 12 classes that TensorFlow makes of them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from datamodules.manifest.build import build_manifest
from datamodules.manifest.checks import Checks
from datamodules.manifest.media_index import index_media
from datamodules.sample.speechcommands import split_of
from datamodules.source import DataError
from datamodules.speechcommands import LISTS, WORDS, SpeechCommands
from datamodules.speechcommands12 import CLASSES, WANTED, SpeechCommands12
from datamodules.types import Inputs
from tests.sample_data import SampleMaker

V1, V2, TESTED = "speech_commands_v0.01", "speech_commands_v0.02", "speech_commands_test_set_v0.01"


def lay_out(root: Path, release: str, names: list[str], val: list[str], test: list[str]) -> None:
    """Empty recordings, and the lists."""
    for name in names:
        path = root / release / f"{name}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    for split, listed in (("val", val), ("test", test)):
        (root / release / LISTS[split]).write_text("".join(f"{name}.wav\n" for name in listed))


def test_training_is_what_no_list_has_and_noise_is_no_word(tmp_path):
    names = ["bed/a_nohash_0", "bed/b_nohash_0", "cat/a_nohash_0", "cat/c_nohash_1.wav", "_background_noise_/tap"]
    lay_out(tmp_path, V2, names, ["bed/b_nohash_0"], ["cat/a_nohash_0", "cat/gone_nohash_0"])
    source = SpeechCommands(tmp_path)
    ids = {split: source.read_split(split).clips["clip_id"].tolist() for split in source.splits}
    assert ids["train"] == ["bed/a_nohash_0", "cat/c_nohash_1"] and ids["val"] == ["bed/b_nohash_0"]
    assert ids["test"] == ["cat/a_nohash_0", "cat/gone_nohash_0"], "what is missing is listed, and counted later"
    labels = source.read_split("train").clips["labels"]
    assert [WORDS[label] for (label,) in labels] == ["bed", "cat"]


def test_a_name_that_every_word_and_both_releases_have_is_found_in_its_own_folder(tmp_path):
    names = ["bed/a_nohash_0", "cat/a_nohash_0", "cat/b_nohash_0.wav"]
    for release in (V1, V2):
        lay_out(tmp_path, release, names, [], [])
    index = index_media(tmp_path)["audio"]
    official = SpeechCommands(tmp_path).read_split("train")
    paths = index.paths(index.find(official.stems)).to_pylist()
    assert paths == [str(tmp_path / V2 / f"{name}.wav") for name in names]


def test_lists_are_needed_and_their_faults_are_counted(tmp_path):
    lay_out(tmp_path, V2, ["bed/a_nohash_0"], ["bet/b_nohash_0"], [])
    source = SpeechCommands(tmp_path)
    assert source.read_split("val").malformed == ["validation_list.txt:1: unknown label 'bet'"]
    (tmp_path / V2 / "testing_list.txt").unlink()
    for split in source.splits:
        with pytest.raises(DataError, match=rf"no testing_list\.txt in {tmp_path / V2}"):
            source.read_split(split)


@pytest.fixture
def twelve(tmp_path) -> SpeechCommands12:
    """11 recordings of wanted words for training, 1 for validation, and 30 of others."""
    wanted = [f"{word}/a_nohash_{number}" for word in WANTED for number in range(2 if word == "go" else 1)]
    others = [f"{word}/a_nohash_{number}" for word in ("bed", "cat", "dog") for number in range(10)]
    noise = [f"_background_noise_/{name}" for name in ("pink_noise", "running_tap", "white_noise")]
    lay_out(tmp_path, V1, [*wanted, "go/b_nohash_0", *others, *noise], ["go/b_nohash_0"], [])
    return SpeechCommands12(tmp_path)


def test_unknown_words_and_silence_are_a_tenth_of_the_wanted_words_rounded_up(twelve):
    official = twelve.read_split("train")
    assert official.malformed == []
    assert Counter(CLASSES[label] for (label,) in official.clips["labels"]) == {
        **dict.fromkeys(WANTED, 1), "go": 2, "_unknown_": 2, "_silence_": 2,
    }  # fmt: skip
    chosen = official.clips["clip_id"][[CLASSES[label] == "_unknown_" for (label,) in official.clips["labels"]]]
    again = SpeechCommands12(twelve.root).read_split("train").clips["clip_id"]
    assert set(chosen) <= set(again) and {name.partition("/")[0] for name in chosen} <= {"bed", "cat", "dog"}


def test_silence_is_seconds_of_noise_of_which_each_split_has_its_own(twelve):
    found = {}
    for split in ("train", "val"):
        clips = twelve.read_split(split).clips
        found[split] = clips[clips["clip_id"].str.startswith("_background_noise_")]
    assert found["train"]["clip_id"].tolist() == [f"_background_noise_/{name}_noise_0" for name in ("pink", "white")]
    assert found["val"]["video_id"].tolist() == ["_background_noise_/running_tap"]
    many = twelve._silence("train", 101).clips
    pink = many["start"][many["video_id"].str.endswith("pink_noise")]
    assert len(many) == 101 and len(pink) == 51
    np.testing.assert_allclose(many["end"] - many["start"], 1)
    np.testing.assert_allclose(np.diff(pink), 59 / 50, atol=1e-3)
    (twelve.root / V1 / "_background_noise_/running_tap.wav").unlink()
    with pytest.raises(DataError, match="no recording of noise for val"):
        twelve.read_split("val")


def test_test_recordings_are_the_archives(twelve):
    for name in ("yes/a_nohash_9", "_unknown_/x", "_silence_/y", "maybe/z"):
        path = twelve.root / TESTED / f"{name}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    official = twelve.read_split("test")
    assert official.malformed == [f"{TESTED}/maybe/z: unknown label 'maybe'"]
    assert dict(zip(official.clips["clip_id"], official.clips["labels"].tolist(), strict=True)) == {
        "_silence_/y": [0], "_unknown_/x": [1], "yes/a_nohash_9": [2],
    }  # fmt: skip


def test_sizes_follow_from_the_wanted_words():
    wanted = {"train": 18538, "val": 2577, "test": 2567}
    assert SpeechCommands12.sizes == {split: n + 2 * -(-n // 10) for split, n in wanted.items()}


def test_a_speakers_hash_says_which_split(tmp_path, make_sample: SampleMaker):
    # As TensorFlow's `which_set` says, and the official list for validation of the second.
    assert [split_of(name) for name in ("0a7c2a8d", "a69b9b3e", "bb05582b")] == ["train", "val", "test"]
    make_sample(tmp_path, ["speechcommands12"], counts={"speechcommands12": {"train": 23, "val": 23, "test": 12}})
    source = SpeechCommands12(tmp_path / "SpeechCommands-v1")
    for split in ("train", "val"):
        made = build_manifest(source, [split], Inputs(video=None), Checks(tmp_path / "cache"))
        assert made.excluded == {} and not made.table["clip_id"].duplicated().any()
        spoken = made.table[np.isinf(made.table["end"])]
        speakers = spoken["clip_id"].str.extract(r"/([0-9a-f]{8})_nohash_")[0]
        assert len(spoken) and all(split_of(speaker) == split for speaker in speakers)
        silence = made.table[np.isfinite(made.table["end"])]
        assert len(silence) == 2 and (silence["seconds"] == 1).all()
        assert silence["audio_offset"].tolist() == silence["start"].tolist() and silence["start"].max() == 59
