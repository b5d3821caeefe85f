"""From manifest to batches, on real media: the same clips and numbers for any number of workers."""

from __future__ import annotations

import logging
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from datamodules.base import Features
from datamodules.loading import cache
from datamodules.loading.clips import ClipDataset
from datamodules.loading.loader import Loader, collate, worker_count
from datamodules.loading.samplers import EVALUATION, ClipRef, EvalSampler, TrainSampler
from datamodules.manifest.build import Manifest, build_manifest
from datamodules.manifest.checks import Checks
from datamodules.media.decode import read_audio, read_frames
from datamodules.streams.audio import LogMel, add_noise, roll_frames, spec_mask
from datamodules.streams.video import denormalise
from datamodules.types import AudioInputs, AugmentConfig, DataConfig, Inputs, LoaderConfig, RawBatch, VideoInputs
from datamodules.vggsound import VGGSound

INPUTS = Inputs(AudioInputs(frames=128), VideoInputs(frames=4, fps=2.0, size=64, train_size=72))
WITHOUT_MIXUP = AugmentConfig(
    roll_gain=True,
    freq_mask=16,
    time_mask=32,
    time_masks=2,
    noise=0.1,
    shift=10,
    crop_scale=0.5,
    flip=True,
    color_jitter=0.8,
    gray=0.1,
)
AUGMENT = replace(WITHOUT_MIXUP, mixup=0.5)


@pytest.fixture
def root(sample_root: Path, tmp_path: Path) -> Path:
    shutil.copytree(sample_root / "VGGSound", tmp_path / "VGGSound")
    return tmp_path / "VGGSound"


@pytest.fixture
def manifest(root: Path) -> Manifest:
    return build_manifest(VGGSound(root), ["test"], INPUTS, Checks(root.parent / "checks"))


def dataset(
    manifest: Manifest, inputs: Inputs = INPUTS, augment: AugmentConfig = WITHOUT_MIXUP, **loader
) -> ClipDataset:
    config = DataConfig(inputs=inputs, augment=augment, loader=LoaderConfig(**loader))
    return ClipDataset(manifest, config, seed=0)


def test_a_clip_is_what_media_reads_at_the_wanted_place(manifest):
    clip = dataset(manifest)[ClipRef(3, EVALUATION)][0]
    path = manifest.table["video_path"][3]
    sound = read_audio(path, 0.0, INPUTS.audio.seconds, 16000)
    assert np.array_equal(clip["audio"].numpy(), sound) and len(sound) == round(INPUTS.audio.seconds * 16000)
    assert np.array_equal(clip["video"].numpy(), read_frames(path, [0.0, 0.5, 1.0, 1.5], 64))
    assert torch.equal(clip["label"].nonzero().flatten(), torch.tensor(manifest.table["labels"][3]))


def test_training_cuts_sound_and_pictures_at_the_same_share_of_the_clip(manifest):
    clips = dataset(manifest, train_windows=2)
    path, length = manifest.table["video_path"][0], manifest.table["seconds"][0]
    starts = set()
    for epoch in range(8):
        clip = clips[ClipRef(0, epoch)][0]
        late = not np.array_equal(clip["audio"].numpy(), read_audio(path, 0.0, INPUTS.audio.seconds, 16000))
        starts.add(late)
        begin = (length - INPUTS.video.seconds) * late
        assert np.array_equal(clip["video"].numpy(), read_frames(path, begin + np.arange(4) / 2, 72))
    assert starts == {False, True}


def test_a_modality_that_is_not_wanted_is_not_decoded(manifest, monkeypatch):
    from datamodules.media.decode import Media

    monkeypatch.setattr(Media, "frames", lambda *_: pytest.fail("frames were decoded"))
    assert "frames" not in dataset(manifest, Inputs(AudioInputs(frames=128), None))[ClipRef(0, 0)][0]


def test_batches_do_not_depend_on_workers_or_ranks(manifest):
    """One rank reads with two workers, the other and the whole batch's process by themselves."""
    features = Features(INPUTS, AUGMENT)

    def batches(ranks: int, rank: int, workers: int) -> list:
        sampler = TrainSampler(len(manifest), 2, 8, rank=rank, ranks=ranks)
        loader = Loader(
            dataset(manifest, augment=AUGMENT), batch_sampler=sampler, num_workers=workers, collate_fn=collate
        )
        return [features(raw, train=True) for raw in loader]

    whole = batches(1, 0, 0)
    halves = [batches(2, 0, 2), batches(2, 1, 0)]
    assert len(whole) == 2 * (61 // 8)
    for step, batch in enumerate(whole):
        parts = [half[step] for half in halves]
        assert batch["clip_id"] == parts[0]["clip_id"] + parts[1]["clip_id"]
        assert torch.equal(batch["key"], torch.cat([part["key"] for part in parts]))
        for name in ("audio", "video", "label"):
            torch.testing.assert_close(batch[name], torch.cat([p[name] for p in parts]), rtol=0, atol=1e-5)
    mixed = [(batch["label"].amax(dim=1) < 1).sum() for batch in whole]
    assert 0 < sum(mixed) < 8 * len(whole)


def test_epochs_see_a_clip_differently_and_a_repeat_sees_it_the_same(manifest):
    features = Features(INPUTS, AUGMENT)

    def seen(epoch: int) -> torch.Tensor:
        clips = dataset(manifest, augment=AUGMENT)
        return features(collate([clips[ClipRef(i, epoch)] for i in range(4)]), train=True)["video"]

    assert torch.equal(seen(1), seen(1)) and not torch.equal(seen(1), seen(2))


def test_a_clip_drawn_again_in_an_epoch_is_seen_differently_and_a_view_of_evaluation_has_the_clips_key(manifest):
    clips = dataset(manifest)
    keys = [clips[ClipRef(3, 1, view)][0]["key"] for view in range(3)]
    assert len(set(keys)) == 3 and keys[0] == clips[ClipRef(3, 1)][0]["key"]
    assert clips[ClipRef(3, EVALUATION, 0)][0]["key"] == clips[ClipRef(3, EVALUATION, 1)][0]["key"]


def test_evaluation_is_free_of_augmentation(manifest):
    raw = collate([dataset(manifest)[ClipRef(i, EVALUATION)] for i in range(4)])
    plain = Features(INPUTS, AugmentConfig())(dict(raw), train=False)
    augmenting = Features(INPUTS, AUGMENT)(dict(raw), train=False)
    for name in ("audio", "video", "label"):
        assert torch.equal(plain[name], augmenting[name])


def raw_clips(count: int = 8) -> RawBatch:
    """Noise with pictures, made up."""
    generator = torch.Generator().manual_seed(0)
    return RawBatch(
        clip_id=[str(i) for i in range(count)],
        key=torch.arange(count),
        audio=0.1 * torch.randn(count, 20000, generator=generator),
        audio_length=torch.full((count,), 20000),
        video=torch.randint(0, 256, (count, 4, 72, 72, 3), dtype=torch.uint8, generator=generator),
        label=torch.eye(count),
    )


def test_log_mels_are_masked_normalised_made_noisy_and_rolled_in_this_order():
    """UAVM's order (`src/dataloader.py`), so that neither noise nor roll is normalised and padding is rolled with."""
    inputs = Inputs(AudioInputs(frames=128, scale=1.0, mean=-5.081, std=4.4849), None)
    augment = AugmentConfig(freq_mask=48, time_mask=64, time_masks=2, noise=0.1, shift=10)
    raw, key = raw_clips(), torch.arange(8)
    mel = LogMel(inputs.audio)(raw["audio"], raw["audio_length"])
    mel = (spec_mask(mel, key, 48, 64, 2) + 5.081) / 4.4849
    expected = roll_frames(add_noise(mel, key, 0.1), key, 10)
    torch.testing.assert_close(Features(inputs, augment)(raw, train=True)["audio"][:, 0], expected)


@pytest.mark.parametrize("name", ["noise", "shift", "color_jitter", "gray"])
def test_an_augmentation_changes_what_it_names_in_training_and_nothing_else(name):
    inputs = Inputs(AudioInputs(frames=128), VideoInputs(frames=4, fps=2.0, size=64, train_size=72))
    augment = AugmentConfig(**{name: 10 if name == "shift" else 1.0})
    plain, changed = (Features(inputs, which)(raw_clips(), train=True) for which in (AugmentConfig(), augment))
    heard = name in ("noise", "shift")
    assert torch.equal(plain["audio"], changed["audio"]) != heard
    assert torch.equal(plain["video"], changed["video"]) == heard


def test_colours_are_changed_on_pixels_from_0_to_1():
    """Grey is grey before it is normalised, and no pixel leaves 0..1."""
    inputs = Inputs(None, VideoInputs(frames=4, fps=2.0, size=64, train_size=72))
    video = Features(inputs, AugmentConfig(color_jitter=1.0, gray=1.0))(raw_clips(), train=True)["video"]
    pixels = denormalise(video, inputs.video.mean, inputs.video.std)
    assert pixels.min() > -1e-6 and pixels.max() < 1 + 1e-6
    torch.testing.assert_close(pixels[:, :1].expand_as(pixels), pixels, rtol=0, atol=1e-6)


def test_a_clip_that_vanishes_is_left_out_of_evaluation_and_replaced_in_training(manifest, caplog):
    Path(manifest.table["video_path"][5]).unlink()
    clips = dataset(manifest)
    with caplog.at_level(logging.WARNING):
        assert clips[ClipRef(5, EVALUATION)] == []
        assert clips[ClipRef(5, 0)][0]["clip_id"] == manifest.table["clip_id"][6]
    assert caplog.text.count("left out") == 2
    loader = Loader(clips, batch_sampler=EvalSampler(len(clips), 4), collate_fn=collate)
    seen = [clip for raw in loader for clip in raw["clip_id"]]
    assert len(seen) == 60 and manifest.table["clip_id"][5] not in seen


def test_when_the_disk_is_gone_training_stops_and_says_so(manifest):
    shutil.rmtree(Path(manifest.table["video_path"][0]).parent)
    with pytest.raises(RuntimeError, match="clips in a row cannot be read"):
        _ = dataset(manifest)[ClipRef(0, 0)]


def test_collate_pads_sound_with_zeros_and_tells_its_length():
    clips = [
        {"clip_id": str(n), "key": n, "label": torch.zeros(2), "audio": torch.ones(n), "audio_length": torch.tensor(n)}
        for n in (3, 5)
    ]
    batch = collate([[clips[0]], [], [clips[1]]])
    assert batch["audio"].tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]
    assert batch["audio_length"].tolist() == [3, 5] and batch["clip_id"] == ["3", "5"]
    assert collate([[], []]) is None


def test_the_cache_gives_what_decoding_gives_and_keeps_to_its_limit(manifest, monkeypatch):
    monkeypatch.setattr(cache, "decoded", cache.DecodedCache())
    fresh = dataset(manifest)[ClipRef(2, 0)][0]
    cached = dataset(manifest, cache_gb=1.0)
    first, second = cached[ClipRef(2, 0)][0], cached[ClipRef(2, 0)][0]
    assert torch.equal(first["video"], fresh["video"]) and torch.equal(first["audio"], fresh["audio"])
    assert second["video"] is first["video"]
    size = first["video"].nbytes
    small = cache.DecodedCache()
    for key in range(5):
        small.get(key, lambda: first["video"].clone(), limit=3 * size)
    made = []
    for key in range(5):
        small.get(key, lambda key=key: made.append(key) or first["video"], limit=3 * size)
    assert made == [3, 4]


def test_workers_are_as_wanted_or_a_share_of_the_cores(monkeypatch):
    monkeypatch.setattr("datamodules.loading.loader.cores", lambda: 32)
    assert (worker_count(3), worker_count(0), worker_count(-1), worker_count(-1, 8)) == (3, 0, 16, 3)
