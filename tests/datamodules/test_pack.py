"""Packs: what is read back is what was packed; damage, cut-off packing and wrong requests are errors."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
import wave
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import webdataset

from datamodules.audioset import AudioSet
from datamodules.loading.clips import ClipDataset
from datamodules.loading.loader import Loader, collate
from datamodules.loading.samplers import EvalSampler, TrainSampler
from datamodules.manifest.build import Manifest, build_manifest
from datamodules.manifest.checks import Checks
from datamodules.media.decode import read_audio, read_frames
from datamodules.packing.pack import pack
from datamodules.packing.shards import FRAME_LOSS, PackedFormat, open_pack
from datamodules.source import LABELS, DataError
from datamodules.types import AudioInputs, DataConfig, Inputs, LoaderConfig, TextInputs
from datamodules.vggsound import VGGSound
from datamodules.youcook2 import YouCook2
from tests.datamodules.packs import FORMAT, INPUTS, SHARD_CLIPS, assert_same_manifest, clip_of, clips, packed
from tests.sample_data import SampleMaker

REPOSITORY = Path(__file__).parents[2]
COUNTS = {
    "vggsound": {"train": 6, "test": 15},
    "audioset": {"unbalanced_train": 2, "balanced_train": 2, "eval": 8},
    "youcook2": {"training": 2, "validation": 2},
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, make_sample: SampleMaker) -> Path:
    """Sample data of which one VGGSound clip is missing."""
    root = tmp_path_factory.mktemp("media")
    make_sample(root, list(COUNTS), counts=COUNTS)
    next((root / "VGGSound" / "video").iterdir()).unlink()
    return root


@pytest.fixture(scope="module")
def vggsound(root: Path) -> Manifest:
    return clips(root, VGGSound, "test")


@pytest.fixture(scope="module")
def url(vggsound: Manifest, root: Path) -> str:
    """A pack of VGGSound's splits that nothing may change."""
    packed(vggsound, root / "pack")
    return packed(clips(root, VGGSound, "train"), root / "pack", "train")


def grid(row: pd.Series, fps: float = FORMAT.fps) -> np.ndarray:
    return row["video_offset"] + np.arange(int(row["seconds"] * fps)) / fps


def same_bits(one: np.ndarray, other: np.ndarray) -> bool:
    return one.dtype == other.dtype and one.tobytes() == other.tobytes()


def assert_same_media(opened: Manifest, manifest: Manifest) -> None:
    """Sound to the bit, whole and in windows; frames within what JPEG may lose."""
    random = np.random.default_rng(0)
    for index, row in manifest.table.iterrows():
        clip, path = clip_of(opened, index), row["audio_path"]
        whole = read_audio(path, row["audio_offset"], row["seconds"], 16000)
        assert len(whole) > 1.9 * 16000
        assert same_bits(clip.audio(row["audio_offset"], row["seconds"], 16000), whole)
        start = row["audio_offset"] + random.uniform(0, row["seconds"] - 1.5)
        first = round(start * 16000) - round(row["audio_offset"] * 16000)
        assert same_bits(clip.audio(start, 1.25, 16000), whole[first : first + 20000])
        times = grid(row)
        loss = np.abs(clip.frames(times, 224).mean(-1) - read_frames(row["video_path"], times, 224).mean(-1))
        assert loss.mean() < FRAME_LOSS[0] and loss.max() < FRAME_LOSS[1]


def test_vggsound_comes_back_as_it_was_packed(vggsound, url):
    opened = open_pack(url, ["test"], INPUTS, "vggsound")
    assert len(opened) == 14 and opened.excluded == {"missing": 1}
    assert_same_manifest(opened, vggsound)
    assert_same_media(opened, vggsound)


def test_audioset_comes_back_as_it_was_packed(root, tmp_path):
    manifest = clips(root, AudioSet, "eval")
    pack(manifest, "audioset", "eval", str(tmp_path), FORMAT, workers=2, shard_clips=3)
    opened = open_pack(str(tmp_path), ["eval"], INPUTS, "audioset")
    assert opened.multilabel
    assert_same_manifest(opened, manifest)
    assert_same_media(opened, manifest)


def test_segments_of_whole_videos_keep_their_text_and_places(root, tmp_path):
    inputs = replace(INPUTS, text=TextInputs())
    manifest = clips(root, YouCook2, "train", inputs)
    manifest.table.loc[1, "text"] = ""
    assert manifest.table["audio_offset"].min() > 0
    pack(manifest, "youcook2", "train", str(tmp_path), FORMAT, workers=1)
    opened = open_pack(str(tmp_path), ["train"], INPUTS, "youcook2")
    assert_same_manifest(opened, manifest)
    assert_same_media(opened, manifest)
    reading = open_pack(str(tmp_path), ["train"], inputs, "youcook2")
    assert len(reading) == len(manifest) - 1 and reading.excluded["no text"] == 1
    assert reading.examples["no text"] == [manifest.table["clip_id"][1]]


def test_several_splits_are_joined_as_they_are_of_media(root, url):
    joined = build_manifest(
        VGGSound(root / "VGGSound"), ["train", "test"], INPUTS, Checks(root / "checks" / "vggsound", workers=1)
    )
    opened = open_pack(url, ["train", "test"], INPUTS, "vggsound")
    assert_same_manifest(opened, joined)
    assert_same_media(opened, joined)


def test_frames_between_the_grid_and_smaller_ones(vggsound, url):
    clip, path = clip_of(open_pack(url, ["test"], INPUTS, "vggsound"), 2), vggsound.table["video_path"][2]
    on_grid = clip.frames([0.0, 0.25, 0.5, 2.75], 224)
    assert np.array_equal(clip.frames([0.1, 0.49, 0.4999, 99.0], 224), on_grid)
    assert np.array_equal(clip.frames([2.75, 0.0, 0.0], 224), on_grid[[3, 0, 0]])
    small, direct = clip.frames([0.5, 1.0], 64).mean(-1), read_frames(path, [0.5, 1.0], 64).mean(-1)
    assert small.shape == (2, 64, 64) and np.abs(small - direct).mean() < FRAME_LOSS[0]


def wav(path: Path, samples: np.ndarray) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16000, len(samples), "NONE", ""))
        file.writeframes(samples.astype("<i2").tobytes())
    return path


def test_sound_of_16_bits_stays_so_and_windows_at_odd_places_are_those_of_the_file(tmp_path):
    samples = np.random.default_rng(0).integers(-(2**15), 2**15, 16000 * 4)
    samples[7000:7003] = -(2**15), 2**15 - 1, 0
    path, offset, seconds = wav(tmp_path / "a.wav", samples), 5333.4 / 16000, 32000.4 / 16000
    row = {"clip_id": "a", "video_id": "a", "start": 0.0, "end": np.inf, "audio_path": str(path), "video_path": None}
    row |= {"audio_offset": offset, "video_offset": offset, "seconds": seconds, "sound_seconds": seconds}
    table = pd.DataFrame([row])
    table["labels"] = pd.Series([[0]], dtype=LABELS)
    packed(Manifest(table, ["one"], False, 1), tmp_path / "pack", format=PackedFormat(16000, 0.0, 0))
    opened = open_pack(str(tmp_path / "pack"), ["test"], Inputs(AudioInputs(), None), "vggsound")
    clip = clip_of(opened, 0)
    with tarfile.open(tmp_path / "pack" / "test" / "000000.tar") as tar:
        stored = np.load(io.BytesIO(tar.extractfile("000000000.sound.npy").read()))
        assert json.load(tar.extractfile("000000000.json"))["end"] is None
    assert stored.dtype == np.int16 and np.array_equal(stored[: 2 * 16000], samples[5333:][: 2 * 16000])
    for begin in np.random.default_rng(1).uniform(0, seconds - 0.01, 100):
        place = (offset + begin, seconds - begin, 16000)  # to the very end, where rounding matters
        assert same_bits(clip.audio(*place), read_audio(path, *place))


def test_shards_are_tar_files_of_webdataset_samples(vggsound, url):
    row = vggsound.table.iloc[5]
    with tarfile.open(Path(url) / "test" / "000001.tar") as tar:
        names = [name for name in tar.getnames() if name.startswith("000000005.")]
        assert names[:2] == ["000000005.json", "000000005.sound.npy"]
        assert names[2:] == [f"000000005.{i:04}.jpg" for i in range(12)]
        about = json.load(tar.extractfile(names[0]))
        sound = np.load(io.BytesIO(tar.extractfile(names[1]).read()))
    assert about["clip_id"] == row["clip_id"] and about["labels"] == list(row["labels"])
    whole = read_audio(row["audio_path"], row["audio_offset"], row["seconds"], 16000)
    assert same_bits(sound[: len(whole)], whole)


def test_webdataset_reads_the_shards(vggsound, url):
    shards = sorted(str(path) for path in (Path(url) / "test").glob("*.tar"))
    samples = list(webdataset.WebDataset(shards, shardshuffle=False, empty_check=False).decode("rgb8"))
    assert [one["json"]["clip_id"] for one in samples] == vggsound.table["clip_id"].tolist()
    assert set(samples[0]) >= {"json", "sound.npy", *(f"{i:04}.jpg" for i in range(12))}
    assert samples[0]["sound.npy"].dtype == np.float32 and samples[0]["0003.jpg"].shape == (224, 224, 3)


def batches(manifest: Manifest, sampler, workers: int = 0, **loader) -> list[dict]:
    dataset = ClipDataset(manifest, DataConfig(inputs=INPUTS, loader=LoaderConfig(**loader)), seed=0)
    return list(Loader(dataset, batch_sampler=sampler, num_workers=workers, collate_fn=collate))


def assert_same_batches(one: list[dict], other: list[dict]) -> None:
    assert len(one) == len(other) > 0
    for a, b in zip(one, other, strict=True):
        assert a["clip_id"] == b["clip_id"] and a.keys() == b.keys()
        assert all(torch.equal(a[name], b[name]) for name in a.keys() - {"clip_id"})


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_training_sees_the_clips_that_it_sees_of_media(vggsound, url, ranks):
    opened = open_pack(url, ["test"], INPUTS, "vggsound")
    for rank in range(ranks):
        sampler = TrainSampler(len(opened), 2, 6, rank=rank, ranks=ranks)
        of_pack = batches(opened, sampler, train_windows=1)
        of_media = batches(vggsound, sampler, train_windows=1)
        assert len(of_pack) == len(of_media) == 4
        for a, b in zip(of_pack, of_media, strict=True):
            assert a["clip_id"] == b["clip_id"] and len(a["clip_id"]) == 6 // ranks
            for name in ("key", "label", "audio", "audio_length"):
                assert torch.equal(a[name], b[name])
            # Of 72 pixels, resized from 224: JPEG's loss, and that of resizing twice.
            assert (a["video"].float().mean(-1) - b["video"].float().mean(-1)).abs().mean() < 2


def test_training_goes_on_in_the_middle_of_an_epoch(url):
    opened = open_pack(url, ["train", "test"], INPUTS, "vggsound")
    whole = batches(opened, TrainSampler(len(opened), 2, 4))
    assert len(whole) == 2 * 5
    assert_same_batches(batches(opened, TrainSampler(len(opened), 2, 4, start=7)), whole[7:])


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_evaluation_gives_each_clip_once(url, ranks):
    opened = open_pack(url, ["test"], INPUTS, "vggsound")
    read = [batch for rank in range(ranks) for batch in batches(opened, EvalSampler(14, 4, rank=rank, ranks=ranks))]
    seen = [clip for batch in read for clip in batch["clip_id"]]
    assert len(opened) == 14 and sorted(seen) == sorted(opened.table["clip_id"])


def test_batches_do_not_depend_on_the_number_of_processes_that_read(url):
    opened = open_pack(url, ["test", "train"], INPUTS, "vggsound")
    wanted = [*TrainSampler(len(opened), 1, 6, rank=1, ranks=2), *EvalSampler(len(opened), 4, rank=1, ranks=2)]
    assert_same_batches(batches(opened, wanted, workers=2), batches(opened, wanted))


PACKING = """
import os, pickle, sys
from datamodules.packing.pack import pack
from tests.killed import kill_after
if __name__ == "__main__":
    manifest, url, format, shard_clips = pickle.load(open(sys.argv[1], "rb"))
    killed = kill_after(1, os.getpid())
    pack(manifest, "vggsound", "test", url, format, workers=1, track=killed, shard_clips=shard_clips)
"""


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_a_packing_that_is_killed_goes_on_and_ends_the_same(vggsound, url, tmp_path):
    import pickle

    cut, script, arguments = tmp_path / "cut", tmp_path / "packing.py", tmp_path / "arguments.pickle"
    script.write_text(PACKING)
    arguments.write_bytes(pickle.dumps((vggsound, str(cut), FORMAT, SHARD_CLIPS)))
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    child = subprocess.Popen([sys.executable, script, arguments], env=environment, start_new_session=True)
    parts = cut / "test" / "parts"
    assert child.wait() == -signal.SIGKILL
    wait_until_gone(child.pid)
    done = {path: path.stat().st_mtime_ns for path in (cut / "test").glob("*.tar")}
    assert 1 <= len(done) < 4
    with pytest.raises(DataError, match="no finished pack of the split 'test'; make or finish it with: .* data pack"):
        open_pack(str(cut), ["test"], INPUTS, "vggsound")
    with pytest.raises(DataError, match="unfinished pack of other clips or another format"):
        packed(vggsound, cut, format=replace(FORMAT, fps=2.0))
    with pytest.raises(DataError, match="unfinished pack of other clips"):
        packed(replace(vggsound, table=vggsound.table[::-1].reset_index(drop=True)), cut)
    packed(vggsound, cut)
    finished = [path for path in done if (parts / f"{path.stem}.parquet").exists() or path.name == "000000.tar"]
    assert all(path.stat().st_mtime_ns == done[path] for path in finished)
    assert content(cut / "test") == content(Path(url) / "test")


def wait_until_gone(session: int) -> None:
    """Until no process of the session is left: those that pack end with the one that started them."""
    for _ in range(1000):
        try:
            os.killpg(session, 0)
        except ProcessLookupError:
            return
        time.sleep(0.01)
    os.killpg(session, signal.SIGKILL)
    pytest.fail("a process outlived the packing that started it")


def test_a_finished_pack_is_not_touched(vggsound, url):
    before = content(Path(url))
    with pytest.raises(DataError, match="finished pack; remove it, or give another folder"):
        packed(vggsound, url)
    assert content(Path(url)) == before


def test_a_clip_that_vanishes_during_packing_is_counted(vggsound, tmp_path):
    table = vggsound.table.copy()
    gone = [*table["clip_id"][:4], table["clip_id"][9]]  # a whole shard, and one in another
    for row in (0, 1, 2, 3, 9):
        table.loc[row, ["audio_path", "video_path"]] = str(tmp_path / "gone.mp4")
    url = packed(replace(vggsound, table=table), tmp_path / "pack")
    opened = open_pack(url, ["test"], INPUTS, "vggsound")
    assert len(opened) == 9 and opened.excluded == {"missing": 6} and opened.official == 15
    assert set(opened.examples["missing"]) < {*gone, *vggsound.examples["missing"]}
    remaining = vggsound.table[~vggsound.table["clip_id"].isin(gone)].reset_index(drop=True)
    assert_same_media(opened, replace(vggsound, table=remaining))


def test_when_the_disk_goes_packing_stops_and_counts_nothing(vggsound, tmp_path):
    missing = [str(tmp_path / f"{row}.mp4") for row in range(14)]
    table = vggsound.table.copy()
    table.loc[4:, "audio_path"] = missing[4:]
    with pytest.raises(DataError, match="10 files in a row cannot be read; is their disk gone?"):
        pack(replace(vggsound, table=table), "vggsound", "test", str(tmp_path), FORMAT, workers=1)
    pack(vggsound, "vggsound", "test", str(tmp_path), FORMAT, workers=1)  # the disk is back
    assert_same_manifest(open_pack(str(tmp_path), ["test"], INPUTS, "vggsound"), vggsound)
    few = replace(vggsound, table=vggsound.table.head(3).assign(audio_path=missing[:3]))
    with pytest.raises(DataError, match="not one clip could be read: {'missing': 4}"):
        pack(few, "vggsound", "few", str(tmp_path), FORMAT, workers=1)
    assert not (tmp_path / "few" / "pack.json").exists()
