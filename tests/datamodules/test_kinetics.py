"""Kinetics' official lists and copies, with the quirks they have, and the classes of Kinetics-Sounds."""

from __future__ import annotations

from pathlib import Path

import pytest

from datamodules.kinetics400 import HEARD, Kinetics400, KineticsSounds, KineticsSounds31, KineticsSounds34
from datamodules.manifest.media_index import index_media
from datamodules.source import DataError

LABELS = ("air drumming", "massaging person's head", "passing American football (not in game)", "petting, not hitting")
TRAIN = (
    'label,youtube_id,time_start,time_end,split\n"air drumming",AbCdEfGhIjK,40,50,train\n'
    "massaging person's head,-bCdEfGhIjK,0,10,train\npassing American football (not in game),0bCdEfGhIjK,7,17,train\n"
    '"petting, not hitting",_bCdEfGhIjK,107,117,train\n'
)
CLIP = "AbCdEfGhIjK_000040_000050"


class FourClasses(Kinetics400):
    number = 4


@pytest.fixture
def kinetics(tmp_path: Path):
    def write(kind: type[Kinetics400] = FourClasses, **lists: str) -> Kinetics400:
        for name, text in ({"train": TRAIN} | lists).items():
            (tmp_path / f"{name}.csv").write_text(text)
        return kind(tmp_path)

    return write


def test_labels_are_quoted_or_not_and_classes_are_sorted(kinetics):
    source = kinetics()
    official = source.read_split("train")
    assert source.classes == list(LABELS) and official.malformed == []
    assert official.clips["labels"].tolist() == [[0], [1], [2], [3]]
    assert official.clips["clip_id"][0] == CLIP and official.clips["video_id"][1] == "-bCdEfGhIjK"
    assert official.clips[["start", "end"]].to_numpy()[3].tolist() == [107, 117]


@pytest.mark.parametrize("called", ["val", "validate", "validation"])
def test_columns_are_read_by_name_and_the_split_has_several(kinetics, called):
    val = f"split,is_cc,youtube_id,label,time_end,time_start\n{called},1,AbCdEfGhIjK,air drumming,50,40\n"
    source = kinetics(**{called: val})
    official = source.read_split("val")
    assert official.malformed == [] and official.clips["clip_id"].tolist() == [CLIP]
    assert official.clips["labels"].tolist() == [[0]]


def test_older_test_lists_have_no_labels_and_another_split_needs_them(kinetics):
    unlabelled = "youtube_id,time_start,time_end,split\nAbCdEfGhIjK,40,50,{}\n"
    source = kinetics(test=unlabelled.format("test"), val=unlabelled.format("val"))
    assert source.read_split("test").clips["labels"].tolist() == [[]]
    with pytest.raises(DataError, match=r"val\.csv: no column label"):
        source.read_split("val")


def test_rows_that_cannot_be_used_are_counted(kinetics):
    rows = "air drumming,a,40,50,train\nair drumming,b,0.5,10,val\nyodelling,c,0,10,val\nair drumming,d,x,10,val\n"
    malformed = kinetics(val=TRAIN.partition("\n")[0] + "\n" + rows).read_split("val").malformed
    assert [row.partition(": ")[0] for row in malformed] == [f"val.csv:{line}" for line in (2, 3, 4, 5)]
    for row, why in zip(malformed, ("not of val: train", "not whole", "yodelling", "no number"), strict=True):
        assert why in row


@pytest.mark.parametrize(
    "folder",
    [
        "passing American football (not in game)",
        "passing_American_football_not_in_game",
        "passing_American_football_(not_in_game)",
    ],
)
def test_clips_are_found_however_the_folder_of_their_class_is_spelt(kinetics, tmp_path, folder):
    (tmp_path / "train" / folder).mkdir(parents=True)
    (tmp_path / "train" / folder / "0bCdEfGhIjK_000007_000017.mp4").touch()
    official = kinetics().read_split("train")
    assert (index_media(tmp_path)["video"].find(official.timed_stems) >= 0).tolist() == [False, False, True, False]


def test_a_training_list_of_other_classes_is_refused_as_it_would_shift_them(kinetics):
    with pytest.raises(DataError, match=r"train\.csv: expected 400 labels; got 4"):
        _ = kinetics(Kinetics400).classes


# Kinetics-Sounds


def test_the_lists_of_classes_differ_as_they_are_known_to():
    assert len(HEARD) == len(set(HEARD)) == 32 and list(HEARD) == sorted(HEARD)
    assert set(HEARD) - set(KineticsSounds31.heard) == {"strumming guitar"} and len(KineticsSounds31.heard) == 31
    assert set(KineticsSounds34.heard) - set(HEARD) == {"typing", "patting"}


@pytest.mark.parametrize(
    ("kind", "clips"), [(KineticsSounds, "acde"), (KineticsSounds31, "acd"), (KineticsSounds34, "acdef")]
)
def test_other_classes_are_no_faults_and_older_names_mean_the_new_ones(tmp_path, kind, clips):
    labels = ["tap dancing", "air drumming", "blowing out", "laughing", "fingerpicking", "typing"]
    rows = [f"{label},{letter},0,10,train\n" for label, letter in zip(labels, "abcdef", strict=True)]
    (tmp_path / "train.csv").write_text(TRAIN.partition("\n")[0] + "\n" + "".join(rows))
    source = type("Six", (kind,), {"number": 6})(tmp_path)
    official = source.read_split("train")
    assert official.malformed == [] and "".join(official.clips["video_id"]) == clips
    names = [source.classes[label] for (label,) in official.clips["labels"]]
    new = {"blowing out": "blowing out candles", "fingerpicking": "strumming guitar"}
    assert names == [new.get(label, label) for label, letter in zip(labels, "abcdef", strict=True) if letter in clips]
