"""What is seen and heard past a clip's end, and up to where a clip's sound is read."""

from __future__ import annotations

import re
from pathlib import Path

import av
import numpy as np
import pytest
import torch
import torchaudio
import yaml

from bench import registry
from bench.config.compose import compose
from datamodules.base import Features
from datamodules.loading.clips import ClipDataset
from datamodules.loading.loader import collate
from datamodules.loading.samplers import EVALUATION, ClipRef
from datamodules.manifest.build import build_manifest
from datamodules.manifest.checks import Checks
from datamodules.packing.pack import pack
from datamodules.packing.shards import PackedFormat, open_pack
from datamodules.streams.audio import normalise
from datamodules.types import AudioInputs, AugmentConfig, DataConfig, FeatureInputs, Inputs, VideoInputs
from datamodules.vggsound import VGGSound
from tests.media_files import noise, number_of, numbered_frame, write_media


def vggsound(root: Path, starts: list[int], **media) -> VGGSound:
    """A list of 10 s clips of one source video at these seconds, and one media file for all of its clips."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "stat.csv").write_text("barking,1,1\n")
    (root / "vggsound.csv").write_text("".join(f"abcdefghijk,{start},barking,test\n" for start in starts))
    for start in starts:
        write_media(root / f"abcdefghijk_{start:06}.mp4", **media)
    return VGGSound(root)


def clips_of(source: VGGSound, inputs: Inputs, **fields) -> ClipDataset:
    manifest = build_manifest(source, ["test"], inputs, Checks(source.root.parent / "checks", workers=1), **fields)
    return ClipDataset(manifest, DataConfig(inputs=inputs), seed=0)


# --- pictures -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def three_seconds(tmp_path_factory: pytest.TempPathFactory) -> VGGSound:
    """A cut clip of 3 s: 30 numbered frames."""
    frames = [numbered_frame(i) for i in range(30)]
    return vggsound(tmp_path_factory.mktemp("short") / "VGGSound", [30], frames=frames, sound=noise(3.0, 16000))


@pytest.mark.parametrize(
    ("past_end", "numbers"),
    [
        ("repeat", [0, 5, 10, 15, 20, 25, 0, 5]),
        ("zeros", [0, 5, 10, 15, 20, 25, None, None]),
        ("nothing", [0, 5, 10, 15, 20, 25, None, None]),
    ],
)
def test_pictures_past_the_clip_s_end_are_as_the_stream_says(three_seconds, past_end, numbers):
    inputs = Inputs(None, VideoInputs(frames=8, fps=2.0, size=32, past_end=past_end))
    clip = clips_of(three_seconds, inputs)[ClipRef(0, EVALUATION)][0]
    pictures = clip["video"].numpy()
    assert [number_of(picture) if picture.any() else None for picture in pictures] == numbers
    batch = Features(inputs, AugmentConfig())(collate([[clip]]), train=False)
    assert batch["video"].shape == (1, 3, 8, 32, 32)
    assert ("video_length" in batch) == (past_end == "nothing")
    assert past_end != "nothing" or batch["video_length"].tolist() == [6]


def test_a_stage_that_extracts_stores_zeros_for_pictures_that_are_not_there(three_seconds):
    """UAVM's authors store 9 vectors of a clip of 3 s, which are padded with zeros to 30 where they are read."""
    from bench.contract.cases import composed, spec
    from experiments.uavm.method import Extract

    inputs = Inputs(None, VideoInputs(frames=30, fps=3.0, size=32, past_end="nothing"))
    clip = clips_of(three_seconds, inputs)[ClipRef(0, EVALUATION)][0]
    batch = Features(inputs, AugmentConfig())(collate([[clip]]), train=False)
    torch.manual_seed(0)
    with torch.no_grad():
        features = Extract(spec(composed("uavm"), "extract_vggsound_v")).eval().predict_step(batch, 0)["features"]
    assert features.shape == (1, 30, 96)
    assert features[0, :9].any(dim=1).all() and not features[0, 9:].any()


# --- sound --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["kaldi", "decibel"])
def test_log_mels_past_the_sound_s_end_are_zeros_or_start_over(kind):
    sound = [torch.randn(n, generator=torch.Generator().manual_seed(n)) for n in (5000, 9000, 0)]
    clips = [
        {"clip_id": "", "key": n, "label": torch.zeros(1), "audio": s, "audio_length": torch.tensor(len(s))}
        for n, s in enumerate(sound)
    ]
    zeros, repeat = (
        Features(Inputs(AudioInputs(kind, frames=100, mel_bins=40, past_end=how), None), AugmentConfig())(
            collate([clips]), train=False
        )
        for how in ("zeros", "repeat")
    )
    silence = normalise(torch.zeros(1), AudioInputs())
    for clip, length in enumerate(zeros["audio_length"].tolist()):
        assert (length > 0) == (clip < 2)
        there = zeros["audio"][clip, 0, :length]
        assert torch.equal(zeros["audio"][clip, 0, length:], silence.expand(100 - length, 40))
        expected = there.repeat(-(-100 // length), 1)[:100] if length else silence.expand(100, 40)
        assert torch.equal(repeat["audio"][clip, 0], expected)
    assert repeat["audio_length"].tolist() == [100, 100, 0]


def test_features_past_the_clip_s_end_are_zeros_or_start_over():
    rows = torch.arange(1.0, 4.0)[:, None].expand(3, 2)
    clip = {"clip_id": "", "key": 0, "label": torch.zeros(1), "video_feat": rows, "video_feat_length": torch.tensor(3)}
    seen = {}
    for how in ("zeros", "repeat"):
        inputs = Inputs(None, None, None, FeatureInputs(None, ["2d"], [1.0], [2], frames=5, past_end=how))
        batch = Features(inputs, AugmentConfig())(collate([[clip]]), train=False)
        seen[how] = batch["video_feat"][0, :, 0].tolist(), batch["video_feat_length"].tolist()
    assert seen == {"zeros": ([1, 2, 3, 0, 0], [3]), "repeat": ([1, 2, 3, 1, 2], [5])}


# --- up to where sound is read ------------------------------------------------------------------------------------


def whole_sound(path: Path) -> np.ndarray:
    """Decoded from the first sample to the last, padding of the codec included, as ffmpeg does for the authors."""
    with av.open(str(path)) as container:
        return np.concatenate([frame.to_ndarray().mean(axis=0) for frame in container.decode(audio=0)])


@pytest.mark.parametrize("pictures", [False, True])
def test_all_log_mel_frames_of_a_cut_file_are_read_also_those_past_the_clip_s_end(tmp_path, pictures):
    """AAC's blocks of 1024 samples make 299 frames of 3 s of sound, as AST's and AudioMAE's loaders have them; 298 lie
    within 3 s."""
    frames = [numbered_frame(i) for i in range(30)]
    source = vggsound(tmp_path / "VGGSound", [0, 30], frames=frames, sound=noise(3.0, 16000))
    inputs = Inputs(AudioInputs(), VideoInputs(frames=1, size=32) if pictures else None)
    clips = clips_of(source, inputs)
    batch = Features(inputs, AugmentConfig())(collate([clips[ClipRef(i, EVALUATION)] for i in range(2)]), train=False)
    assert batch["audio_length"].tolist() == [299, 299]
    waveform = torch.from_numpy(whole_sound(source.root / "abcdefghijk_000030.mp4"))[None]
    options = {"htk_compat": True, "window_type": "hanning", "num_mel_bins": 128, "dither": 0.0, "frame_shift": 10}
    official = torchaudio.compliance.kaldi.fbank(waveform - waveform.mean(), sample_frequency=16000, **options)
    assert len(official) == 299
    torch.testing.assert_close(batch["audio"][1, 0, :299], normalise(official, inputs.audio), rtol=0, atol=1e-3)


@pytest.mark.parametrize("start", [0, 30])
def test_a_cut_file_that_is_too_long_is_cut_at_the_number_of_frames_alone(tmp_path, start):
    """Of 11.6 s the loaders read on past 10 s, up to their 1024 frames."""
    source = vggsound(tmp_path / "VGGSound", [start], sound=noise(11.6, 16000), frames=[numbered_frame(0)] * 116)
    inputs = Inputs(AudioInputs(frames=1024), None)
    clip = clips_of(source, inputs)[ClipRef(0, EVALUATION)][0]
    assert Features(inputs, AugmentConfig())(collate([[clip]]), train=False)["audio_length"].tolist() == [1024]


def test_a_clip_of_a_whole_video_ends_where_it_ends(tmp_path):
    source = vggsound(tmp_path / "VGGSound", [0, 2], sound=noise(14.0, 16000), frames=[numbered_frame(0)] * 140)
    (source.root / "abcdefghijk_000000.mp4").rename(source.root / "abcdefghijk.mp4")
    (source.root / "abcdefghijk_000002.mp4").unlink()
    inputs = Inputs(AudioInputs(frames=1024), None)
    clips = clips_of(source, inputs)
    assert [len(clips[ClipRef(i, EVALUATION)][0]["audio"]) for i in range(2)] == [160000, 160000]


def test_sound_that_ends_before_a_clip_is_counted_and_never_read_as_silence(tmp_path):
    """Pictures go on for 14 s; sound has ended at 3."""
    source = vggsound(tmp_path / "VGGSound", [0, 4], sound=noise(3.0, 16000), frames=[numbered_frame(0)] * 140)
    (source.root / "abcdefghijk_000000.mp4").rename(source.root / "abcdefghijk.mp4")
    (source.root / "abcdefghijk_000004.mp4").unlink()
    checks = Checks(tmp_path / "checks", workers=1)
    heard = build_manifest(source, ["test"], Inputs(AudioInputs(), None), checks)
    assert heard.table["start"].tolist() == [0.0] and heard.excluded["its sound ends before it"] == 1
    assert heard.table["sound_seconds"].tolist() == pytest.approx([3.0], abs=0.1) and heard.short == 1
    seen = build_manifest(source, ["test"], Inputs(None, VideoInputs()), checks)
    assert seen.table["seconds"].tolist() == [10.0, 10.0] and set(seen.excluded) == {"not listed"} and seen.short == 0


def test_a_pack_has_all_that_a_cut_file_has(tmp_path):
    source = vggsound(
        tmp_path / "VGGSound", [30], frames=[numbered_frame(i) for i in range(30)], sound=noise(3.0, 16000)
    )
    inputs = Inputs(AudioInputs(), VideoInputs(frames=2, fps=2.0, size=32, train_size=32))
    from_files = clips_of(source, inputs)
    manifest = build_manifest(source, ["test"], inputs, Checks(tmp_path / "checks", workers=1))
    pack(manifest, "vggsound", "test", str(tmp_path / "pack"), PackedFormat(16000, 2.0, 32), workers=1)
    packed = open_pack(str(tmp_path / "pack"), ["test"], inputs, "vggsound")
    ref = ClipRef(0, EVALUATION)
    sound = ClipDataset(packed, DataConfig(inputs=inputs), seed=0)[ref][0]["audio"]
    assert torch.equal(sound, from_files[ref][0]["audio"]) and len(sound) > 48000


# --- recipes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", registry.methods())
def test_every_recipe_states_what_is_past_a_clip_s_end_and_where_that_is_from(method):
    """Of each stream that any of its stages reads, on a line with the mark of a source."""
    texts = [registry.method_folder(method).joinpath("config.yaml").read_text()]
    included = yaml.safe_load(texts[0]).get("include") or []
    names = [included] if isinstance(included, str) else included
    texts += [(registry.RECIPES / name).read_text() for name in names]
    stated: dict[str, dict[str, object]] = {}
    for text in texts:
        for name, inputs in ((yaml.safe_load(text).get("data") or {}).get("inputs") or {}).items():
            if name in ("audio", "video", "features"):
                stated[name] = (stated.get(name) or {}) | (inputs or {})
    config = compose(method, ["preset=paper", "data_root=none"])
    for name in ("audio", "video", "features"):
        if any(getattr(stage.data.inputs, name) is not None for stage in config.stages.values()):
            assert "past_end" in (stated.get(name) or {}), f"data.inputs.{name}"
    lines = [line for text in texts for line in text.partition("\npresets:")[0].splitlines() if "past_end:" in line]
    assert lines and all(re.search(r"#.*\[.+\]", line) for line in lines), lines
