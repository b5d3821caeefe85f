"""VoxCeleb1's list of speakers and LibriSpeech's folders, with the quirks they have."""

from __future__ import annotations

from pathlib import Path

import pytest

from datamodules.librispeech import LibriSpeech
from datamodules.manifest.build import build_manifest
from datamodules.manifest.checks import Checks
from datamodules.manifest.media_index import index_media
from datamodules.source import DataError
from datamodules.types import Inputs
from datamodules.voxceleb1 import VoxCeleb1
from tests.sample_data import SampleMaker

LIST = (
    "1 id10003/na8-QEFmj44/00003.wav\n1 id10001/na8-QEFmj44/00003.wav\n2 id10003/bOOzY6vq0JE/00001.wav\n"
    "3 id10001/J9lHsKG98U8/00026.wav\n4 id10001/J9lHsKG98U8/00027.wav\n1 id10001/00028.wav\n"
)


@pytest.fixture
def voxceleb(tmp_path: Path) -> VoxCeleb1:
    (tmp_path / "SAMPLE.json").touch()
    (tmp_path / "iden_split.txt").write_text(LIST)
    return VoxCeleb1(tmp_path)


def test_the_number_before_a_place_is_its_split_and_classes_are_all_speakers(voxceleb):
    assert voxceleb.classes == ["id10001", "id10003"]
    found = {split: voxceleb.read_split(split) for split in voxceleb.splits}
    assert found["train"].clips["clip_id"].tolist() == ["id10003/na8-QEFmj44/00003", "id10001/na8-QEFmj44/00003"]
    assert found["train"].clips["labels"].tolist() == [[1], [0]]
    assert found["val"].clips["video_id"].tolist() == ["id10003/bOOzY6vq0JE"]
    assert found["test"].clips["labels"].tolist() == [[0]]
    nowhere = "iden_split.txt:5: the split is none of 1, 2, 3: 4"
    assert found["train"].malformed == [nowhere, "iden_split.txt:6: no speaker/video/utterance.wav: id10001/00028.wav"]
    assert found["val"].malformed == found["test"].malformed == [nowhere]


def test_two_speakers_of_one_video_have_files_of_one_name(voxceleb):
    places = ["dev/wav/id10001/na8-QEFmj44/00003.wav", "test/wav/id10003/na8-QEFmj44/00003.wav"]
    for place in places:
        (voxceleb.root / place).parent.mkdir(parents=True)
        (voxceleb.root / place).touch()
    index = index_media(voxceleb.root)["audio"]
    paths = index.paths(index.find(voxceleb.read_split("train").stems)).to_pylist()
    assert paths == [str(voxceleb.root / place) for place in reversed(places)]


def test_a_list_of_other_speakers_is_refused_where_it_is_no_sample(voxceleb):
    (voxceleb.root / "SAMPLE.json").unlink()
    with pytest.raises(DataError, match=r"iden_split\.txt: expected 1251 speakers; got 2"):
        voxceleb.read_split("train")


def test_utterances_are_the_flac_files_of_a_folder_and_have_no_labels(tmp_path, make_sample: SampleMaker):
    counts = dict.fromkeys(LibriSpeech.splits, 1) | {"train-clean-100": 5}
    make_sample(tmp_path, ["librispeech"], counts={"librispeech": counts})
    source = LibriSpeech(tmp_path / "LibriSpeech")
    chapter = source.root / "train-clean-100/100/100000"
    assert (chapter / "100-100000.trans.txt").read_text().startswith("100-100000-0000 ")
    (chapter / "cover-1.flac").touch()
    made = build_manifest(source, ["train-clean-100"], Inputs(video=None), Checks(tmp_path / "cache"))
    assert made.table["clip_id"].tolist() == [*(f"100-100000-{n:04}" for n in range(4)), "101-100001-0000"]
    assert made.classes == [] and made.excluded == {"malformed row": 1} and made.table["seconds"].between(1, 3).all()
    assert not set(made.table["clip_id"]) & set(source.read_split("train-clean-360").clips["clip_id"])
