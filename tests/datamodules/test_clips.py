"""Clips of narrated videos: whole videos, texts, captions and feature files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from datamodules.audioset import AudioSet
from datamodules.base import Features
from datamodules.howto100m import HowTo100M
from datamodules.loading.clips import ClipDataset
from datamodules.loading.loader import Loader, collate
from datamodules.loading.samplers import EVALUATION, ClipRef, TrainSampler
from datamodules.manifest.build import Manifest, build_manifest
from datamodules.manifest.checks import Checks
from datamodules.media.decode import Media, read_audio
from datamodules.source import DataError
from datamodules.streams.text import make_tokenizer
from datamodules.types import (
    AudioInputs,
    AugmentConfig,
    DataConfig,
    FeatureInputs,
    Inputs,
    NarrationConfig,
    TextInputs,
    VideoInputs,
)
from datamodules.youcook2 import YouCook2
from tests.media_files import noise, number_of, numbered_frame, write_media
from tests.sample_data import SampleMaker

INPUTS = Inputs(AudioInputs(frames=96), VideoInputs(frames=2, fps=2.0, size=32, train_size=32), TextInputs(length=12))
COUNTS = {"youcook2": {"training": 3, "validation": 8}, "howto100m": {"train": 6}}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, make_sample: SampleMaker) -> Path:
    root = tmp_path_factory.mktemp("narrated")
    make_sample(root, list(COUNTS), counts=COUNTS)
    return root


@pytest.fixture(scope="module")
def youcook2(root: Path) -> Manifest:
    return build_manifest(YouCook2(root / "YouCook2"), ["train"], INPUTS, Checks(root / "checks"))


@pytest.fixture(scope="module")
def howto100m(root: Path) -> Manifest:
    source = HowTo100M(root / "HowTo100M", root / "cache")
    return build_manifest(source, ["train"], INPUTS, Checks(root / "checks"))


def test_a_segment_is_read_where_it_lies_in_its_video(youcook2):
    clips = ClipDataset(youcook2, DataConfig(inputs=INPUTS), seed=0)
    row = youcook2.table.iloc[2]
    assert row["audio_offset"] == row["video_offset"] == row["start"] > 0
    clip = clips[ClipRef(2, EVALUATION)][0]
    sound = read_audio(row["audio_path"], row["start"], min(0.975, row["seconds"]), 16000)
    assert np.array_equal(clip["audio"].numpy(), sound)
    with Media(row["video_path"]) as media:
        assert np.array_equal(clip["video"].numpy(), media.frames([row["start"], row["start"] + 0.5], 32))
    assert np.array_equal(clip["text"].numpy(), make_tokenizer(INPUTS.text)(row["text"]))
    assert len(clip["text"]) > 0


def test_a_cut_clip_begins_at_its_start_and_a_whole_video_at_its_offset(root, tmp_path):
    """`auto` decides by the file's length. Nobody can say of which of its segments a cut file with a video's id is."""
    source = YouCook2(root / "YouCook2")
    table = build_manifest(source, ["train"], INPUTS, Checks(root / "checks"), media="auto").table
    assert (table["audio_offset"] == table["start"]).all() and (table["video_offset"] == table["start"]).all()
    with pytest.raises(DataError, match=r"17 which seconds\?"):
        build_manifest(source, ["train"], INPUTS, Checks(root / "checks"), media="clips")


def test_a_cut_sound_beside_a_whole_video_are_each_read_at_their_place(tmp_path):
    """A WAV of the 2 s that begin at 4 s, and the video of 8 s that they come from."""
    (tmp_path / "class_labels_indices.csv").write_text('index,mid,display_name\n0,/m/0a,"A"\n')
    header = "# 1\n# 2\n# YTID, start_seconds, end_seconds, positive_labels\n"
    (tmp_path / "eval_segments.csv").write_text(header + 'abcdefghijk, 4.000, 6.000, "/m/0a"\n')
    (tmp_path / "SAMPLE.json").touch()
    sound = noise(2.0, 16000)
    write_media(tmp_path / "abcdefghijk.wav", sound=sound, audio_codec="pcm_s16le")
    write_media(tmp_path / "abcdefghijk.mp4", frames=[numbered_frame(i) for i in range(80)], sound=noise(8.0, 16000))
    inputs = Inputs(AudioInputs(frames=48), VideoInputs(frames=2, fps=1.0, size=32))
    manifest = build_manifest(AudioSet(tmp_path), ["eval"], inputs, Checks(tmp_path / "checks", workers=1))
    clip = ClipDataset(manifest, DataConfig(inputs=inputs), seed=0)[ClipRef(0, EVALUATION)][0]
    assert np.allclose(clip["audio"], sound[0, : len(clip["audio"])], atol=1e-3)
    assert [number_of(picture) for picture in clip["video"].numpy()] == [40, 50]


def test_segments_behind_the_end_of_their_video_are_counted(root, tmp_path):
    (tmp_path / "csv").mkdir()
    video = next((root / "YouCook2").glob("raw_videos/training/*/*.mp4"))
    rows = f"2,0,101,first,{video.stem}\n900,890,101,never,{video.stem}\n"
    (tmp_path / "csv" / "validation_youcook.csv").write_text("end,start,task,text,video_id\n" + rows)
    (tmp_path / video.name).symlink_to(video)
    manifest = build_manifest(YouCook2(tmp_path), ["retrieval"], INPUTS, Checks(tmp_path / "checks"))
    assert manifest.excluded == {"beyond the end of its file": 1, "not listed": 3348} and len(manifest) == 1


def test_texts_are_padded_to_their_length_on_the_device(youcook2):
    clips = ClipDataset(youcook2, DataConfig(inputs=INPUTS), seed=0)
    raw = collate([clips[ClipRef(i, EVALUATION)] for i in range(4)])
    batch = Features(INPUTS, AugmentConfig())(raw, train=False)
    assert batch["text"].shape == (4, 12) and batch["text"].dtype == torch.int64
    for text, length in zip(batch["text"], batch["text_length"], strict=True):
        assert (text[:length] > 0).all() and (text[length:] == 0).all() and length > 0


def test_a_narrated_video_gives_several_clips_with_what_is_said_in_them(howto100m):
    config = DataConfig(inputs=INPUTS, narration=NarrationConfig(per_video=3, seconds=4.0))
    clips = ClipDataset(howto100m, config, seed=0)
    sampler = TrainSampler(len(howto100m), 1, 2)
    batches = list(Loader(clips, batch_sampler=sampler, num_workers=1, collate_fn=collate))
    assert [len(raw["clip_id"]) for raw in batches] == [6] * 3
    assert len({clip for raw in batches for clip in raw["clip_id"]}) == 18
    assert len({int(key) for raw in batches for key in raw["key"]}) == 18
    assert all(length > 0 for raw in batches for length in raw["text_length"])


def test_a_narrated_clip_is_its_captions_stretch_of_sound_and_text(howto100m):
    config = DataConfig(inputs=INPUTS, narration=NarrationConfig(per_video=2, seconds=0.0))
    clips = ClipDataset(howto100m, config, seed=0)
    said = howto100m.captions.of(int(howto100m.table["caption_row"][1]))
    tokenizer = make_tokenizer(INPUTS.text)
    for moment in clips._moments(ClipRef(1, 0)):
        index = list(said.start).index(np.float32(moment.start))
        assert moment.text == said.text[index] and moment.seconds == pytest.approx(said.end[index] - said.start[index])
    first = clips[ClipRef(1, 0)][0]
    moment = clips._moments(ClipRef(1, 0))[0]
    assert np.array_equal(first["text"].numpy(), tokenizer(moment.text))


def test_epochs_cut_other_clips_and_a_repeat_the_same(howto100m):
    config = DataConfig(inputs=INPUTS, narration=NarrationConfig(per_video=2))
    clips = ClipDataset(howto100m, config, seed=0)

    def starts(epoch: int) -> list[float]:
        return [m.start for i in range(6) for m in clips._moments(ClipRef(i, epoch))]

    assert starts(0) == starts(0) != starts(1)


def test_features_are_the_rows_of_the_moment(root, tmp_path, youcook2):
    wanted = FeatureInputs(str(tmp_path), ["2d", "3d"], [1.0, 1.5], [4, 2], frames=6)
    for video in youcook2.table["video_id"].unique():
        np.savez(tmp_path / f"{video}_2d.npz", features=np.arange(4 * 60).reshape(60, 4).astype(np.float16))
        np.save(tmp_path / f"{video}_3d.npy", np.arange(2 * 90).reshape(90, 2).astype(np.float32))
    inputs = Inputs(None, None, None, wanted)
    manifest = build_manifest(YouCook2(root / "YouCook2"), ["train"], inputs, Checks(root / "checks"))
    assert len(manifest) == len(youcook2)
    clip = ClipDataset(manifest, DataConfig(inputs=inputs), seed=0)[ClipRef(2, EVALUATION)][0]
    row = manifest.table.iloc[2]
    first = int(row["start"] * 1.5)
    assert clip["video_feat"][0].tolist()[4:] == [2.0 * first, 2.0 * first + 1]
    assert clip["video_feat"].shape[1] == 6
    batch = Features(inputs, AugmentConfig())(collate([[clip]]), train=False)
    assert batch["video_feat"].shape == (1, 6, 6)


def test_clips_without_features_are_counted(root, tmp_path, youcook2):
    video = youcook2.table["video_id"][0]
    np.save(tmp_path / f"{video}_2d.npy", np.zeros((60, 4), np.float16))
    inputs = Inputs(None, None, None, FeatureInputs(str(tmp_path), ["2d"], [1.0], [4]))
    manifest = build_manifest(YouCook2(root / "YouCook2"), ["train"], inputs, Checks(root / "checks"))
    own = int((youcook2.table["video_id"] == video).sum())
    assert len(manifest) == own and manifest.excluded == {"no 2d features": len(youcook2) - own}


def test_text_that_a_dataset_does_not_have_is_an_error(sample_root, tmp_path):
    from datamodules.vggsound import VGGSound

    with pytest.raises(DataError, match="VGGSound has no text"):
        build_manifest(VGGSound(sample_root / "VGGSound"), ["test"], INPUTS, Checks(tmp_path))


def test_views_are_spread_evenly_over_the_clip(youcook2):
    inputs = Inputs(AudioInputs(frames=48), None)
    clips = ClipDataset(youcook2, DataConfig(inputs=inputs), seed=0, views=4)
    row = youcook2.table.iloc[0]
    length = inputs.audio.seconds
    for view, start in enumerate(np.linspace(row["start"], row["start"] + row["seconds"] - length, 4)):
        sound = clips[ClipRef(0, EVALUATION, view)][0]["audio"].numpy()
        assert np.allclose(sound, read_audio(row["audio_path"], start, length, 16000), atol=1e-6)


def test_views_of_features_are_spread_evenly_too(root, tmp_path, youcook2):
    for video in youcook2.table["video_id"].unique():
        np.save(tmp_path / f"{video}_2d.npy", np.arange(60, dtype=np.float32)[:, None])
    inputs = Inputs(None, None, None, FeatureInputs(str(tmp_path), ["2d"], [1.0], [1], frames=1))
    manifest = build_manifest(YouCook2(root / "YouCook2"), ["train"], inputs, Checks(root / "checks"))
    clips = ClipDataset(manifest, DataConfig(inputs=inputs), seed=0, views=2)
    row = manifest.table.iloc[0]
    seen = [clips[ClipRef(0, EVALUATION, view)][0]["video_feat"][0, 0].item() for view in (0, 1)]
    assert seen == [row["start"], row["end"] - 1]


def test_other_texts_are_another_fingerprint(root, tmp_path, howto100m, youcook2):
    source = HowTo100M(root / "HowTo100M", tmp_path / "cache")
    again = build_manifest(source, ["train"], INPUTS, Checks(root / "checks"))
    assert again.fingerprint == howto100m.fingerprint
    (tmp_path / "HowTo100M").mkdir()
    for file in (root / "HowTo100M").iterdir():
        if file.name != "caption.json":
            (tmp_path / "HowTo100M" / file.name).symlink_to(file)
    changed = (root / "HowTo100M" / "caption.json").read_text().replace(" the ", " a ", 1)
    (tmp_path / "HowTo100M" / "caption.json").write_text(changed)
    source = HowTo100M(tmp_path / "HowTo100M", tmp_path / "cache")
    assert build_manifest(source, ["train"], INPUTS, Checks(root / "checks")).fingerprint != howto100m.fingerprint
    said = youcook2.fingerprint
    youcook2 = build_manifest(YouCook2(root / "YouCook2"), ["train"], INPUTS, Checks(root / "checks"))
    assert youcook2.fingerprint == said
    youcook2.table.loc[0, "text"] = "something else"
    assert youcook2.fingerprint != said
