"""Official text files in whatever encoding they circulate, for all datasets by one reader."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from datamodules.audioset import AudioSet
from datamodules.crosstask import CrossTask
from datamodules.fsd50k import FSD50K
from datamodules.mining_youtube import MiningYouTube
from datamodules.msrvtt import MSRVTT
from datamodules.source import DataError, Source, captions
from datamodules.vggsound import VGGSound
from datamodules.youcook2 import YouCook2

MARKED = ("utf-8", "utf-8-sig", "utf-16", "utf-32")
CLASSES = "index,mid,display_name\r\n0,/m/0a,Café\r\n"
VIDEO = {"video_id": "video7010", "category": 1}
SAYS = {"video_id": "video7010", "sen_id": 0, "caption": "a café"}
LISTS: dict[str, tuple[type[Source], dict[str, str]]] = {
    # What is read -> dataset, its official file
    "classes of AudioSet": (AudioSet, {"class_labels_indices.csv": CLASSES}),
    "classes of VGGSound": (VGGSound, {"stat.csv": "café,1,x\nb,1,x\n"}),
    "classes of FSD50K": (FSD50K, {"vocabulary.csv": "0,Café,/m/0a\n"}),
    "classes of Mining YouTube": (MiningYouTube, {"mapping_without_meta.txt": "0 café\n1 background\n"}),
    "tasks of CrossTask": (CrossTask, {"tasks_primary.txt": "1\nCafé\nurl\n1\nmake café\n"}),
    "JSON of YouCook2": (
        YouCook2,
        {"youcookii_annotations_trainval.json": '{"database": {"é": {"recipe_type": "café"}}}'},
    ),
}


def write(folder: Path, files: dict[str, str], encoding: str) -> None:
    for name, text in files.items():
        (folder / name).write_bytes(text.encode(encoding))


@pytest.mark.parametrize("what", LISTS)
def test_a_list_is_read_in_every_encoding_that_it_marks(tmp_path, what):
    source, files = LISTS[what]
    found = []
    for encoding in MARKED:
        write(tmp_path, files, encoding)
        found.append(source(tmp_path).classes)
    assert all(classes == found[0] for classes in found) and "caf" in str(found[0]).lower()


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16-le"])
@pytest.mark.parametrize("what", LISTS)
def test_what_has_no_mark_is_named_with_what_it_may_be(tmp_path, what, encoding):
    source, files = LISTS[what]
    write(tmp_path, files, encoding)
    message = {"latin-1": "is not UTF-8 .*iconv -f LATIN1", "utf-16-le": "UTF-16 without a mark"}[encoding]
    with pytest.raises(DataError, match=rf"{next(iter(files))}: .*{message}"):
        _ = source(tmp_path).classes


def test_rows_of_a_list_in_utf_16_are_rows(tmp_path):
    write(tmp_path, {"stat.csv": "a,1,x\n", "test.csv": "aaaaaaaaaaa_000030.mp4,a\r\n"}, "utf-16")
    official = VGGSound(tmp_path).read_split("test")
    assert official.clips["clip_id"].tolist() == ["aaaaaaaaaaa_000030"] and official.malformed == []


def test_a_row_that_is_not_in_the_file_s_encoding_is_named_wherever_it_is(tmp_path):
    rows = "".join(f"aaaaaaa{number:04}_000030.mp4,a\n" for number in range(20000))
    (tmp_path / "stat.csv").write_text("a,1,x\n")
    (tmp_path / "test.csv").write_bytes(rows.encode() + "bbbbbbbbbbb_000030.mp4,café\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"test\.csv: it is not UTF-8 \(the byte 0xe9\)"):
        VGGSound(tmp_path).read_split("test")


def test_the_json_of_msrvtt_in_utf_16(tmp_path):
    (tmp_path / "MSRVTT_data.json").write_text(json.dumps({"videos": [VIDEO], "sentences": [SAYS]}), "utf-16")
    assert MSRVTT(tmp_path).read_split("test_full").clips["text"].tolist() == ["a café"]


@pytest.mark.parametrize("encoding", MARKED)
def test_captions_in_every_encoding_that_they_mark(tmp_path, encoding):
    said = {"v": {"start": [0.0], "end": [1.0], "text": ["café"]}}
    path = tmp_path / "caption.json"
    path.write_bytes(json.dumps(said, ensure_ascii=False).encode(encoding))
    assert captions.read(path, tmp_path / "cache").of(0).text == ["café"]
    folder = tmp_path / "howto100m_captions"
    folder.mkdir()
    (folder / "v.csv").write_bytes("start,end,text\n0,1,café\n".encode(encoding))
    assert captions.read(folder, tmp_path / "cache").of(0).text == ["café"]


def test_captions_in_latin_1_are_named(tmp_path):
    folder = tmp_path / "howto100m_captions"
    folder.mkdir()
    (folder / "v.csv").write_bytes("start,end,text\n0,1,café\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"v\.csv: it is not UTF-8"):
        captions.read(folder, tmp_path / "cache")
