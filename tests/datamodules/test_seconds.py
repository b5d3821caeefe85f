"""Videos whose steps are to be found in time: a row a second, its steps, its place in the files, and what is read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamodules.features import stored
from datamodules.loading.clips import ClipDataset
from datamodules.loading.samplers import EVALUATION, ClipRef
from datamodules.manifest.build import Manifest, build_manifest
from datamodules.manifest.checks import Checks
from datamodules.manifest.seconds import seconds_of, steps_of
from datamodules.media.decode import Media, read_audio
from datamodules.source import LABELS, Official, Source
from datamodules.types import AudioInputs, DataConfig, FeatureInputs, Inputs, VideoInputs
from tests.media_files import noise, number_of, numbered_frame, write_media

MEDIA = Inputs(AudioInputs(frames=200), VideoInputs(frames=4, fps=2.0, size=32))
Segment = tuple[int, float, float]
"""Class, start and end."""


def lists(values: Sequence[Sequence[int]]) -> pd.Series:
    return pd.Series(pa.array(values, LABELS.pyarrow_dtype), dtype=LABELS)


def table_of(seconds: dict[str, float]) -> pd.DataFrame:
    """What the manifest has of videos before they become seconds."""
    names = list(seconds)
    columns = {"clip_id": names, "video_id": names, "start": 0.0, "end": math.inf, "seconds": list(seconds.values())}
    table = pd.DataFrame(columns).astype({"clip_id": "str", "video_id": "str", "seconds": "float64"})
    for kind in ("audio", "video"):
        table[f"{kind}_path"], table[f"{kind}_offset"] = pd.Series(names, dtype="str") + ".mp4", 0.0
    return table.assign(labels=lists([[]] * len(names)), steps=lists([[0, 1]] * len(names)))


def segments_of(annotated: dict[str, list[Segment]]) -> pd.DataFrame:
    rows = [(video, *segment) for video, segments in annotated.items() for segment in segments]
    kinds = {"clip_id": "str", "label": "int64", "start": "float64", "end": "float64"}
    return pd.DataFrame(rows, columns=list(kinds)).astype(kinds)


def rows_of(videos: pd.DataFrame, segments: pd.DataFrame) -> pd.DataFrame:
    return seconds_of(videos, segments)


def labels_of(length: float, segments: list[Segment]) -> list[list[int]]:
    """The classes of each second of one video."""
    found = rows_of(table_of({"v": length}), segments_of({"v": segments}))
    return [list(labels) for labels in found["labels"]]


# --- which steps are annotated in a second


def test_a_step_reaches_from_the_floor_of_its_start_to_the_ceiling_of_its_end():
    assert labels_of(6.0, [(7, 1.2, 3.5)]) == [[], [7], [7], [7], [], []]
    assert labels_of(6.0, [(7, 1.0, 3.0)]) == [[], [7], [7], [], [], []]
    assert labels_of(6.0, [(7, 2.3, 2.3)]) == [[], [], [7], [], [], []]


def test_steps_that_overlap_share_their_seconds_and_one_that_comes_twice_is_there_once():
    assert labels_of(4.0, [(5, 0.0, 2.5), (1, 1.5, 4.0)]) == [[5], [1, 5], [1, 5], [1]]
    assert labels_of(2.0, [(5, 0.0, 1.2), (5, 0.9, 2.0)]) == [[5], [5]]


def test_what_is_annotated_beyond_the_end_is_left_out():
    assert labels_of(3.9, [(5, 1.5, 90.0), (6, 3.0, 4.0), (7, 50.0, 60.0)]) == [[], [5], [5]]


def test_videos_without_steps_and_steps_of_videos_that_are_not_there():
    assert labels_of(2.0, []) == [[], []]
    found = rows_of(table_of({"v": 2.0}), segments_of({"other": [(3, 0.0, 2.0)], "v": [(4, 1.0, 2.0)]}))
    assert [list(labels) for labels in found["labels"]] == [[], [4]]


TIMES = st.floats(0, 12).map(lambda t: round(t, 2))
SEGMENTS = st.tuples(st.integers(0, 5), TIMES, TIMES).map(lambda s: (s[0], min(s[1:]), max(s[1:])))


@given(st.lists(st.tuples(st.floats(0.1, 9), st.lists(SEGMENTS, max_size=5)), min_size=1, max_size=4))
def test_seconds_are_what_a_loop_over_videos_and_steps_gives(videos):
    lengths = {f"v{i}": length for i, (length, _) in enumerate(videos)}
    found = rows_of(table_of(lengths), segments_of({f"v{i}": s for i, (_, s) in enumerate(videos)}))
    expected = []
    for i, (length, segments) in enumerate(videos):
        for second in range(max(1, int(length))):
            here = {label for label, start, end in segments if math.floor(start) <= second < math.ceil(end)}
            expected.append((f"v{i}/{second:05}", f"v{i}", second, second + 1, 1.0, length, sorted(here)))
    columns = ["clip_id", "group", "start", "end", "seconds", "video_seconds"]
    rows = list(found[columns].itertuples(index=False, name=None))
    assert [(*row, list(labels)) for row, labels in zip(rows, found["labels"], strict=True)] == expected


# --- the rows


def test_the_rows_are_in_the_order_of_the_videos_then_of_time_as_are_their_sorted_ids():
    found = rows_of(table_of({"b": 120.0, "a": 2.0}), segments_of({}))
    assert found["group"].tolist() == ["b"] * 120 + ["a"] * 2
    ids = found["clip_id"].tolist()
    assert len(set(ids)) == 122 and sorted(ids[:120]) == ids[:120] and found["start"][119] == 119.0
    assert "steps" not in found and found["labels"].dtype == LABELS


@pytest.mark.parametrize("kind", ["audio", "video"])
def test_a_second_s_sound_and_pictures_begin_where_the_second_does(kind):
    """In the file of the whole video."""
    found = rows_of(table_of({"a": 3.0, "b": 2.0}), segments_of({}))
    assert found[f"{kind}_path"].tolist() == ["a.mp4"] * 3 + ["b.mp4"] * 2
    assert found[f"{kind}_offset"].tolist() == [0.0, 1.0, 2.0, 0.0, 1.0]


def test_steps_are_kept_in_their_order_and_as_often_as_they_come():
    videos = table_of({"a": 1.0, "b": 1.0}).assign(steps=lists([[3, 1, 3], [0]]))
    assert steps_of(videos) == {"a": [3, 1, 3], "b": [0]}


# --- how long a video is by its features


def feature_files(folder: Path, rows: dict[str, int], dim: int = 2, name: str = "v") -> list[str]:
    """A file a kind whose row i is [i, i, …]."""
    for kind, count in rows.items():
        np.save(folder / f"{name}_{kind}.npy", np.arange(count, dtype=np.float32)[:, None].repeat(dim, axis=1))
    return [str(folder / f"{name}_{kind}.npy") for kind in rows]


KINDS = FeatureInputs(None, ["2d", "3d"], [1.0, 1.5], [2, 2], frames=3)


@pytest.mark.parametrize(("rows", "seconds"), [((7, 12), 7.0), ((9, 12), 8.0), ((9, 0), 0.0), ((5, 7), 14 / 3)])
def test_the_shortest_kind_says_how_long_a_video_is(tmp_path, rows, seconds):
    paths = feature_files(tmp_path, dict(zip(KINDS.kinds, rows, strict=True)))
    assert stored.seconds(paths, KINDS) == pytest.approx(seconds, abs=1e-12)


def test_an_archive_says_it_too_and_what_cannot_be_used_is_an_error(tmp_path):
    np.savez(tmp_path / "v_2d.npz", features=np.zeros((6, 2), np.float16))
    one = FeatureInputs(None, ["2d"], [2.0], [2])
    assert stored.seconds([str(tmp_path / "v_2d.npz")], one) == 3.0
    for paths, dims, reason in ((["none.npy"], [2], "missing"), ([str(tmp_path / "v_2d.npz")], [3], "wrong shape")):
        with pytest.raises(stored.FeatureError) as caught:
            stored.seconds(paths, replace(one, dims=dims))
        assert caught.value.reason == reason


# --- through the manifest, on real files


class Steps(Source):
    """Three videos, `SECONDS` long, of which the last is not there."""

    name, title, folders, splits, media, boards = "steps", "Steps", ("Steps",), ("test",), "videos", ()
    SECONDS: ClassVar = {"a": 9.0, "b": 6.4, "c": 5.0}

    @classmethod
    def required_files(cls) -> tuple[str, ...]:
        return ()

    @property
    def classes(self) -> list[str]:
        return ["cut", "stir", "serve"]

    def read_split(self, split: str) -> Official:
        table = table_of(dict.fromkeys(self.SECONDS, math.inf))
        clips = table[["clip_id", "video_id", "start", "end", "labels"]]
        segments = segments_of({"a": [(2, 1.5, 3.0), (0, 7.0, 20.0)], "b": [(1, 0.0, 1.0)], "c": [(1, 0.0, 1.0)]})
        steps = lists([[2, 1, 0], [1], [1]])
        return Official(clips, [clips["video_id"]], segments=segments, steps=steps)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("steps")
    for name, seconds in list(Steps.SECONDS.items())[:2]:
        frames = [numbered_frame(i) for i in range(round(10 * seconds))]
        write_media(root / f"{name}.mkv", frames=frames, sound=noise(seconds, 16000), audio_codec="pcm_s16le")
    return root


def manifest_of(root: Path, inputs: Inputs) -> Manifest:
    return build_manifest(Steps(root), ["test"], inputs, Checks(root / "checks", workers=1))


def test_a_manifest_counts_videos_and_lists_seconds(root):
    manifest = manifest_of(root, MEDIA)
    assert len(manifest) == len(manifest.table) == 9 + 6
    assert (manifest.official, manifest.used, manifest.coverage) == (3, 2, pytest.approx(2 / 3))
    assert manifest.excluded == {"missing": 1} and manifest.steps == {"a": [2, 1, 0], "b": [1]}
    assert not manifest.narrated and manifest.captions is None
    labels = [list(labels) for labels in manifest.table["labels"]]
    assert labels[:9] == [[], [2], [2], [], [], [], [], [0], [0]] and labels[9:] == [[1]] + [[]] * 5


def test_other_annotations_are_another_fingerprint(root, monkeypatch):
    before = manifest_of(root, MEDIA).fingerprint
    assert manifest_of(root, MEDIA).fingerprint == before
    real = Steps.read_split
    later = {"a": [(2, 1.5, 3.1), (0, 7.0, 20.0)], "b": [(1, 0.0, 1.0)]}
    monkeypatch.setattr(
        Steps, "read_split", lambda self, split: replace(real(self, split), segments=segments_of(later))
    )
    assert manifest_of(root, MEDIA).fingerprint != before


@pytest.mark.parametrize("frames", [48, 98, 298, 498])
def test_the_sound_around_a_second_is_clamped_at_both_ends(root, frames):
    """`frames` log-mels of 10 ms, as much before the middle of the second as after it."""
    inputs = Inputs(AudioInputs(frames=frames), None)
    manifest = manifest_of(root, inputs)
    clips, half = ClipDataset(manifest, DataConfig(inputs=inputs), seed=0), inputs.audio.seconds / 2
    for index in (0, 1, 4, 8, 9, 14):
        row = manifest.table.iloc[index]
        start = max(0.0, row["start"] + 0.5 - half)
        end = min(row["video_seconds"], row["start"] + 0.5 + half)
        sound = read_audio(row["audio_path"], start, end - start, 16000)
        heard = clips[ClipRef(index, EVALUATION)][0]["audio"].numpy()
        assert abs(len(heard) - len(sound)) <= 1 and np.array_equal(heard[: len(sound)], sound[: len(heard)]), index


def test_the_pictures_around_a_second_are_those_of_the_file(root):
    inputs = Inputs(None, VideoInputs(frames=4, fps=2.0, size=32))
    manifest = manifest_of(root, inputs)
    clips = ClipDataset(manifest, DataConfig(inputs=inputs), seed=0)
    for index, start in ((0, 0.0), (1, 0.5), (4, 3.5), (8, 7.5)):
        seen = clips[ClipRef(index, EVALUATION)][0]["video"].numpy()
        left = min(2.0, 9.0 - start, index + 1.5 - start)
        times = [start + i / 2 % left for i in range(4)]
        assert [number_of(picture) for picture in seen] == [int(10 * time + 1e-6) for time in times], index
        with Media(root / "a.mkv") as media:
            assert np.array_equal(seen, media.frames(times, 32))


@pytest.mark.parametrize("moments", [1, 3, 5, 8])
def test_the_features_around_a_second_are_clamped_at_both_ends(root, tmp_path, moments):
    for name in ("a", "b"):
        feature_files(tmp_path, {"2d": 9, "3d": 14}, name=name)
    wanted = replace(KINDS, root=str(tmp_path), frames=moments)
    inputs = Inputs(None, None, None, wanted)
    manifest = manifest_of(root, inputs)
    assert manifest.used == 2 and len(manifest) == 18, "by their files: 9 s, and 9.33 s"
    clips = ClipDataset(manifest, DataConfig(inputs=inputs), seed=0)
    paths = [str(tmp_path / f"a_{kind}.npy") for kind in wanted.kinds]
    half = moments / 1.5 / 2
    for second in range(9):
        start, end = max(0.0, second + 0.5 - half), min(9.0, second + 0.5 + half)
        rows = clips[ClipRef(second, EVALUATION)][0]["video_feat"].numpy()
        assert np.array_equal(rows, stored.read_window(paths, wanted, start, end)) and len(rows), second


def test_a_video_is_as_long_as_its_media_where_these_are_read_and_else_as_its_features(root, tmp_path):
    for name in ("a", "b"):
        feature_files(tmp_path, {"2d": 4, "3d": 9}, name=name)
    wanted = replace(KINDS, root=str(tmp_path))
    for inputs, seconds in (
        (Inputs(None, None, None, wanted), [4.0, 4.0]),
        (replace(MEDIA, features=wanted), [9.0, 6.4]),
    ):
        table = manifest_of(root, inputs).table
        assert table.groupby("group")["video_seconds"].first().tolist() == pytest.approx(seconds, abs=0.01)
        assert table.groupby("group").size().tolist() == [int(each) for each in seconds]
    labels = manifest_of(root, Inputs(None, None, None, wanted)).table["labels"]
    assert [list(label) for label in labels] == [[], [2], [2], [], [1], [], [], []], "what begins at 7 s is left out"


def test_a_second_of_which_there_are_no_features_is_left_out_and_named(root, tmp_path, caplog):
    """The sound is 9 s long and the features 4 s: there is nothing to compare for the last seconds."""
    for name in ("a", "b"):
        feature_files(tmp_path, {"2d": 4}, name=name)
    wanted = FeatureInputs(str(tmp_path), ["2d"], [1.0], [2], frames=1)
    inputs = Inputs(AudioInputs(frames=98), None, None, wanted)
    clips = ClipDataset(manifest_of(root, inputs), DataConfig(inputs=inputs), seed=0)
    assert [len(clips[ClipRef(second, EVALUATION)]) for second in range(9)] == [1] * 4 + [0] * 5
    assert f"{tmp_path / 'a_2d.npy'}: too short" in caplog.text


def test_a_video_whose_features_are_damaged_is_counted(root, tmp_path):
    feature_files(tmp_path, {"2d": 4}, name="a")
    (tmp_path / "b_2d.npy").write_bytes(b"this is not an array")
    wanted = FeatureInputs(str(tmp_path), ["2d"], [1.0], [2], frames=1)
    manifest = manifest_of(root, Inputs(None, None, None, wanted))
    assert manifest.used == 1 and sum(manifest.excluded.values()) == 2


def test_a_video_whose_features_are_empty_is_no_error(root, tmp_path):
    """Not even where less than a second is looked at."""
    feature_files(tmp_path, {"3d": 6}, name="a")
    feature_files(tmp_path, {"3d": 0}, name="b")
    inputs = Inputs(None, None, None, FeatureInputs(str(tmp_path), ["3d"], [1.5], [2], frames=1))
    manifest = manifest_of(root, inputs)
    clips = ClipDataset(manifest, DataConfig(inputs=inputs), seed=0)
    read = [len(clips[ClipRef(index, EVALUATION)]) for index in range(len(manifest))]
    assert sum(read) == 4 and set(manifest.table["group"][np.array(read) > 0]) == {"a"}
