"""Views: each window of each clip once, where they are cut, and their mean."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.run.gathered import one_row_a_clip
from datamodules.loading.clips import ClipDataset
from datamodules.loading.samplers import EVALUATION, ClipRef, EvalSampler
from datamodules.manifest.build import build_manifest
from datamodules.manifest.checks import Checks
from datamodules.media.decode import read_audio, read_frames
from datamodules.types import AudioInputs, DataConfig, Inputs, VideoInputs
from datamodules.vggsound import VGGSound

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
