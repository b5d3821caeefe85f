"""MSR-VTT's official files, with the quirks they have, and its clips without sound as misses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench import registry
from bench.tasks import Evaluation, Predictions, evaluate, task_of
from datamodules.loading.clips import ClipDataset
from datamodules.loading.samplers import ClipRef
from datamodules.manifest.build import Manifest, build_manifest
from datamodules.manifest.checks import Checks
from datamodules.manifest.media_index import index_media
from datamodules.media.decode import check
from datamodules.msrvtt import CATEGORIES, MSRVTT
from datamodules.sample import msrvtt as layout
from datamodules.sample.narration import VOCABULARY
from datamodules.source import DataError
from datamodules.types import DataConfig, FeatureInputs, Inputs, TextInputs
from tests.sample_data import SampleMaker

HEADER = "key,vid_key,video_id,sentence\n"
JOINED, TRAINVAL, TEST = "MSRVTT_data.json", "train_val_videodatainfo.json", "test_videodatainfo.json"


def write_json(root: Path, name: str, captions: dict[str, list[str]], category: Any = 9) -> MSRVTT:
    """As the official file has it: the split of all is `train`, and the sentences are in no order of videos."""
    videos = [
        {"category": category, "url": "x", "video_id": video, "start time": 137.72, "end time": 149.44}
        | {"split": "train", "id": n}
        for n, video in enumerate(captions)
    ]
    pairs = [(n, video, said) for video, each in captions.items() for n, said in enumerate(each)]
    sentences = [{"caption": said, "video_id": video, "sen_id": i} for i, (_, video, said) in enumerate(sorted(pairs))]
    (root / name).write_text(json.dumps({"info": {}, "videos": videos, "sentences": sentences}))
    return MSRVTT(root)


def write_csv(root: Path, name: str, text: str) -> MSRVTT:
    (root / name).write_bytes(text.encode())
    return MSRVTT(root)


def test_1k_a_needs_no_more_than_its_csv(tmp_path):
    rows = (
        'ret0,msr9770,video9770,a person is connecting something to system\nret1,msr7020,video7020," a ""cat"", two"\n'
    )
    source = write_csv(tmp_path, "MSRVTT_JSFUSION_test.csv", HEADER + rows)
    official = source.read_split("test_1k")
    assert official.malformed == [] and source.official_size("test_1k") == 1000 and source.classes == []
    assert official.clips["clip_id"].tolist() == official.stems[0].tolist() == ["video9770", "video7020"]
    assert official.clips["text"].tolist() == ["a person is connecting something to system", 'a "cat", two']
    assert official.clips["labels"].tolist() == [[], []]
    with pytest.raises(DataError, match=r"found none of MSRVTT_data\.json, train_val_videodatainfo\.json"):
        source.read_split("test_full")


def test_a_clip_is_its_whole_file_whatever_its_start_in_the_source_video(tmp_path):
    write_json(tmp_path, JOINED, {"video9770": ["one"]})
    source = write_csv(tmp_path, "MSRVTT_JSFUSION_test.csv", HEADER + "ret0,msr9770,video9770,one\n")
    clip = source.read_split("test_1k").clips.iloc[0]
    assert (clip["start"], clip["end"], source.media) == (0, np.inf, "clips")
    assert list(clip["labels"]) == [9] and source.classes[9] == "vehicles/autos" and len(source.classes) == 20


def test_the_full_test_split_goes_by_number_as_the_json_calls_all_videos_train(tmp_path):
    videos = {f"video{n}": [f"{n} a", f"{n} b"] for n in (0, 7009, 7010, 9999, 10000)}
    official = write_json(tmp_path, JOINED, videos).read_split("test_full")
    assert sorted(official.clips["text"]) == ["7010 a", "7010 b", "9999 a", "9999 b"]
    assert official.clips["clip_id"].is_unique and official.clips["clip_id"].str.startswith("video").all()


def test_captions_of_one_clip_are_one_thing_to_be_found(tmp_path):
    official = write_json(tmp_path, JOINED, {"video7010": ["a", "b"], "video7011": ["c"]}).read_split("test_full")
    table = official.clips.set_index("text")
    group = task_of(registry.board("msrvtt-full-t2v")).groups(official.clips, table.loc[["a", "b", "c"], "clip_id"])
    assert group is not None and group[0] == group[1] != group[2]


def test_a_training_clip_comes_once_an_epoch_with_one_of_its_captions(tmp_path):
    """As AVLnet and Everything at Once draw them (`random.choice` in their loaders)."""
    captions = {"video0": ["a pan", "an egg", "a\nwhisk", "a pan"], "video1": ["oil"], "video2": ["in no list"]}
    write_json(tmp_path, JOINED, captions)
    source = write_csv(tmp_path, "MSRVTT_train.7k.csv", "video_id\nvideo1\nvideo0\n")
    np.save(tmp_path / "video0_2d.npy", np.zeros((4, 1), np.float32))
    np.save(tmp_path / "video1_2d.npy", np.zeros((4, 1), np.float32))
    inputs = Inputs(None, None, TextInputs(length=9), FeatureInputs(None, ["2d"], [1.0], [1]))
    each = build_manifest(source, ["train_7k"], inputs, Checks(tmp_path / "checks"))
    once = each.once_each()
    assert (len(each), len(once), once.table["video_id"].nunique()) == (5, 2, 2)
    assert once.fingerprint != each.fingerprint and once.official == each.official
    clips = ClipDataset(once, DataConfig(inputs=inputs, captions="one"), seed=0)
    said: dict[str, set[str]] = {"video0": set(), "video1": set()}
    for epoch in range(30):
        for row in range(2):
            (moment,) = clips._moments(ClipRef(row, epoch))
            (again,) = clips._moments(ClipRef(row, epoch))
            assert moment == again
            said[once.table["video_id"][row]].add(moment.text)
    assert said == {"video0": {"a pan", "an egg", "a whisk"}, "video1": {"oil"}}


@pytest.mark.parametrize("split", ["9k", "7k"])
def test_training_has_a_row_for_each_caption_of_the_listed_videos(tmp_path, split):
    write_json(tmp_path, JOINED, {"video0": ["a", "b"], "video1": ["c"], "video2": ["d"]})
    rows = "video_id\r\nvideo2\r\nvideo0\r\nvideo2\r\nvideo5\r\n"
    official = write_csv(tmp_path, f"MSRVTT_train.{split}.csv", rows).read_split(f"train_{split}")
    assert sorted(zip(official.clips["video_id"], official.clips["text"], strict=True)) == [
        *(("video0", "a"), ("video0", "b"), ("video2", "d"))
    ]
    name = f"MSRVTT_train.{split}.csv"
    assert official.malformed == [
        f"{name}:4: the clip video2 stands here twice",
        f"{name}:5: no caption of video5 in {JOINED}",
    ]


def test_the_older_two_files_do_as_well(tmp_path):
    write_json(tmp_path, TRAINVAL, {"video0": ["a"], "video6513": ["b"]}, category=3)
    write_json(tmp_path, TEST, {"video7010": ["c", "d"]}, category=19)
    source = write_csv(tmp_path, "MSRVTT_train.9k.csv", "video_id\nvideo0\nvideo7010\n")
    train = source.read_split("train_9k").clips
    assert sorted(train["text"]) == ["a", "c", "d"]
    assert sorted(map(list, train["labels"])) == [[3], [19], [19]]
    assert sorted(source.read_split("test_full").clips["text"]) == ["c", "d"]


@pytest.mark.parametrize(
    "content",
    [
        *("", "[]", "{}", '{"videos": []}', '{"videos": [], "sentences": [{"video_id": "video0"}]}'),
        '{"videos": [{"video_id": "video0", "category": 20}], "sentences": []}',
    ],
)
def test_other_json_is_refused_with_its_name(tmp_path, content):
    (tmp_path / JOINED).write_text(content)
    with pytest.raises(DataError, match=JOINED):
        MSRVTT(tmp_path).read_split("test_full")


def test_sizes_are_those_of_twenty_captions_a_video_and_nested_splits_are_known():
    videos = {split: size / (1 if split == "test_1k" else 20) for split, size in MSRVTT.sizes.items()}
    assert videos == {"train_9k": 9000, "train_7k": 7010, "test_1k": 1000, "test_full": 2990}
    assert ("train_9k", "test_full") not in MSRVTT.nested, "1,990 videos are in both"


# The sample


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, make_sample: SampleMaker) -> Path:
    root = tmp_path_factory.mktemp("msrvtt")
    make_sample(root, ("msrvtt",))
    return root / "MSRVTT"


def manifest(root: Path, split: str, **inputs: Any) -> Manifest:
    wanted = Inputs(**{"audio": None, "video": None, **inputs})
    return build_manifest(MSRVTT(root), [split], wanted, Checks(root.parent / "checks", workers=1))


def test_the_sample_reads_as_the_official_files(root):
    source = MSRVTT(root)
    clips = {split: source.read_split(split).clips for split in source.splits}
    assert all(source.read_split(split).malformed == [] for split in source.splits)
    videos = {split: set(table["video_id"]) for split, table in clips.items()}
    assert {split: len(ids) for split, ids in videos.items()} == {
        **{"train_9k": 20, "train_7k": 16, "test_1k": 40, "test_full": 44}
    }
    assert videos["train_7k"] < videos["train_9k"] and videos["test_1k"] < videos["test_full"]
    assert not videos["train_9k"] & videos["test_1k"] and len(videos["train_9k"] & videos["test_full"]) == 4
    assert all(
        (table.groupby("video_id").size() == layout.CAPTIONS).all()
        for split, table in clips.items()
        if split != "test_1k"
    )
    said = set(zip(clips["test_full"]["video_id"], clips["test_full"]["text"], strict=True))
    assert set(zip(clips["test_1k"]["video_id"], clips["test_1k"]["text"], strict=True)) < said
    assert clips["test_1k"]["text"].is_unique
    assert {CATEGORIES[label] for labels in clips["test_full"]["labels"] for label in labels} <= set(source.classes)
    assert len(index_media(root)["video"]) == sum(layout.COUNTS.values())


def test_the_files_of_the_sample_are_those_of_the_official_release(root):
    data = json.loads((root / JOINED).read_text())
    assert data.keys() == {"info", "videos", "sentences"}
    ids = [video["video_id"] for video in data["videos"]]
    assert ids == [f"video{n}" for n in (*range(16), *range(7010, 7054))]
    assert {path.stem for path in (root / "videos/all").iterdir()} == set(ids)
    assert {video["split"] for video in data["videos"]} == {"train"}, "as the official file says of all"
    assert [said["sen_id"] for said in data["sentences"]] == list(range(layout.CAPTIONS * len(ids)))
    assert {word for said in data["sentences"] for word in said["caption"].split()} <= set(VOCABULARY)
    assert [said["video_id"] for said in data["sentences"]] != sorted(said["video_id"] for said in data["sentences"])
    header, first, *rest = (root / "MSRVTT_JSFUSION_test.csv").read_text().splitlines()
    assert header + "\n" == HEADER and first.startswith("ret0,msr7010,video7010,") and len(rest) == 39


def test_clips_of_the_sample_last_as_listed_and_two_have_features_but_no_sound_track(root):
    for video in json.loads((root / JOINED).read_text())["videos"]:
        name = video["video_id"]
        mute = name in ("video7012", "video7016")
        info = check(root / f"videos/all/{name}.mp4", need_audio=not mute, need_video=True)
        assert info.has_audio == (not mute)
        assert info.duration == pytest.approx(video["end time"] - video["start time"], abs=0.15) and info.duration > 4
        assert {path.stem for path in (root / "features").glob(f"{name}_*")} == {f"{name}_2d", f"{name}_3d"}


def perfect(board_name: str, found: Manifest) -> Evaluation:
    """Of a method that finds every clip it is given."""
    board = registry.board(board_name)
    group = task_of(board).groups(found.table, list(found.table["clip_id"]))
    _, place = np.unique(group, return_inverse=True)
    scores = dict.fromkeys((board.task.query, board.task.gallery), np.eye(place.max() + 1)[place])
    clips = found.table["clip_id"].tolist()
    missing = found.official - len(clips)
    return evaluate(board, "", Predictions(clips, np.zeros((len(clips), 20)), scores, group, missing=missing))


def test_clips_without_a_sound_track_count_as_errors_where_sound_is_needed(root):
    """As in AVLnet: 968 of 1,000 clips have sound, and who finds them all has an R@1 of 96.8 %; here 38 of 40."""
    features, text = FeatureInputs(dims=[128, 128]), TextInputs()
    heard = manifest(root, "test_1k", audio=Inputs().audio, features=features, text=text)
    assert heard.excluded == {"no audio": 2} and heard.examples["no audio"] == ["video7012", "video7016"]
    assert (heard.used, heard.official) == (38, 40)
    for name in ("msrvtt-t2av", "msrvtt-a2v", "msrvtt-at2v"):
        result = perfect(name, heard)
        assert result.metrics["R@1"].value == result.metrics["R@10"].value == pytest.approx(38 / 40)
        assert (result.n, result.notes) == (38, {"missing_clips_count_as_not_found": 2})
        assert result.metrics["MedR"].value == 1, "over the clips that are there, as in AVLnet"

    seen = manifest(root, "test_1k", features=features, text=text)
    assert seen.excluded == {} and perfect("msrvtt-t2v", seen).metrics["R@1"].value == 1


def test_in_the_full_test_split_each_caption_of_a_missing_clip_is_an_error(root, tmp_path):
    with_pictures = manifest(root, "test_full", features=FeatureInputs(dims=[128, 128]), text=TextInputs())
    assert perfect("msrvtt-full-t2v", with_pictures).metrics["R@1"].value == 1
    heard = manifest(root, "test_full", audio=Inputs().audio, text=TextInputs())
    result = perfect("msrvtt-full-t2v", heard)
    assert result.notes == {"missing_clips_count_as_not_found": 2 * layout.CAPTIONS}
    assert result.metrics["R@1"].value == pytest.approx(42 / 44) and result.n == 42 * layout.CAPTIONS


def test_the_sample_may_have_more_clips_than_there_are_steps_to_show(tmp_path, monkeypatch):
    """The other writers take turns, too."""
    one = layout.RECIPES[0]
    monkeypatch.setattr(layout, "RECIPES", [replace(one, tools=one.tools[:1], things=one.things[:1])])
    clips = layout.lay_out(tmp_path, 0, {"train": 1, "test": 5})
    assert len({clip.path for clip in clips}) == 6
