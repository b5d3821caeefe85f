"""Clips that training cuts out of narrated videos: windows without captions, both mixed, and sound that is shifted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from datamodules.base import Features
from datamodules.howto100m import HowTo100M
from datamodules.loading.clips import ClipDataset, OpenFiles
from datamodules.loading.loader import Loader, collate
from datamodules.loading.samplers import ClipRef, TrainSampler
from datamodules.manifest.build import Manifest, build_manifest
from datamodules.manifest.checks import Checks
from datamodules.media.decode import read_audio
from datamodules.source import DataError
from datamodules.source.captions import Captions, Said, grow
from datamodules.streams.reading import Moment
from datamodules.streams.text import make_tokenizer
from datamodules.types import (
    AudioInputs,
    AugmentConfig,
    DataConfig,
    FeatureInputs,
    Inputs,
    LoaderConfig,
    NarrationConfig,
    RawBatch,
    TextInputs,
    VideoInputs,
)
from tests.media_files import noise, number_of, numbered_frame, write_media

RATE = 16000
SECONDS = {"short": 2.5, "quiet": 21.3, "spoken": 20.0, "filmed": 12.0}
"""Video -> its length; `filmed` has pictures too."""
CAPTIONS = {
    "short": [(0.5, 1.5, "take it")],
    "quiet": [(19.0, 21.0, "the end")],
    "spoken": [(0.0, 9.0, "we stir"), (9.5, 20.0, "and wait")],
    "filmed": [(0.0, 3.5, "we cut"), (3.5, 7.5, "and look"), (7.5, 12.0, "and go")],
}
SOUND = Inputs(AudioInputs(frames=98), None)  # 0.995 s
SPOKEN = Inputs(AudioInputs(frames=98), None, TextInputs(length=6))
NO_WINDOWS = LoaderConfig(train_windows=1)
"""Clips are read at their start, as AVLnet, MCN and Everything at Once do."""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("HowTo100M")
    (root / "HowTo100M_v1.csv").write_text("video_id,category_1\n" + "".join(f"{video},x\n" for video in SECONDS))
    said = {
        video: dict(zip(("start", "end", "text"), map(list, zip(*lines, strict=True)), strict=True))
        for video, lines in CAPTIONS.items()
    }
    (root / "caption.json").write_text(json.dumps(said))
    for seed, (video, seconds) in enumerate(SECONDS.items()):
        frames = [numbered_frame(i) for i in range(120)] if video == "filmed" else None
        file = root / f"{video}{'.mkv' if frames else '.wav'}"
        write_media(file, frames=frames, sound=noise(seconds, RATE, seed=seed), audio_codec="pcm_s16le")
    return root


def manifest_of(root: Path, inputs: Inputs) -> Manifest:
    return build_manifest(HowTo100M(root, root / "cache"), ["train"], inputs, Checks(root / "checks", workers=1))


def clips_of(root: Path, inputs: Inputs, **narration: object) -> ClipDataset:
    """The videos in the order of `SECONDS`."""
    config = DataConfig(inputs=inputs, narration=NarrationConfig(**narration), loader=NO_WINDOWS)
    return ClipDataset(manifest_of(root, inputs), config, seed=0)


def sound_of(root: Path, video: str, start: float, seconds: float) -> np.ndarray:
    return read_audio(root / f"{video}{'.mkv' if video == 'filmed' else '.wav'}", start, seconds, RATE)


def batches(clips: ClipDataset, videos: int, workers: int = 0, **sampling: int) -> Iterator[RawBatch]:
    sampler = TrainSampler(len(clips), 1, videos, **sampling)
    return iter(Loader(clips, batch_sampler=sampler, num_workers=workers, collate_fn=collate))


# --- windows


def link_all_but_captions(root: Path, folder: Path) -> None:
    for file in root.iterdir():
        if file.suffix in (".csv", ".wav", ".mkv"):
            (folder / file.name).symlink_to(file)


@pytest.fixture
def without_captions(root, tmp_path, monkeypatch) -> Path:
    """The same data without caption files; to ask for what is said, or for words, is an error."""
    link_all_but_captions(root, tmp_path)

    def opened(*_: object) -> None:
        raise AssertionError("captions or words were opened")

    monkeypatch.setattr(HowTo100M, "captions", property(opened))
    monkeypatch.setattr(Captions, "of", opened)
    monkeypatch.setattr("datamodules.streams.text.make_tokenizer", opened)
    return tmp_path


def test_windows_need_no_captions_and_come_as_many_of_a_video_in_order(without_captions):
    clips = clips_of(without_captions, SOUND, per_video=5, cut="windows", seconds=4.0)
    assert clips.captions is None and "text" not in clips.streams
    sampler = TrainSampler(4, 1, 2)
    names = list(SECONDS)
    for refs, raw in zip(sampler, batches(clips, 2), strict=True):
        assert raw["clip_id"] == [f"{names[ref.index]}/{i}" for ref in refs for i in range(5)]
        assert len(raw["audio"]) == len(set(raw["key"].tolist())) == 10 and "text" not in raw


def test_windows_are_not_made_to_fit_captions_that_are_there(root, monkeypatch):
    monkeypatch.delattr(Captions, "of")
    clips = clips_of(root, SPOKEN, per_video=5, cut="windows", seconds=4.0)
    assert clips.captions is not None and {moment.text for moment in clips._moments(ClipRef(2, 0))} == {""}


def test_a_window_is_the_sound_from_a_whole_second_on(without_captions):
    clips = clips_of(without_captions, SOUND, per_video=8, cut="windows", seconds=4.0)
    for index, (video, length) in enumerate(SECONDS.items()):
        moments = clips._moments(ClipRef(index, 0))
        for moment, clip in zip(moments, clips[ClipRef(index, 0)], strict=True):
            assert moment.start in range(max(0, int(length - 4)) + 1)
            assert (moment.seconds, moment.text, moment.audio_shift) == (pytest.approx(min(4.0, length)), "", 0.0)
            assert np.array_equal(clip["audio"].numpy(), sound_of(without_captions, video, moment.start, 0.995))
    assert len({moment.start for moment in clips._moments(ClipRef(1, 0))}) > 2


def test_a_video_shorter_than_a_window_is_taken_whole(without_captions):
    inputs = Inputs(AudioInputs(frames=998), None)
    clips = clips_of(without_captions, inputs, per_video=2, cut="windows", seconds=10.0)
    for clip in clips[ClipRef(0, 0)]:
        assert np.array_equal(clip["audio"].numpy(), sound_of(without_captions, "short", 0.0, 2.5))


def test_what_needs_captions_says_so_where_there_are_none(without_captions, monkeypatch):
    monkeypatch.undo()
    with pytest.raises(DataError, match=r"HowTo100M: found none of caption\.json"):
        manifest_of(without_captions, SPOKEN)


# --- mixed


def mixed(root: Path, inputs: Inputs = SPOKEN, **narration: object) -> ClipDataset:
    return clips_of(root, inputs, **{"per_video": 6, "cut": "mixed", "seconds": 4.0, "audio_shift": 4.0, **narration})


def test_a_caption_s_sound_is_read_later_and_its_pictures_are_not(root):
    """All of `filmed` is spoken: each window starts within a caption."""
    inputs = Inputs(
        AudioInputs(frames=98), VideoInputs(frames=2, fps=1.0, size=32, train_size=32), TextInputs(length=6)
    )
    (index,) = np.flatnonzero(manifest_of(root, inputs).table["video_id"] == "filmed")
    clips = mixed(root, inputs, audio_shift=2.0)
    start, end, text = (list(column) for column in zip(*CAPTIONS["filmed"], strict=True))
    said = Said(np.array(start), np.array(end), text)
    moments, read = clips._moments(ClipRef(int(index), 0)), clips[ClipRef(int(index), 0)]
    assert {(m.start, m.start + m.seconds, m.text) for m in moments} <= {grow(said, i, 4.0) for i in range(3)}
    assert len({m.start for m in moments}) > 1
    for moment, clip in zip(moments, read, strict=True):
        first = int(10 * moment.start)
        assert [number_of(picture) for picture in clip["video"].numpy()] == [first, first + 10]
        assert np.array_equal(clip["audio"].numpy(), sound_of(root, "filmed", moment.start + 2.0, 0.995))
        assert np.array_equal(clip["text"].numpy(), make_tokenizer(inputs.text)(moment.text)) and len(clip["text"])


def test_without_a_caption_there_is_no_text_and_no_shift(root):
    """What is said in `quiet` lies at its end, where few windows reach."""
    moments = mixed(root)._moments(ClipRef(1, 0))
    plain = [moment for moment in moments if not moment.text]
    assert len(plain) > 2
    for moment, clip in zip(moments, mixed(root)[ClipRef(1, 0)], strict=True):
        if moment in plain:
            assert moment.audio_shift == 0.0 and moment.seconds == pytest.approx(4.0) and not len(clip["text"])
            assert np.array_equal(clip["audio"].numpy(), sound_of(root, "quiet", moment.start, 0.995))


def test_a_shift_of_nothing_reads_the_sound_of_the_caption(root):
    clips = mixed(root, audio_shift=0.0)
    for moment, clip in zip(clips._moments(ClipRef(2, 0)), clips[ClipRef(2, 0)], strict=True):
        assert moment.text and np.array_equal(clip["audio"].numpy(), sound_of(root, "spoken", moment.start, 0.995))


@pytest.mark.parametrize(
    ("start", "shift", "left"),
    [(5.0, 4.0, 4.0), (14.0, 4.0, 2.0), (14.0, 5.5, 0.5), (14.0, 6.0, 0.0), (14.0, 5.99999, 0.0), (19.0, 4.0, 0.0)],
)
@pytest.mark.parametrize("kind", ["kaldi", "decibel"])
def test_towards_the_end_of_the_video_the_shifted_sound_is_shorter_or_empty(root, start, shift, left, kind):
    """The video lasts 20 s; a clip of 4 s is read `shift` later."""
    inputs = Inputs(AudioInputs(kind=kind, frames=398), None)
    clips = clips_of(root, inputs, cut="windows")
    moment = Moment("x", 0, start, 4.0, "said", shift)
    with OpenFiles() as files:
        read = clips._clip(files, ClipRef(2, 0), moment)
    count = round(min(left, inputs.audio.seconds) * RATE)
    assert len(read["audio"]) == count
    if count:
        assert np.array_equal(read["audio"].numpy(), sound_of(root, "spoken", start + shift, count / RATE))
    other = {
        "clip_id": "y",
        "key": 1,
        "label": torch.zeros(0),
        "audio": torch.ones(RATE // 2),
        "audio_length": torch.tensor(RATE // 2),
    }
    for both in ([{**other, **read}, other], [{**other, **read}]):  # an empty one alone, too
        batch = Features(inputs, AugmentConfig())(collate([both]), train=True)
        assert batch["audio"].shape == (len(both), 1, 398, 128) and batch["audio"].isfinite().all()
        assert batch["audio_length"][0] == frames_of(kind, count, 398)


def test_a_caption_behind_the_end_of_its_video_is_no_error(root, tmp_path):
    link_all_but_captions(root, tmp_path)
    beyond = {"start": [1.0, 30.0], "end": [3.0, 40.0], "text": ["here", "behind"]}
    (tmp_path / "caption.json").write_text(json.dumps(dict.fromkeys(SECONDS, beyond)))
    for shift in (0.0, 4.0):
        clips = clips_of(tmp_path, SPOKEN, per_video=2, cut="captions", seconds=1.0, audio_shift=shift)
        moments = clips._moments(ClipRef(1, 0))
        heard = {m.text: len(clip["audio"]) for m, clip in zip(moments, clips[ClipRef(1, 0)], strict=True)}
        assert heard == {"here": round(0.995 * RATE), "behind": 0}


# --- the same clips again


def drawn(clips: ClipDataset, epoch: int, videos: int = 4) -> list[Moment]:
    return [moment for index in range(videos) for moment in clips._moments(ClipRef(index, epoch))]


@pytest.mark.parametrize("cut", ["captions", "windows", "mixed"])
def test_clips_depend_on_seed_and_epoch_and_on_nothing_else(root, cut):
    clips, again = (clips_of(root, SPOKEN, per_video=4, cut=cut, seconds=2.0) for _ in range(2))
    other = ClipDataset(manifest_of(root, SPOKEN), clips.config, seed=1)
    assert drawn(clips, 0) == drawn(clips, 0) == drawn(again, 0)
    for different in (drawn(clips, 1), drawn(other, 0)):
        assert not {m.key for m in different} & {m.key for m in drawn(clips, 0)}
        assert [m.start for m in different] != [m.start for m in drawn(clips, 0)]
    assert [m.clip_id for m in drawn(clips, 0)] == [f"{video}/{i}" for video in SECONDS for i in range(4)]


def heard(raws: Iterator[RawBatch]) -> dict[str, tuple[int, bytes]]:
    """Clip -> its key and sound."""
    found = {}
    for raw in raws:
        for i, length in enumerate(raw["audio_length"]):
            found[raw["clip_id"][i]] = int(raw["key"][i]), raw["audio"][i, :length].numpy().tobytes()
    return found


def test_workers_and_ranks_read_the_same_clips(root):
    clips = mixed(root, per_video=3)
    alone = heard(batches(clips, 2))
    assert len(alone) == 12 and len({sound for _, sound in alone.values()}) > 4
    assert heard(batches(clips, 2, workers=1)) == alone
    first, second = (heard(batches(clips, 2, rank=rank, ranks=2)) for rank in (0, 1))
    assert first | second == alone and not first.keys() & second.keys()


# --- precomputed features


def features_of(root: Path, folder: Path, rows: int) -> Inputs:
    """Features of which row i is [i], one a second, and no media."""
    for video in SECONDS:
        np.save(folder / f"{video}_2d.npy", np.arange(rows, dtype=np.float32)[:, None])
    return Inputs(None, None, None, FeatureInputs(str(folder), ["2d"], [1.0], [1], frames=4))


@pytest.mark.parametrize(("rows", "starts"), [(9, {0, 1, 2, 3, 4, 5}), (3, {0})])
def test_without_media_the_features_say_how_long_a_video_is(without_captions, tmp_path, rows, starts):
    inputs = features_of(without_captions, tmp_path, rows)
    clips = clips_of(without_captions, inputs, per_video=40, cut="windows", seconds=4.0)
    assert np.isinf(clips.table.value("seconds", 0))
    read = [clip["video_feat"][:, 0].tolist() for clip in clips[ClipRef(0, 0)]]
    assert {first for first, *_ in read} == starts
    assert all(moments == [moments[0] + i for i in range(min(4, rows))] for moments in read)


def test_a_clip_without_features_says_so_by_its_length_in_training(root, tmp_path):
    """The sound is longer than the features; a window may lie behind their end."""
    inputs = features_of(root, tmp_path, 2)
    inputs.audio = AudioInputs(frames=98)
    clips = clips_of(root, inputs, per_video=8, cut="windows", seconds=4.0)
    read = clips[ClipRef(1, 0)]
    starts = [moment.start for moment in clips._moments(ClipRef(1, 0))]
    batch = Features(inputs, AugmentConfig())(collate([read]), train=True)
    assert batch["video_feat_length"].tolist() == [max(0, 2 - int(start)) for start in starts]
    assert 0 in batch["video_feat_length"] and (batch["audio_length"] == 98).all()


def test_a_video_whose_features_are_damaged_gives_its_place_to_another(without_captions, tmp_path, caplog):
    inputs = features_of(without_captions, tmp_path, 9)
    (tmp_path / "quiet_2d.npy").write_bytes(b"this is not an array")
    clips = clips_of(without_captions, inputs, per_video=3, cut="windows", seconds=4.0)
    assert [clip["clip_id"] for clip in clips[ClipRef(1, 0)]] == [f"spoken/{i}" for i in range(3)]
    assert "quiet_2d.npy: unreadable" in caplog.text


# --- how much sound there is


def frames_of(kind: str, samples: int, most: int) -> int:
    """Kaldi's frames of 400 samples lie within the sound; decibel frames are centred on every 160th sample of it."""
    starts = range(0, samples - 399, 160) if kind == "kaldi" else range(0, samples + 1, 160) if samples else ()
    return min(most, len(starts))


@pytest.mark.parametrize("kind", ["kaldi", "decibel"])
def test_audio_length_counts_the_frames_before_the_padding(kind):
    lengths = [0, 1, 159, 160, 399, 400, 559, 560, 16000, 40000]
    inputs = Inputs(AudioInputs(kind=kind, frames=100, mean=0.0, std=1.0, scale=1.0), None)
    sounds = [torch.from_numpy(noise(3, RATE)[0, :length]) for length in lengths]
    clips = [
        {"clip_id": str(i), "key": i, "label": torch.zeros(0), "audio": s, "audio_length": torch.tensor(len(s))}
        for i, s in enumerate(sounds)
    ]
    batch = Features(inputs, AugmentConfig())(collate([clips]), train=False)
    assert batch["audio_length"].tolist() == [frames_of(kind, length, 100) for length in lengths]
    for mel_FM, length, samples in zip(batch["audio"][:, 0], batch["audio_length"], lengths, strict=True):
        assert not mel_FM[length:].any() and (samples < 400 or mel_FM[length - 1].any())


def test_candidates_are_a_clip_s_own_text_and_captions_beside_it_and_what_is_not_there_has_no_length(root):
    inputs = Inputs(AudioInputs(frames=98), None, TextInputs(length=6, candidates=3))
    clips = clips_of(root, inputs, per_video=2, seconds=3.0)
    tokenizer = make_tokenizer(inputs.text)
    for index, captions in ((0, CAPTIONS["short"]), (3, CAPTIONS["filmed"])):
        said = {text for _, _, text in captions}
        for moment, clip in zip(clips._moments(ClipRef(index, 0)), clips[ClipRef(index, 0)], strict=True):
            texts = [moment.text, *moment.beside]
            assert {moment.text, *moment.beside} <= said and len(texts) == len(set(texts)) == min(3, len(captions))
            assert clip["text"].shape == (3, 6)
            lengths = [len(tokenizer(text)) for text in texts] + [0] * (3 - len(texts))
            assert clip["text_length"].tolist() == lengths
            for row, text, length in zip(clip["text"], texts, lengths, strict=False):
                assert row[:length].tolist() == tokenizer(text).tolist() and not row[length:].any()
    (batch,) = (raw for raw, _ in zip(batches(clips, 4), range(1), strict=False))
    assert batch["text"].shape == (8, 3, 6) and batch["text_length"].shape == (8, 3)
