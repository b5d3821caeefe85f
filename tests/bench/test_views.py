"""Views: each window of each clip once, where they are cut, and their mean."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.transforms.functional import center_crop

from bench.run.gathered import one_row_a_clip
from datamodules.loading.clips import ClipDataset
from datamodules.loading.samplers import EVALUATION, ClipRef, EvalSampler
from datamodules.manifest.build import build_manifest
from datamodules.manifest.checks import Checks
from datamodules.media.decode import Media, read_audio, read_frames
from datamodules.streams.frames import square
from datamodules.types import AudioInputs, DataConfig, Inputs, VideoInputs
from datamodules.vggsound import VGGSound
from tests.media_files import write_media

VIEWS = 4


@given(count=st.integers(0, 40), batch=st.integers(1, 17), ranks=st.integers(1, 5), views=st.integers(1, 6))
def test_each_view_of_each_clip_is_read_exactly_once_for_any_number_of_ranks(count, batch, ranks, views):
    samplers = [EvalSampler(count, batch, rank=r, ranks=ranks, views=views) for r in range(ranks)]
    batches = [refs for sampler in samplers for refs in sampler]
    seen = sorted((ref.index, ref.view) for refs in batches for ref in refs)
    assert seen == [(index, view) for index in range(count) for view in range(views)]
    assert all(0 < len(refs) <= batch and {ref.epoch for ref in refs} == {EVALUATION} for refs in batches)
    assert sum(map(len, samplers)) == len(batches)


@given(
    views=st.lists(st.integers(0, 5), min_size=1, max_size=8).filter(any),
    width=st.integers(1, 3),
    seed=st.integers(0, 99),
)
def test_the_mean_over_views_equals_a_slow_reference(views, width, seed):
    rng = np.random.default_rng(seed)
    # The manifest's order is not that of the names; rows come from the ranks in any order.
    clips = pd.Series([f"clip{i}" for i in rng.permutation(len(views))])
    rows = [clip for clip, count in zip(clips, views, strict=True) for _ in range(count)]
    rows = [rows[i] for i in rng.permutation(len(rows))]
    label = {clip: rng.integers(0, 2, 3).astype(np.float32) for clip in clips}
    shapes = {"a": (width,), "av": (width,), "v": (2, width)}  # a task's scores may be of any shape
    scores = {name: rng.normal(size=(len(rows), *shape)).astype(np.float32) for name, shape in shapes.items()}
    found = one_row_a_clip(rows, np.stack([label[clip] for clip in rows]), scores, clips)

    counts = Counter(rows)
    assert found.clip_id == [clip for clip in clips if counts[clip]]
    assert np.array_equal(found.target, np.stack([label[clip] for clip in found.clip_id]))
    for name, given_rows in scores.items():
        assert found.scores[name].dtype == np.float32
        for clip, mean in zip(found.clip_id, found.scores[name], strict=True):
            own = [given_rows[i].astype(np.float64) for i, other in enumerate(rows) if other == clip]
            assert mean == pytest.approx(sum(own) / counts[clip], abs=1e-5)


def dataset(sample_root: Path, cache: Path, views: int, frames: int) -> ClipDataset:
    inputs = Inputs(AudioInputs(frames=frames), VideoInputs(frames=2, fps=2.0, size=32))
    manifest = build_manifest(VGGSound(sample_root / "VGGSound"), ["test"], inputs, Checks(cache))
    return ClipDataset(manifest, DataConfig(inputs=inputs), seed=0, views=views)


def test_the_windows_lie_evenly_over_a_long_clip(sample_root, tmp_path):
    clips = dataset(sample_root, tmp_path, VIEWS, frames=100)
    table, audio = clips.table, clips.config.inputs.audio
    for index in (0, 1):
        seconds, path = table.value("seconds", index), table.value("audio_path", index)
        starts = np.linspace(0, seconds - audio.seconds, VIEWS)
        windows = [clips[ClipRef(index, EVALUATION, view)][0] for view in range(VIEWS)]
        for start, window in zip(starts, windows, strict=True):
            # Opened anew each time: AAC's noise substitution depends on what was decoded before.
            expected = read_audio(path, float(start), audio.seconds, audio.sample_rate)
            assert np.array_equal(window["audio"].numpy(), expected)
        for start, window in zip(np.linspace(0, seconds - 1.0, VIEWS), windows, strict=True):
            expected = read_frames(path, (float(start), float(start) + 0.5), 32)
            assert np.array_equal(window["video"].numpy(), expected)
        assert not np.array_equal(windows[0]["audio"], windows[-1]["audio"])
        assert len({window["clip_id"] for window in windows}) == 1


def test_one_view_is_cut_at_the_start_and_a_short_clip_has_but_one_window(sample_root, tmp_path):
    one = dataset(sample_root, tmp_path, 1, frames=100)
    four = dataset(sample_root, tmp_path, VIEWS, frames=100)
    assert np.array_equal(one[ClipRef(0, EVALUATION)][0]["audio"], four[ClipRef(0, EVALUATION, 0)][0]["audio"])
    short = dataset(sample_root, tmp_path, VIEWS, frames=1024)
    first, last = (short[ClipRef(0, EVALUATION, view)][0]["audio"] for view in (0, VIEWS - 1))
    assert np.array_equal(first, last)


CROPS = 3
SIZE, SHORT_SIDE = 32, 40


def kept_in_shape(sample_root: Path, cache: Path, crops: int) -> ClipDataset:
    video = VideoInputs(frames=2, fps=2.0, size=SIZE, train_size=48, short_side=SHORT_SIDE)
    inputs = Inputs(AudioInputs(frames=100), video)
    manifest = build_manifest(VGGSound(sample_root / "VGGSound"), ["test"], inputs, Checks(cache))
    wide = cache / "wide.mp4"  # the sample's pictures are squares
    if not wide.exists():
        write_media(wide, frames=[noisy_frame(number) for number in range(12)], fps=4)
    manifest.table["video_path"] = str(wide)
    manifest.table["seconds"] = 3.0
    return ClipDataset(manifest, DataConfig(inputs=inputs), seed=0, views=2, crops=crops)


def noisy_frame(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(256, size=(48, 80, 3), dtype=np.uint8)


def test_each_window_is_looked_at_on_the_left_in_the_middle_and_on_the_right(sample_root, tmp_path):
    clips = kept_in_shape(sample_root, tmp_path, CROPS)
    for view in range(2):
        items = clips[ClipRef(0, EVALUATION, view)]
        start = view * (3.0 - 1.0)
        with Media(clips.table.value("video_path", 0)) as media:
            whole = torch.from_numpy(media.frames_short_side((start, start + 0.5), SHORT_SIDE))
        width, top = whole.shape[2], (SHORT_SIDE - SIZE) // 2
        assert width > SHORT_SIDE == whole.shape[1]
        for item, left in zip(items, (0, round((width - SIZE) / 2), width - SIZE), strict=True):
            assert torch.equal(item["video"], whole[:, top : top + SIZE, left : left + SIZE])
            assert torch.equal(item["audio"], items[0]["audio"]) and item["clip_id"] == items[0]["clip_id"]
    (middle,) = kept_in_shape(sample_root, tmp_path, 1)[ClipRef(0, EVALUATION, 0)]
    assert torch.equal(middle["video"], clips[ClipRef(0, EVALUATION, 0)][1]["video"])


def test_in_training_a_square_lies_anywhere_along_the_longer_side(sample_root, tmp_path):
    clips = kept_in_shape(sample_root, tmp_path, CROPS)
    with Media(clips.table.value("video_path", 0)) as media:
        width = media.frames_short_side((0.0,), 48).shape[2]
    assert width > 48
    clips.config.loader.train_windows = 1
    seen = [item["video"] for epoch in range(8) for item in clips[ClipRef(0, epoch)]]
    assert len(seen) == 8 and {video.shape for video in seen} == {(2, 48, 48, 3)}
    assert len({video.numpy().tobytes() for video in seen}) > 4


@pytest.mark.parametrize("shape", [(40, 61), (61, 40), (32, 32), (33, 32)])
def test_the_square_in_the_middle_is_torchvision_s(shape):
    frames = torch.randint(256, (2, *shape, 3), dtype=torch.uint8)
    assert torch.equal(square(frames, 32, 0.5), center_crop(frames.permute(0, 3, 1, 2), [32, 32]).permute(0, 2, 3, 1))
