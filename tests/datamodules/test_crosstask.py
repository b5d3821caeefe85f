"""CrossTask's official files, with the quirks they have."""

from __future__ import annotations

from pathlib import Path

import pytest

from datamodules import sample
from datamodules.crosstask import CrossTask
from datamodules.source import DataError

TASKS = """16815
Make Jello Shots
https://www.wikihow.com/Make-Jello-Shots
4
pour water,pour jello powder,stir mixture,pour water

23521
Make Coffee
https://www.wikihow.com/Make-Coffee
2
pour water, stir mixture

"""
RELATED = "999,ccccccccccc,https://www.youtube.com/watch?v=ccccccccccc\n"


def row(task: str, video: str) -> str:
    return f"{task},{video},https://www.youtube.com/watch?v={video}\n"


def write(root: Path, videos: str, annotations: dict[str, str], tasks: str = TASKS) -> CrossTask:
    release = root / "crosstask_release"
    (release / "annotations").mkdir(parents=True, exist_ok=True)
    (release / "tasks_primary.txt").write_text(tasks)
    (release / "videos.csv").write_text(videos)
    for name, text in annotations.items():
        (release / f"annotations/{name}.csv").write_text(text)
    return CrossTask(root)


def test_classes_are_the_steps_of_all_tasks_in_the_order_of_the_file(tmp_path):
    source = write(tmp_path, "", {})
    assert source.classes == [
        *("16815/1 pour water", "16815/2 pour jello powder", "16815/3 stir mixture", "16815/4 pour water"),
        *("23521/1 pour water", "23521/2 stir mixture"),
    ]
    texts = ["pour water", "pour jello powder", "stir mixture", "pour water", "pour water", "stir mixture"]
    assert source.class_texts == texts


@pytest.mark.parametrize("end", ["", "\n", "\n\n\n"])
def test_the_last_blank_line_may_be_missing(tmp_path, end):
    assert len(write(tmp_path, "", {}, TASKS.rstrip() + end).classes) == 6


def test_a_video_of_two_tasks_is_two_rows_with_the_steps_of_each(tmp_path):
    videos = row("16815", "-aBcDeFgHi_") + row("23521", "-aBcDeFgHi_")
    annotations = {"16815_-aBcDeFgHi_": "2,8.5,11\n1,1,3.25\n2,20,21\n", "23521_-aBcDeFgHi_": "2,4,5\n"}
    official = write(tmp_path, videos, annotations).read_split("annotated")
    assert official.clips["clip_id"].tolist() == ["16815_-aBcDeFgHi_", "23521_-aBcDeFgHi_"]
    assert official.clips["video_id"].tolist() == official.stems[0].tolist() == ["-aBcDeFgHi_"] * 2
    assert official.clips["labels"].tolist() == [[0, 1], [5]]
    assert official.steps.tolist() == [[0, 1, 2, 3], [4, 5]], "all steps of the task, whether they are seen or not"
    assert official.segments.to_numpy().tolist() == [
        ["16815_-aBcDeFgHi_", 1, 8.5, 11.0],
        ["16815_-aBcDeFgHi_", 0, 1.0, 3.25],
        ["16815_-aBcDeFgHi_", 1, 20.0, 21.0],
        ["23521_-aBcDeFgHi_", 5, 4.0, 5.0],
    ]
    assert (official.clips["start"] == 0).all() and (official.clips["end"] == float("inf")).all()


def test_related_tasks_are_left_out_and_val_has_a_list_of_its_own(tmp_path):
    source = write(tmp_path, RELATED + row("16815", "a") + row("16815", "b"), {"16815_a": "1,0,1\n", "16815_b": ""})
    (tmp_path / "crosstask_release/videos_val.csv").write_text(row("16815", "b"))
    annotated, val = source.read_split("annotated"), source.read_split("val")
    assert annotated.clips["clip_id"].tolist() == ["16815_a", "16815_b"] and annotated.malformed == []
    assert val.clips["clip_id"].tolist() == ["16815_b"] and val.clips["labels"].tolist() == [[]]
    assert val.segments.empty and val.steps.tolist() == [[0, 1, 2, 3]]


def test_a_step_that_ends_where_it_starts_is_kept(tmp_path):
    official = write(tmp_path, row("16815", "a"), {"16815_a": "\ufeff1,12.3,12.3\r\n\r\n"}).read_split("annotated")
    assert official.segments.to_numpy().tolist() == [["16815_a", 0, 12.3, 12.3]] and official.malformed == []


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("1,0,1\n5,0,1\n", ":2: not a step of the task, start and end: '5,0,1'"),
        ("0,0,1\n", ":1: not a step"),
        ("-1,0,1\n", ":1: not a step"),
        ("1,0\n", ":1: not a step"),
        ("pour,0,1\n", ":1: not a step"),
        ("1,5,4\n", ":1: 5 to 4 s is no segment"),
        ("1,nan,4\n", ":1: nan to 4 s"),
        ("1,-1,4\n", ":1: -1 to 4 s"),
        ("1,1,inf\n", ":1: 1 to inf s"),
    ],
)
def test_a_malformed_annotation_leaves_its_video_out_and_is_named(tmp_path, text, why):
    videos = row("16815", "good") + row("16815", "bad")
    official = write(tmp_path, videos, {"16815_good": "1,0,1\n", "16815_bad": text}).read_split("annotated")
    assert official.clips["clip_id"].tolist() == ["16815_good"] and set(official.segments["clip_id"]) == {"16815_good"}
    (fault,) = official.malformed
    assert fault.startswith("videos.csv:2: annotations/16815_bad.csv" + why)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("\n4\n", "\n5\n"),
        ("stir mixture,", ","),
        ("\n\n23521", "\n23521"),
        ("23521\n", "16815\n"),
        ("23521\nMake", "tea\nMake"),
        ("pour water, stir mixture\n\n", ""),
    ],
)
def test_a_broken_list_of_tasks_is_refused_with_its_line(tmp_path, old, new):
    assert old in TASKS
    with pytest.raises(DataError, match=r"tasks_primary\.txt:(1|7): this is no block of a task"):
        _ = write(tmp_path, "", {}, TASKS.replace(old, new, 1)).classes


def test_a_missing_folder_of_annotations_is_named_with_its_archive(tmp_path):
    source = write(tmp_path, row("16815", "a"), {})
    (tmp_path / "crosstask_release/annotations").rmdir()
    with pytest.raises(DataError, match=r"no folder .*annotations in .*unpack crosstask_release\.zip"):
        source.read_split("annotated")


def test_the_sample_shows_tasks_in_order_with_some_steps_left_out(tmp_path):
    layout = sample.layouts()["crosstask"]
    (tmp_path / layout.FOLDER).mkdir()
    clips = layout.lay_out(tmp_path / layout.FOLDER, 0, layout.COUNTS)
    source = CrossTask(tmp_path / layout.FOLDER)
    official, val = source.read_split("annotated"), source.read_split("val")
    assert len(official.clips) == 24 and len(source.classes) == 48 and official.malformed == val.malformed == []
    assert set(val.clips["clip_id"]) < set(official.clips["clip_id"]) and len(val.clips) == 8
    fewer = 0
    for (_, video), steps, clip in zip(official.clips.iterrows(), official.steps, clips, strict=True):
        of_video = official.segments[official.segments["clip_id"] == video["clip_id"]]
        assert clip.path.stem == video["video_id"] and list(steps) == sorted(steps) and len(steps) == 6
        assert of_video["label"].is_monotonic_increasing and set(of_video["label"]) <= set(steps)
        assert (of_video["start"] * 8).tolist() == [turn.start for turn in clip.scene.turns]
        assert (of_video["end"] <= clip.scene.seconds).all() and (of_video["end"] - of_video["start"] == 3).all()
        fewer += len(of_video) < len(steps)
    assert 8 <= fewer < 24
