"""YouCook2's official files, with the quirks they have."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from datamodules.manifest.media_index import index_media
from datamodules.source import DataError
from datamodules.youcook2 import YouCook2

TRAINVAL, TEST = "youcookii_annotations_trainval.json", "youcookii_annotations_test_segments_only.json"
HEADER = "end,start,task,text,video_id\n"


def video(subset: str, type_: str, *segments: tuple[Any, Any, str | None]) -> dict[str, Any]:
    """As the official JSON has it; a segment without a sentence is one of the test split."""
    steps = [
        {"segment": [start, end], "id": n} | ({} if sentence is None else {"sentence": sentence})
        for n, (start, end, sentence) in enumerate(segments)
    ]
    return {"duration": 300.5, "subset": subset, "recipe_type": type_, "annotations": steps, "video_url": "x"}


def write_json(folder: Path, name: str, videos: dict[str, Any], encoding: str = "utf-8") -> YouCook2:
    (folder / name).write_text(json.dumps({"database": videos}, ensure_ascii=False), encoding=encoding)
    return YouCook2(folder)


def write_csv(folder: Path, content: str) -> YouCook2:
    (folder / "validation_youcook.csv").write_bytes(content.encode())
    return YouCook2(folder)


def test_the_retrieval_list_has_its_end_before_its_start(tmp_path):
    source = write_csv(tmp_path, HEADER + "60,41,226,add the rice,-xY_12345678\n9,0,101,stir,_aaaaaaaaaa\n")
    official = source.read_split("retrieval")
    assert official.malformed == []
    assert official.clips[["start", "end"]].to_numpy().tolist() == [[41.0, 60.0], [0.0, 9.0]]
    assert official.clips["clip_id"].tolist() == ["-xY_12345678_41_60", "_aaaaaaaaaa_0_9"]
    assert official.clips["text"].tolist() == ["add the rice", "stir"]
    assert official.clips["labels"].tolist() == [[1], [0]] and source.classes == ["101", "226"]
    assert official.stems[0].tolist() == ["-xY_12345678", "_aaaaaaaaaa"]


def test_sentences_keep_quotes_commas_newlines_and_accents(tmp_path):
    sentence = 'purée the "jalapeños", then\nstir 炒飯'
    with (tmp_path / "validation_youcook.csv").open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.writer(file)  # ends lines with CRLF
        writer.writerow(HEADER.strip().split(","))
        writer.writerow([9, 0, 101, sentence, "aaaaaaaaaaa"])
    assert YouCook2(tmp_path).read_split("retrieval").clips["text"].tolist() == [sentence]
    source = write_json(
        tmp_path, TRAINVAL, {"b": video("training", "101", (0, 9, f" {sentence}\n"))}, encoding="utf-8-sig"
    )
    assert source.read_split("train").clips["text"].tolist() == [sentence]


def test_train_and_val_are_the_subsets_and_types_are_ordered_by_number(tmp_path):
    videos = {
        "aaaaaaaaaaa": video("training", "226", (41, 60.5, "one"), (70, 75, "two")),
        "bbbbbbbbbbb": video("validation", "9", (0, 9, "three")),
        "ccccccccccc": video("training", "101"),
    }
    source = write_json(tmp_path, TRAINVAL, videos)
    train, val = source.read_split("train"), source.read_split("val")
    assert train.clips["clip_id"].tolist() == ["aaaaaaaaaaa_41_60.5", "aaaaaaaaaaa_70_75"]
    assert val.clips["text"].tolist() == ["three"]
    assert source.classes == ["9", "101", "226"]
    assert train.clips["labels"].tolist() == [[2], [2]] and val.clips["labels"].tolist() == [[0]]
    (tmp_path / "label_foodtype.csv").write_bytes(b'\xef\xbb\xbf9,hummus\r\n226,"bibim, bap"\r\n')
    assert YouCook2(tmp_path).classes == ["9 hummus", "101", "226 bibim, bap"]


def test_the_test_split_has_no_captions(tmp_path):
    source = write_json(tmp_path, TEST, {"ddddddddddd": video("testing", "101", (1, 2, None))})
    official = source.read_split("test")
    assert "text" not in official.clips and official.clips["clip_id"].tolist() == ["ddddddddddd_1_2"]


def test_two_sentences_of_one_segment_are_two_clips(tmp_path):
    official = write_csv(tmp_path, HEADER + "9,0,1,stir,v\n9,0,1,mix,v\n9,0,1,mix,v\n").read_split("retrieval")
    assert official.clips["clip_id"].tolist() == ["v_0_9", "v_0_9_1", "v_0_9_2"] and official.malformed == []


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "webm"])
def test_whole_videos_are_found_in_the_official_folders(tmp_path, suffix):
    path = tmp_path / f"raw_videos/validation/226/-xY_12345678.{suffix}"
    path.parent.mkdir(parents=True)
    path.touch()
    stems = write_csv(tmp_path, HEADER + "60,41,226,stir,-xY_12345678\n").read_split("retrieval").stems
    media = index_media(tmp_path)["video"]
    assert media.paths(media.find(stems)).to_pylist() == [str(path)]
    assert YouCook2.media == "videos"


def test_steps_without_times_or_types_are_counted(tmp_path):
    videos = {
        "a": video("training", "1", (0, 9, "good"), (float("nan"), 9, "nan"), (9, 0, "reversed"), (None, 2, "none")),
        "b": video("training", "", (0, 9, "no type")),
        "c": {"subset": "training", "recipe_type": "1", "annotations": None},
    }
    source = write_json(tmp_path, TRAINVAL, videos)
    official = source.read_split("train")
    assert official.clips["text"].tolist() == ["good"] and source.classes == ["1"]
    assert [row.split(":")[1] for row in official.malformed] == ["2", "3", "4", "5"]


@pytest.mark.parametrize(
    "content",
    [
        *("", "[]", "{}", '{"database": []}', '{"database": {"v": 3}}'),
        '{"database": {"v": {"subset": "training", "annotations": [{"segment": 3}]}}}',
    ],
)
def test_other_json_is_refused_with_its_name(tmp_path, content):
    (tmp_path / TRAINVAL).write_text(content)
    with pytest.raises(DataError, match=TRAINVAL):
        YouCook2(tmp_path).read_split("train")


def test_a_wrong_header_is_named(tmp_path):
    with pytest.raises(DataError, match=r"validation_youcook\.csv: no column video_id, task;.*end,start,text"):
        write_csv(tmp_path, "end,start,text\n").read_split("retrieval")


def test_a_split_needs_its_own_file_only(tmp_path):
    source = write_csv(tmp_path, HEADER + "9,0,1,a,v\n")
    assert len(source.read_split("retrieval").clips) == 1 and source.official_size("retrieval") == 3350
    with pytest.raises(DataError, match="found none of youcookii_annotations_trainval.json"):
        source.read_split("val")
    with pytest.raises(DataError, match="found neither"):
        _ = YouCook2(tmp_path / "nothing").classes
