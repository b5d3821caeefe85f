"""DCASE 2013's folders, of which the names of files are all that is known."""

from __future__ import annotations

from pathlib import Path

import pytest

from datamodules.dcase2013 import DCASE2013
from datamodules.manifest.build import build_manifest
from datamodules.manifest.checks import Checks
from datamodules.manifest.media_index import index_media
from datamodules.types import Inputs
from tests.sample_data import SampleMaker


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


@pytest.mark.parametrize("prefix", ["", "test_"])
@pytest.mark.parametrize("nested", [False, True])
def test_two_folders_have_files_of_one_name_and_each_split_reads_its_own(tmp_path, prefix, nested):
    train, test = (f"{name}/{name}" if nested else name for name in ("scenes_stereo", "scenes_stereo_testset"))
    touch(tmp_path, f"{train}/bus01.wav", f"{train}/tubestation10.wav", f"{test}/{prefix}bus01.wav", "README.txt")
    source, index = DCASE2013(tmp_path), index_media(tmp_path)["audio"]
    for split, folder, ids in (("train", train, ["bus01", "tubestation10"]), ("test", test, ["test_bus01"])):
        official = source.read_split(split)
        assert official.malformed == [] and official.clips["clip_id"].tolist() == ids
        assert [label for (label,) in official.clips["labels"]] == [0, 9][: len(ids)]
        paths = index.paths(index.find(official.stems)).to_pylist()
        assert [str(Path(path).parent) for path in paths] == [str(tmp_path / folder)] * len(ids)


def test_a_name_of_no_scene_is_counted_and_what_is_missing_too(tmp_path):
    touch(tmp_path, "scenes_stereo/bus01.wav", "scenes_stereo/tram01.wav", "scenes_stereo/README.txt")
    source = DCASE2013(tmp_path)
    official = source.read_split("train")
    assert official.clips["clip_id"].tolist() == ["bus01"] and source.official_size("train") == 100
    assert official.malformed == ["scenes_stereo/tram01.wav: unknown label 'tram'"]


def test_no_recording_is_trained_on_and_scored(tmp_path, make_sample: SampleMaker):
    make_sample(tmp_path, ["dcase2013"], counts={"dcase2013": {"train": 10, "test": 10}})
    source = DCASE2013(tmp_path / "DCASE2013")
    train, test = (
        build_manifest(source, [split], Inputs(video=None), Checks(tmp_path / "cache")).table for split in source.splits
    )
    assert len(train) == len(test) == 10 and not set(train["audio_path"]) & set(test["audio_path"])
    assert not set(train["clip_id"]) & set(test["clip_id"])
