"""What is cut of whole videos: the rows and the sound of a second whose steps are to be found, and log-mels whose 0 dB
is the video's loudest sound, in time and in training; as the authors' loaders have them."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from bench.config.compose import compose
from datamodules.base import Features
from datamodules.features.stored import read_window
from datamodules.loading.clips import ClipDataset
from datamodules.loading.loader import collate
from datamodules.loading.narration import Cut
from datamodules.loading.samplers import EVALUATION, ClipRef
from datamodules.manifest.build import Manifest, build_manifest
from datamodules.manifest.checks import Checks
from datamodules.media.decode import read_audio
from datamodules.source import Official, Source, class_lists
from datamodules.source.captions import Said
from datamodules.streams.decibels import DecibelMel
from datamodules.types import (
    Around,
    AudioInputs,
    AugmentConfig,
    DataConfig,
    FeatureInputs,
    Inputs,
    LoaderConfig,
    NarrationConfig,
)
from tests.media_files import noise, write_media

RATE = 16000
AUTHORS = json.loads((Path(__file__).parent.parent / "golden" / "seconds.json").read_text())
CASES = [(method, case) for method in ("everything_at_once", "mcn") for case in AUTHORS[method]]


class OneVideo(Source):
    """A video `v`, in whose seconds a step is to be found, or out of which training cuts clips."""

    name, title, folders, splits, media, boards = "one_video", "One video", ("One",), ("test",), "videos", ()
    classes: Any = ("stir",)

    @classmethod
    def required_files(cls) -> tuple[str, ...]:
        return ()

    def read_split(self, split: str) -> Official:
        columns = {"clip_id": ["v"], "video_id": ["v"], "start": 0.0, "end": np.inf, "labels": class_lists([[0]])}
        clips = pd.DataFrame(columns).astype({"clip_id": "str", "video_id": "str"})
        if self.narrated:
            return Official(clips, [clips["video_id"]])
        segments = pd.DataFrame({"clip_id": ["v"], "label": [0], "start": [0.0], "end": [1.0]})
        segments = segments.astype({"clip_id": "str"})
        return Official(clips, [clips["video_id"]], segments=segments, steps=class_lists([[0]]))


class Narrated(OneVideo):
    narrated = True


def manifest_of(source: type[Source], root: Path, inputs: Inputs) -> Manifest:
    return build_manifest(source(root), ["test"], inputs, Checks(root / "checks", workers=1))


def video(root: Path, seconds: int, rows: list[int]) -> np.ndarray:
    """A file whose first half is 40 dB louder than its second, and features whose row i is [i]; returns the sound."""
    sound = 0.5 * noise(seconds, RATE)
    sound[:, sound.shape[1] // 2 :] *= 0.01
    write_media(root / "v.wav", sound=sound, audio_codec="pcm_f32le")
    for kind, count in zip(("2d", "3d"), rows, strict=True):
        np.save(root / f"v_{kind}.npy", np.arange(count, dtype=np.float32)[:, None])
    return read_audio(root / "v.wav", 0.0, seconds, RATE)


def levels_of(sound: np.ndarray) -> torch.Tensor:
    """[F, 40] of a whole sound; `test_decibels.py` compares them with the authors' function."""
    frames = len(sound) // 160 + 1
    mel = DecibelMel(AudioInputs(kind="decibel", frames=frames, mel_bins=40))
    return mel(torch.from_numpy(sound)[None], torch.tensor([len(sound)]))[0]


composed = cache(compose)


def localising(method: str, root: Path) -> Inputs:
    """What the method's recipe reads, of features of one number."""
    inputs = composed(method, ("preset=paper", "data_root=none")).stages["localise_crosstask"].data.inputs
    return replace(inputs, text=None, features=replace(inputs.features, root=str(root), dims=[1, 1]))


@pytest.mark.parametrize(("method", "case"), CASES, ids=lambda x: x if isinstance(x, str) else f"{x['seconds']} s")
def test_each_second_reads_the_rows_and_columns_of_the_authors_loader(method, case, tmp_path):
    whole_FM = levels_of(video(tmp_path, case["seconds"], case["rows"]))
    inputs = localising(method, tmp_path)
    clips = ClipDataset(manifest_of(OneVideo, tmp_path, inputs), DataConfig(inputs=inputs), seed=0)
    assert len(clips) == case["seconds"] == len(case["each"])
    for second, (rows_2d, rows_3d, first, count) in enumerate(case["each"]):
        (read,) = clips[ClipRef(second, EVALUATION)]
        rows = [each.tolist() for each in read["video_feat"].T]
        if method == "mcn":  # the most of them counts, so that none may be missing and it does not matter how often
            rows = [sorted(set(each)) for each in rows]
        assert rows == [rows_2d, rows_3d], second
        assert torch.equal(read["audio"], whole_FM[first : first + count]), second


def test_the_sound_around_a_second_is_as_loud_as_it_is_in_its_video(tmp_path):
    """A quiet stretch alone would be brought up to 0 dB."""
    video(tmp_path, 20, [20, 30])
    around = Around(1.0, 2.0)
    heard = {}
    for reference in ("clip", "source"):
        audio = AudioInputs(kind="decibel", frames=300, mel_bins=40, mean=0.0, std=1.0, scale=1.0)
        inputs = Inputs(replace(audio, reference=reference, around=around), None)
        clips = ClipDataset(manifest_of(OneVideo, tmp_path, inputs), DataConfig(inputs=inputs), seed=0)
        batch = Features(inputs, AugmentConfig())(collate([clips[ClipRef(15, EVALUATION)]]), train=False)
        assert batch["audio"].shape == (1, 1, 300, 40) and batch["audio_length"].tolist() == [300]
        heard[reference] = batch["audio"]
    assert heard["clip"].max() == 0.0 and heard["source"].max() < -30
    apart = heard["clip"][:, :, 5:-5] - heard["source"][:, :, 7:-3]  # theirs begin up to two columns early
    assert apart.std() < 0.5, "the two are one spectrogram, but for the borders and where 0 dB is"


@pytest.mark.parametrize("shift", [0.0, 4.0])
def test_training_clips_are_cut_of_the_log_mels_of_the_whole_video(shift, tmp_path, monkeypatch):
    whole_FM = levels_of(video(tmp_path, 30, [30, 45]))
    cuts = [Cut(2.0, 10.5, "said"), Cut(16.25, 25.0, "said"), Cut(27.0, 30.0, "said"), Cut(0.0, 8.0, "said")]
    monkeypatch.setattr("datamodules.loading.narration.around_captions", lambda *_: cuts)
    inputs = Inputs(AudioInputs(kind="decibel", frames=768, mel_bins=40, reference="source"), None)
    manifest = manifest_of(Narrated, tmp_path, inputs)
    manifest.table["caption_row"] = 0
    narration = NarrationConfig(4, "captions", 8.0, audio_shift=shift)
    config = DataConfig(inputs=inputs, narration=narration, loader=LoaderConfig(train_windows=1))
    clips = ClipDataset(manifest, config, seed=0)
    clips.captions = type("Said", (), {"of": lambda *_: Said(np.zeros(1), np.ones(1), ["said"])})()
    read = clips[ClipRef(0, 0)]
    for cut, clip in zip(cuts, read, strict=True):
        first, stop = (max(0, int(100 * (t + shift) - 1.25)) for t in (cut.start, cut.end))  # librosa's time_to_frames
        expected = whole_FM[first : min(stop, first + 768, len(whole_FM))]
        assert abs(len(clip["audio"]) - len(expected)) <= 2 * (cut.end + shift > 30)  # theirs has what is left of it
        assert torch.equal(clip["audio"], expected[: len(clip["audio"])])
    batch = Features(inputs, AugmentConfig())(collate([read]), train=True)
    assert batch["audio_length"].tolist() == [len(clip["audio"]) for clip in read]
    assert batch["audio"].shape == (4, 1, 768, 40) and not batch["audio"].is_inference()


def test_a_source_is_read_once_for_the_clips_that_follow_each_other(tmp_path, monkeypatch):
    video(tmp_path, 20, [20, 30])
    inputs = localising("everything_at_once", tmp_path)
    clips = ClipDataset(manifest_of(OneVideo, tmp_path, inputs), DataConfig(inputs=inputs), seed=0)
    calls = []
    real = ClipDataset._media
    monkeypatch.setattr(ClipDataset, "_media", lambda *args: calls.append(args) or real(*args))
    for second in range(20):
        assert clips[ClipRef(second, EVALUATION)]
    assert len(calls) == 1


@pytest.mark.parametrize("rows", ["through", "covering"])
def test_rows_are_those_a_window_ends_in_or_those_it_covers(rows, tmp_path):
    video(tmp_path, 3, [10, 15])
    paths = [str(tmp_path / f"v_{kind}.npy") for kind in ("2d", "3d")]
    wanted = FeatureInputs(dims=[1, 1], rows=rows)
    last = {"through": (5.0, 7.0), "covering": (4.0, 7.0)}[rows]
    window = read_window(paths, wanted, 3.0, 5.0)
    assert (window[0, 0], window[-1, 0]) == (3.0, last[0]) and (window[0, 1], window[-1, 1]) == (4.0, last[1])
