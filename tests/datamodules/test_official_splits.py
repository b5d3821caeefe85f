"""UCF101's and HMDB51's official files, with the quirks they have."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from datamodules.hmdb51 import HMDB51
from datamodules.manifest.build import build_manifest
from datamodules.manifest.checks import Checks
from datamodules.manifest.media_index import index_media
from datamodules.media.decode import Media
from datamodules.sample import sound
from datamodules.sample.features import DIM
from datamodules.source import DataError
from datamodules.types import FeatureInputs, Inputs, VideoInputs
from datamodules.ucf101 import UCF101
from tests.sample_data import SampleMaker

CLASSES = b"1 Archery\r\n2 HandstandPushups\r\n"


@pytest.fixture
def ucf101(tmp_path: Path):
    def write(train: str = "", test: str = "", classes: bytes = CLASSES) -> UCF101:
        lists = tmp_path / "ucfTrainTestlist"
        lists.mkdir(exist_ok=True)
        (lists / "classInd.txt").write_bytes(classes)
        (lists / "trainlist01.txt").write_bytes(train.replace("\n", "\r\n").encode())
        (lists / "testlist01.txt").write_bytes(test.replace("\n", "\r\n").encode())
        return UCF101(tmp_path)

    return write


def test_a_class_is_numbered_from_one_and_the_test_list_takes_it_from_the_folder(ucf101):
    source = ucf101("Archery/v_Archery_g08_c01.avi 1\n", "Archery/v_Archery_g01_c02.avi\n")
    for split, clip, video in (("train1", "v_Archery_g08_c01", "g08"), ("test1", "v_Archery_g01_c02", "g01")):
        official = source.read_split(split)
        assert official.malformed == [] and official.clips["clip_id"].tolist() == [clip]
        assert official.clips["labels"].tolist() == [[0]]
        assert official.clips["video_id"].tolist() == [f"v_archery_{video}"]


@pytest.mark.parametrize("on_disk", ["HandStand", "Handstand"])
@pytest.mark.parametrize("listed", ["HandStand", "Handstand"])
def test_handstand_pushups_are_found_however_their_files_are_spelt(ucf101, tmp_path, listed, on_disk):
    source = ucf101(test=f"HandstandPushups/v_{listed}Pushups_g01_c01.avi\n")
    (tmp_path / f"v_{on_disk}Pushups_g01_c01.avi").touch()
    official = source.read_split("test1")
    assert official.clips["labels"].tolist() == [[1]]
    assert official.clips["video_id"].tolist() == ["v_handstandpushups_g01"]
    assert (index_media(tmp_path)["video"].find(official.stems) >= 0).all()


def test_a_wrong_number_class_or_path_is_counted(ucf101):
    train = "Archery/v_Archery_g08_c01.avi 2\nRowing/v_Rowing_g08_c01.avi 3\nv_Archery_g08_c02.avi 1\n"
    malformed = ucf101(train).read_split("train1").malformed
    for row, line, why in zip(malformed, (1, 2, 3), ("number of its class: 2", "Rowing", "no path"), strict=True):
        assert row.startswith(f"trainlist01.txt:{line}: ") and why in row


def test_classes_that_are_not_numbered_from_one_are_refused(ucf101):
    with pytest.raises(DataError, match=r"classInd\.txt: the indices are not 1\.\.2 in order; they begin with '0'"):
        _ = ucf101(classes=b"0 Archery\r\n1 Rowing\r\n").classes


@pytest.fixture
def hmdb51(tmp_path: Path):
    def write(**lists: str) -> HMDB51:
        folder = tmp_path / "splits/testTrainMulti_7030_splits"
        folder.mkdir(parents=True)
        for name, lines in lists.items():
            (folder / f"{name}_test_split1.txt").write_text(lines)
        return HMDB51(tmp_path)

    return write


NAMES = ("#7_How_To_pick_u_nm_np1_ba_goo_1", "Film_(2003)_[HQ]_pick_h_nm_np1_ba_goo_2", "a;b&c!_pick_f_cm_np1_le_med_0")


def test_names_with_signs_blanks_at_the_end_and_unused_clips_are_read(hmdb51, tmp_path):
    lines = "".join(f"{name}.avi {status} \n" for name, status in zip(NAMES, (1, 2, 2), strict=True))
    source = hmdb51(pick=lines + "unused_pick_1.avi 0 \n", brush_hair="x_brush_hair_1.avi 1\r\n")
    train, test = source.read_split("train1"), source.read_split("test1")
    assert source.classes == ["brush_hair", "pick"] and train.malformed == test.malformed == []
    assert train.clips["clip_id"].tolist() == ["x_brush_hair_1", NAMES[0]]
    assert train.clips["labels"].tolist() == [[0], [1]]
    assert test.clips["clip_id"].tolist() == list(NAMES[1:])
    for name in NAMES:
        (tmp_path / f"{name}.avi").touch()
    assert (index_media(tmp_path)["video"].find(test.stems) >= 0).all()


def test_a_status_that_is_none_is_counted_with_its_file_and_line(hmdb51):
    source = hmdb51(pick="a.avi 1\nb.avi 3\nc.avi\n", kick="d.avi 2\n")
    for split in ("train1", "test1"):
        malformed = source.read_split(split).malformed
        assert [row.partition(": ")[0] for row in malformed] == [
            f"testTrainMulti_7030_splits/pick_test_split1.txt:{line}" for line in (2, 3)
        ]
    with pytest.raises(DataError, match=r"no testTrainMulti_7030_splits/kick_test_split2\.txt"):
        source.read_split("train2")


def test_a_folder_without_lists_is_named(tmp_path):
    (tmp_path / "testTrainMulti_7030_splits").mkdir()
    with pytest.raises(DataError, match=r"no list is called <class>_test_split1\.txt"):
        _ = HMDB51(tmp_path).classes


# The samples


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory, make_sample: SampleMaker) -> Path:
    root = tmp_path_factory.mktemp("official_splits")
    make_sample(root, ["ucf101", "hmdb51"], counts={"ucf101": {"videos": 24}, "hmdb51": {"videos": 4}})
    return root


def test_avi_files_are_read_and_half_of_the_classes_have_no_sound(samples, tmp_path):
    source = UCF101(samples / "UCF101")
    videos, both = (
        build_manifest(source, ["train1", "test1"], inputs, Checks(tmp_path))
        for inputs in (Inputs(None, VideoInputs()), Inputs())
    )
    assert len(videos) == 24 and {len(set(split)) for split in videos.table["labels"]} == {1}
    silent = videos.table[~videos.table["clip_id"].isin(both.table["clip_id"])]
    assert silent["labels"].map(lambda of: of[0]).min() == 5 and len(silent) == 4
    with Media(Path(both.table["video_path"][0])) as clip:
        heard, seen = clip.audio(0, 3, sound.SAMPLE_RATE), clip.frames(np.array([0.5, 1.5]), 96)
    assert len(heard) == 3 * sound.SAMPLE_RATE and heard.std() > 0.001
    assert seen.shape[0] == 2 and seen.std() > 1


def test_a_clip_of_several_splits_that_are_read_together_is_there_once(samples, tmp_path):
    """So a stage that extracts the features of all official splits looks at each clip once."""
    source, checks, seen = UCF101(samples / "UCF101"), Checks(tmp_path), Inputs(None, VideoInputs())
    each = [set(build_manifest(source, [split], seen, checks).table["clip_id"]) for split in source.splits]
    whole = build_manifest(source, source.splits, seen, checks)
    assert whole.table["clip_id"].is_unique and set(whole.table["clip_id"]) == set.union(*each)
    assert whole.official == len(whole) == 24 < sum(map(len, each))
    assert all(stem in path for stem, path in zip(whole.table["clip_id"], whole.table["video_path"], strict=True))


@pytest.mark.parametrize(("source_class", "clips"), [(UCF101, 24), (HMDB51, 4)])
def test_all_clips_are_a_split_of_their_own_with_features_called_as_the_clip(samples, tmp_path, source_class, clips):
    """Of UCF101 several are cut out of one video, and the features are of each."""
    source = source_class(next(samples.glob(source_class.folders[0])))
    inputs = Inputs(None, None, features=FeatureInputs(dims=[DIM, DIM]))
    whole = build_manifest(source, ["all"], inputs, Checks(tmp_path))
    assert len(whole) == whole.official == clips and whole.table["clip_id"].is_unique
    for kind in ("2d", "3d"):
        paths = whole.table[f"video_feat_{kind}"]
        assert [Path(path).stem for path in paths] == [f"{clip}_{kind}" for clip in whole.table["clip_id"]]


def test_all_of_ucf101_are_what_a_split_trains_and_tests(ucf101):
    source = ucf101("Archery/v_Archery_g08_c01.avi 1\n", "Archery/v_Archery_g01_c02.avi\nRowing/no\n")
    official = source.read_split("all")
    assert official.clips["clip_id"].tolist() == ["v_Archery_g08_c01", "v_Archery_g01_c02"]
    assert len(official.malformed) == 1 and all(len(names) == 2 for names in official.stems)
    assert source.class_texts == ["archery", "handstand pushups"]


def test_all_of_hmdb51_are_also_those_that_a_split_does_not_use(hmdb51):
    source = hmdb51(pick="a.avi 1\nb.avi 2\nc.avi 0\nd.avi 3\n", brush_hair="e.avi 0\n")
    official = source.read_split("all")
    assert official.clips["clip_id"].tolist() == ["e", "a", "b", "c"] and len(official.malformed) == 1
    assert source.class_texts == ["brush hair", "pick"]
