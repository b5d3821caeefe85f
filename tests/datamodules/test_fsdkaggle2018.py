"""FSDKaggle2018's official files, with the quirks they have."""

from __future__ import annotations

import wave
from pathlib import Path

import pytest

from datamodules.fsdkaggle2018 import CLASSES, TEST, TRAIN, FSDKaggle2018
from datamodules.manifest.build import build_manifest
from datamodules.manifest.checks import Checks
from datamodules.types import Inputs
from tests.sample_data import SampleMaker

TRAIN_HEADER = "fname,label,manually_verified,freesound_id,license\n"
TEST_HEADER = "fname,label,usage,freesound_id,license\n"
TRAIN_ROWS = (
    "00044347.wav,Hi-hat,0,28739,Attribution\n001ca53d.wav,Saxophone,1,358827,Attribution\n"
    "002d256b.wav,Siren,0,10897,Attribution\n0033e230.wav,Trumpet,yes,1,Attribution\n"
)
TEST_ROWS = (
    "00326aa9.wav,Oboe,Private,355125,Attribution\n0038a046.wav,Bass_drum,Public,90621,Creative Commons 0\n"
    "00353774.wav,None,Ignored,,\n0079d310.wav,Saxophone,Secret,13406,Attribution\n"
)


@pytest.fixture
def fsdkaggle(tmp_path: Path):
    def write(name: str, content: str) -> FSDKaggle2018:
        path = tmp_path / "FSDKaggle2018.meta" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)
        return FSDKaggle2018(tmp_path)

    return write


@pytest.mark.parametrize("name", [TRAIN, "train.csv"])
def test_verified_labels_are_part_of_the_training_clips(fsdkaggle, name):
    rows = TRAIN_HEADER + TRAIN_ROWS
    if name == "train.csv":  # Kaggle's copy
        rows = "".join(",".join(line.split(",")[:3]) + "\n" for line in rows.splitlines())
    source = fsdkaggle(name, rows)
    train, verified = source.read_split("train"), source.read_split("verified")
    assert train.clips["clip_id"].tolist() == ["00044347", "001ca53d"]
    assert verified.clips["clip_id"].tolist() == ["001ca53d"]
    assert [CLASSES[label] for (label,) in train.clips["labels"]] == ["Hi-hat", "Saxophone"]
    faults = [f"{name}:4: unknown label 'Siren'", f"{name}:5: manually_verified is neither 0 nor 1: yes"]
    assert train.malformed == faults and verified.malformed == faults[1:]


def test_test_clips_are_public_or_private_and_ignored_ones_are_none(fsdkaggle):
    source = fsdkaggle(TEST, TEST_HEADER + TEST_ROWS)
    found = {split: source.read_split(split) for split in ("test", "public", "private")}
    ids = {split: official.clips["clip_id"].tolist() for split, official in found.items()}
    assert ids == {"test": ["00326aa9", "0038a046"], "public": ["0038a046"], "private": ["00326aa9"]}
    for official in found.values():
        assert official.malformed == [f"{TEST}:5: the usage is none of Public, Private, Ignored: Secret"]


def test_classes_are_sorted_and_forty_one():
    assert len(CLASSES) == 41 and list(CLASSES) == sorted(CLASSES)


def test_a_wav_without_samples_is_counted(tmp_path, make_sample: SampleMaker):
    make_sample(tmp_path, ["fsdkaggle2018"], counts={"fsdkaggle2018": {"train": 4, "test": 1}})
    source = FSDKaggle2018(tmp_path / "FSDKaggle2018")
    name = source.read_split("train").clips["clip_id"].iloc[1]
    with wave.open(str(source.root / f"FSDKaggle2018.audio_train/{name}.wav"), "wb") as file:
        file.setparams((1, 2, 44100, 0, "NONE", ""))
    made = build_manifest(source, ["train"], Inputs(video=None), Checks(tmp_path / "cache"))
    assert len(made) == 3 and sum(made.excluded.values()) == 1 and made.left_out["clip_id"].tolist() == [name]
    assert made.table["seconds"].between(0.6, 4).all()
