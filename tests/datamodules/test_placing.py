"""Where a clip lies in a file: its name decides first, then its length; never is it second 0 for want of better."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from datamodules.audioset import AudioSet
from datamodules.loading.clips import ClipDataset
from datamodules.loading.samplers import EVALUATION, ClipRef
from datamodules.manifest.build import Manifest, build_manifest
from datamodules.manifest.checks import Checks
from datamodules.manifest.placing import WHICH_SECONDS, Files, offsets
from datamodules.source import DataError
from datamodules.types import AudioInputs, DataConfig, Inputs
from datamodules.vggsound import VGGSound
from tests.media_files import noise, write_media

INPUTS = Inputs(AudioInputs(sample_rate=8000), None)
BARE = [
    # Start, end, seconds of the file; where the clip begins in it (None: which seconds?), how much of it there is
    (20.0, 30.0, 28.0, 20.0, 8.0),
    (290.0, 300.0, 299.2, 290.0, 9.2),
    (30.0, 40.0, 35.0, 30.0, 5.0),
    (30.0, 40.0, 60.0, 30.0, 10.0),
    (0.0, 10.0, 60.0, 0.0, 10.0),
    (0.0, 10.0, 4.0, 0.0, 4.0),
    (30.0, 40.0, 10.0, 0.0, 10.0),
    (30.0, 40.0, 10.3, 0.0, 10.0),
    (30.0, 40.0, 6.0, 0.0, 6.0),  # a whole video would reach to second 30
    (5.0, 15.0, 10.0, 0.0, 10.0),
    (5.0, 15.0, 8.0, None, None),  # cut and short, or the whole video, of which 3 s are the clip's?
    (30.0, 40.0, 14.0, None, None),  # too long for the clip, too short for the whole video
    (0.5, 10.5, 10.2, None, None),  # fits both
]
TIMED = [
    ("{id}_1000_11000", 1.0, 11.0, 11.6, 10.0),
    ("{id}_30000", 30.0, 40.0, 45.0, 10.0),
    ("{id}_5", 5.0, 15.0, 8.0, 8.0),
]
SHARED = [
    # Segments of one file with the bare id, its seconds, where they begin
    ([(0.0, 10.0), (30.0, 40.0)], 10.0, [None, None]),
    ([(5.0, 15.0), (30.0, 40.0)], 14.0, [None, None]),
    ([(5.0, 15.0), (30.0, 40.0)], 38.0, [5.0, 30.0]),
]


def sound(path: Path, seconds: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_media(path, sound=noise(seconds, 8000), rate=8000, audio_codec="pcm_s16le")


def audioset(folder: Path, segments: list[tuple[str, float, float]]) -> AudioSet:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "SAMPLE.json").touch()
    (folder / "class_labels_indices.csv").write_text('index,mid,display_name\n0,/m/0a,"A"\n')
    rows = "".join(f'{id_}, {start:.3f}, {end:.3f}, "/m/0a"\n' for id_, start, end in segments)
    (folder / "eval_segments.csv").write_text("# YTID, start_seconds, end_seconds, positive_labels\n" + rows)
    return AudioSet(folder)


def build(source: AudioSet, media: str | None = None) -> Manifest:
    return build_manifest(source, ["eval"], INPUTS, Checks(source.root.parent / "checks", workers=1), media)


def places(manifest: Manifest) -> dict[str, tuple[float, float]]:
    table = manifest.table
    return {
        clip: (offset, round(seconds, 2))
        for clip, offset, seconds in zip(table["clip_id"], table["audio_offset"], table["seconds"], strict=True)
    }


def identifier(number: int) -> str:
    return f"abcdefgh-{number:02}"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> AudioSet:
    """All cases in one folder: bare ids from 0 on, names with times from 30, files of several clips from 60."""
    root, segments = tmp_path_factory.mktemp("placing") / "AudioSet", []
    for number, (start, end, seconds, _, _) in enumerate(BARE):
        segments.append((identifier(number), start, end))
        sound(root / f"{'Y' * (number % 2)}{identifier(number)}.wav", seconds)
    for number, (name, start, end, seconds, _) in enumerate(TIMED, 30):
        segments.append((identifier(number), start, end))
        sound(root / f"{name.format(id=identifier(number))}.wav", seconds)
    for number, (mine, seconds, _) in enumerate(SHARED, 60):
        segments += [(identifier(number), *segment) for segment in mine]
        sound(root / f"Y{identifier(number)}.wav", seconds)
    return audioset(root, segments)


@pytest.fixture(scope="module")
def auto(data: AudioSet) -> Manifest:
    return build(data)


def of(number: int, start: float) -> str:
    return f"{identifier(number)}_{round(1000 * start)}"


def test_a_name_with_a_time_is_a_cut_clip_whatever_its_length(auto):
    found = places(auto)
    for number, (_, start, _, _, seconds) in enumerate(TIMED, 30):
        assert found[of(number, start)] == (0.0, seconds)


def test_a_file_with_a_bare_id_is_placed_by_its_length_and_left_out_where_that_is_ambiguous(auto):
    found = places(auto)
    for number, (start, _, _, offset, seconds) in enumerate(BARE):
        assert found.get(of(number, start)) == (None if offset is None else (offset, seconds)), BARE[number]


def test_one_file_of_several_clips_is_their_whole_video_or_nobody_s(auto):
    found = places(auto)
    for number, (segments, _, begins) in enumerate(SHARED, 60):
        starts = [found.get(of(number, start), (None,))[0] for start, _ in segments]
        assert starts == begins, SHARED[number - 60]


def test_what_is_ambiguous_is_counted_with_its_cure(auto, data, tmp_path):
    unclear = sum(offset is None for *_, offset, _ in BARE) + sum(offsets.count(None) for *_, offsets in SHARED)
    assert auto.excluded == {WHICH_SECONDS: unclear} and auto.examples[WHICH_SECONDS]
    assert auto.coverage == pytest.approx(1 - unclear / auto.official)
    alone = audioset(tmp_path / "AudioSet", [("abcdefghijk", 30.0, 40.0)])
    sound(alone.root / "abcdefghijk.wav", 14.0)
    with pytest.raises(DataError, match=r"1 which seconds\? .*data\.media=clips or data\.media=videos"):
        build(alone)


def test_a_whole_video_that_ends_within_a_clip_is_counted_as_short(auto):
    short = [row for row in BARE if row[4] is not None and row[4] < row[1] - row[0] - 0.5]
    assert auto.short == len(short) + 2  # and the named one, and the second of the shared ones


@pytest.mark.parametrize("media", ["clips", "videos"])
def test_the_setting_says_what_bare_ids_are_and_names_with_times_stay_clips(data, media):
    manifest = build(data, media)
    found = places(manifest)
    for number, (start, *_) in enumerate(BARE):
        if media == "clips" or start < BARE[number][2]:
            assert found[of(number, start)][0] == (0.0 if media == "clips" else start)
    for number, (_, start, *_) in enumerate(TIMED, 30):
        assert found[of(number, start)][0] == 0.0
    # A cut clip is one clip's alone.
    shared = sum(len(segments) for segments, *_ in SHARED)
    assert manifest.excluded.get(WHICH_SECONDS, 0) == (shared if media == "clips" else 0)


def test_the_samples_are_those_of_the_clip_s_seconds(auto):
    row = auto.table.index[auto.table["clip_id"] == of(0, 20.0)][0]
    read = ClipDataset(auto, DataConfig(inputs=INPUTS), seed=0)[ClipRef(row, EVALUATION)][0]["audio"].numpy()
    assert np.allclose(read, noise(28.0, 8000)[0, 160000 : 160000 + len(read)], atol=1e-3) and len(read) == 64000


def test_a_clip_that_was_cut_too_long_is_read_from_its_first_second(tmp_path):
    """Of a file `<id>_000001` of 11.6 s, which reaches to where the clip would end in the whole video."""
    root = tmp_path / "VGGSound"
    root.mkdir()
    (root / "SAMPLE.json").touch()
    (root / "stat.csv").write_text("a,1,x\n")
    (root / "test.csv").write_text("aaaaaaaaaaa_000001.mp4,a\n")
    sound(root / "aaaaaaaaaaa_000001.wav", 11.6)
    manifest = build_manifest(VGGSound(root), ["test"], INPUTS, Checks(tmp_path / "checks", workers=1))
    assert manifest.table[["audio_offset", "seconds"]].to_numpy().tolist() == [[0.0, 10.0]]


def test_a_file_named_with_the_start_is_taken_before_one_with_the_bare_id(tmp_path):
    source = audioset(tmp_path / "AudioSet", [("abcdefghijk", 30.0, 40.0)])
    sound(source.root / "a" / "Yabcdefghijk.wav", 14.0)
    sound(source.root / "b" / "abcdefghijk_30000_40000.wav", 10.0)
    assert build(source).table["audio_path"][0].endswith("b/abcdefghijk_30000_40000.wav")


@pytest.mark.parametrize("media", ["auto", "clips", "videos"])
def test_a_file_that_clips_of_different_recordings_share_is_nobody_s(media):
    """As where `kettle/00.wav` and `knife/00.wav` are listed with their folders, and looked for without."""
    table = pd.DataFrame({"video_id": ["kettle/00", "knife/00", "knife/01", "a/9", "b/9"], "start": 0.0, "end": np.inf})
    files = Files(
        pa.array(["kettle/00.wav", "knife/01.wav"]), {"audio": np.array([0, 0, 1, -1, -1])}, {}, np.full(5, "")
    )
    files.timed["audio"] = np.zeros(5, bool)
    found = offsets(table, files, "audio", np.full(5, 2.0), media)
    np.testing.assert_array_equal(found, [np.nan, np.nan, 0.0, 0.0, 0.0])  # a missing file is nobody's, too
