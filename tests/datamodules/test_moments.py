"""Moments in Time's official files, with the quirks they have."""

from __future__ import annotations

from pathlib import Path

import pytest

from datamodules.manifest.build import build_manifest
from datamodules.manifest.checks import Checks
from datamodules.manifest.media_index import index_media
from datamodules.moments import Moments, Moments2
from datamodules.multi_moments import MultiMoments
from datamodules.source import DataError
from datamodules.types import Inputs
from tests.sample_data import SampleMaker

CATEGORIES = "blocking,1\nadult+female+singing,0\nyawning,2\n"
TRAIN = (
    "blocking/getty-karate-video-id635808620_4.mp4,blocking,3,0\n"
    "adult+female+singing/yt-5of6ffo6-Bw_205.mp4,adult+female+singing,4,1\nwalking/yt-x_1.mp4,walking,3,0\n"
)


@pytest.fixture
def moments(tmp_path: Path) -> Moments:
    (tmp_path / "SAMPLE.json").touch()
    for name, content in (("moments_categories.txt", CATEGORIES), ("trainingSet.csv", TRAIN)):
        (tmp_path / name).write_text(content)
    (tmp_path / "validationSet.csv").write_text("blocking/yt-y_2.mp4,blocking,3,0\n")
    return Moments(tmp_path)


def test_classes_are_in_the_order_of_their_indices_and_texts_without_signs(moments):
    assert moments.classes == ["adult+female+singing", "blocking", "yawning"]
    assert moments.class_texts[0] == "adult female singing"
    train = moments.read_split("train")
    assert train.clips["labels"].tolist() == [[1], [0]]
    assert train.malformed == ["trainingSet.csv:3: unknown label 'walking'"]


def test_a_file_is_found_in_the_folder_of_its_split_or_of_its_class_alone(moments):
    names = ["training/blocking/getty-karate-video-id635808620_4.mp4", "adult+female+singing/yt-5of6ffo6-Bw_205.mp4"]
    for name in [*names, "validation/blocking/getty-karate-video-id635808620_4.mp4"]:
        (moments.root / name).parent.mkdir(parents=True, exist_ok=True)
        (moments.root / name).touch()
    index = index_media(moments.root)["video"]
    paths = index.paths(index.find(moments.read_split("train").stems)).to_pylist()
    assert paths == [str(moments.root / name) for name in names]


@pytest.mark.parametrize(
    "categories", ["blocking,1\nyawning,2\n", "blocking,0\nblocking,1\n", "a,0\nb\n", "a,0\nb,x\n"]
)
def test_indices_that_do_not_count_the_classes_are_refused(moments, categories):
    (moments.root / "moments_categories.txt").write_text(categories)
    with pytest.raises(DataError, match=r"moments_categories\.txt: expected a label and its index a line"):
        _ = moments.classes


@pytest.mark.parametrize(("release", "count"), [(Moments, 339), (Moments2, 305)])
def test_the_classes_of_another_release_are_refused(moments, release, count):
    (moments.root / "SAMPLE.json").unlink()
    with pytest.raises(DataError, match=rf"expected {count} classes; got 3: another release\?"):
        _ = release(moments.root).classes


def test_clips_without_sound_are_left_out_where_it_is_heard(tmp_path, make_sample: SampleMaker):
    make_sample(tmp_path, ["moments"], counts={"moments": {"train": 10, "val": 1}})
    source = Moments(tmp_path / "Moments_in_Time")
    seen, heard = (
        build_manifest(source, ["train"], inputs, Checks(tmp_path / "cache"))
        for inputs in (Inputs(audio=None), Inputs(video=None))
    )
    assert len(seen) == 10 and seen.excluded == {}
    assert len(heard) == 9 and heard.excluded == {"no audio": 1}


def test_lines_of_the_multi_label_lists_have_as_many_indices_as_the_clip_has_classes(moments):
    lines = "a/0-3-6_5.mp4,2\n1-1-1_2.mp4,1,0,1\n2-2-2_2.mp4,3\n3-3-3_2.mp4\n1-1-1_2.mp4,1\n"
    (moments.root / "trainingSet.csv").write_text(lines)
    official = MultiMoments(moments.root).read_split("train")
    assert official.clips["clip_id"].tolist() == ["0-3-6_5", "1-1-1_2"]
    assert official.clips["labels"].tolist() == [[2], [0, 1]]
    assert official.malformed == [
        "trainingSet.csv:3: unknown label '3'",
        "trainingSet.csv:4: unknown label ''",
        "trainingSet.csv:5: the clip 1-1-1_2 stands here twice",
    ]
