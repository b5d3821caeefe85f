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
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import webdataset

from datamodules import sample
from datamodules.audioset import AudioSet
from datamodules.loading.clips import ClipDataset
from datamodules.loading.loader import Loader, collate
from datamodules.loading.samplers import ClipRef, EvalSampler, TrainSampler
from datamodules.manifest.build import Manifest, build_manifest
from datamodules.manifest.checks import Checks
from datamodules.media.decode import MediaError, read_audio, read_frames
from datamodules.packing.pack import pack
from datamodules.packing.shards import FRAME_LOSS, WHERE, PackedClip, PackedFormat, open_pack
from datamodules.source import LABELS, DataError, Source
from datamodules.types import AudioInputs, DataConfig, FeatureInputs, Inputs, LoaderConfig, TextInputs, VideoInputs
from datamodules.vggsound import VGGSound
from datamodules.youcook2 import YouCook2

REPOSITORY = Path(__file__).parents[2]
INPUTS = Inputs(AudioInputs(frames=128), VideoInputs(frames=4, fps=2.0, size=64, train_size=72))
FORMAT = PackedFormat(sample_rate=16000, fps=4.0, size=224)
COUNTS = {
    "vggsound": {"train": 6, "test": 15},
    "audioset": {"unbalanced_train": 2, "balanced_train": 2, "eval": 8},
    "youcook2": {"training": 2, "validation": 2},
}
SHARD_CLIPS = 4


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sample data of which one VGGSound clip is missing."""
    root = tmp_path_factory.mktemp("media")
    sample.make(root, list(COUNTS), counts=COUNTS, workers=1)
    next((root / "VGGSound" / "video").iterdir()).unlink()
    return root


def clips(root: Path, source: type[Source], split: str, inputs: Inputs = INPUTS) -> Manifest:
    found = source(root / source.folders[0])
    return build_manifest(found, [split], inputs, Checks(root / "checks" / source.name, workers=1))


def packed(manifest: Manifest, url: Path | str, split: str = "test", format: PackedFormat = FORMAT) -> str:
    pack(manifest, "vggsound", split, str(url), format, workers=1, shard_clips=SHARD_CLIPS)
    return str(url)


@pytest.fixture(scope="module")
def vggsound(root: Path) -> Manifest:
    return clips(root, VGGSound, "test")


@pytest.fixture(scope="module")
def url(vggsound: Manifest, root: Path) -> str:
    """A pack of VGGSound's splits that nothing may change."""
    packed(vggsound, root / "pack")
    return packed(clips(root, VGGSound, "train"), root / "pack", "train")


@pytest.fixture
def damaged(url: str, tmp_path: Path) -> Callable[[str, int, Callable[[bytes], bytes]], PackedClip]:
    """Changes the bytes of a member of the first shard and opens the first clip."""
    split = tmp_path / "damaged" / "test"
    split.mkdir(parents=True)
    for path in (Path(url) / "test").iterdir():
        (split / path.name).write_bytes(path.read_bytes())

    def damage(name: str, change: Callable[[bytes], bytes]) -> PackedClip:
        shard = split / "000000.tar"
        with tarfile.open(shard) as tar:
            member = tar.getmember(name)
        content = shard.read_bytes()
        begin, end = member.offset_data, member.offset_data + member.size
        shard.write_bytes(content[:begin] + change(content[begin:end]) + content[end:])
        return clip_of(open_pack(str(split.parent), ["test"], INPUTS, "vggsound"), 0)

    return damage


def clip_of(manifest: Manifest, index: int) -> PackedClip:
    assert manifest.pack is not None
    return manifest.pack.clip(manifest.table.iloc[index].to_dict())


def grid(row: pd.Series, fps: float = FORMAT.fps) -> np.ndarray:
    return row["video_offset"] + np.arange(int(row["seconds"] * fps)) / fps


def same_bits(one: np.ndarray, other: np.ndarray) -> bool:
    return one.dtype == other.dtype and one.tobytes() == other.tobytes()


def assert_same_manifest(opened: Manifest, manifest: Manifest) -> None:
    assert opened.fingerprint == manifest.fingerprint and opened.coverage == manifest.coverage
    assert (opened.classes, opened.multilabel) == (manifest.classes, manifest.multilabel)
    assert (opened.official, opened.excluded) == (manifest.official, manifest.excluded)
    assert opened.examples == manifest.examples
    paths = ["audio_path", "video_path"]
    pd.testing.assert_frame_equal(opened.table.drop(columns=list(WHERE)), manifest.table.drop(columns=paths))


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
            for name in ("key", "label", "waveform", "waveform_length"):
                assert torch.equal(a[name], b[name])
            # Of 72 pixels, resized from 224: JPEG's loss, and that of resizing twice.
            assert (a["frames"].float().mean(-1) - b["frames"].float().mean(-1)).abs().mean() < 2


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


def test_what_cannot_be_packed_is_an_error(root, vggsound, url, tmp_path):
    deaf = replace(vggsound, table=vggsound.table.assign(audio_path=None))
    with pytest.raises(DataError, match="to pack audio, find the clips with audio"):
        packed(deaf, tmp_path)
    with pytest.raises(DataError, match="are a pack already"):
        packed(open_pack(url, ["test"], INPUTS, "vggsound"), tmp_path)
    with pytest.raises(DataError, match="needs a sample rate or frames"):
        packed(vggsound, tmp_path, format=PackedFormat(0, 0.0, 0))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (Inputs(AudioInputs(sample_rate=22050), None), r"sound of 16000 Hz, but data.inputs.audio.sample_rate=22050"),
        (Inputs(None, VideoInputs(fps=3.0)), r"4 frames a second, no multiple of data.inputs.video.fps=3"),
        (Inputs(None, VideoInputs(fps=8.0)), r"4 frames a second, no multiple of data.inputs.video.fps=8"),
        (
            Inputs(None, VideoInputs(train_size=256)),
            "frames of 224 pixels, but .* train_size=256; change that",
        ),
        (replace(INPUTS, text=TextInputs()), "holds no text"),
        (replace(INPUTS, features=FeatureInputs()), "packs hold no features"),
    ],
)
def test_inputs_that_a_pack_does_not_hold_are_errors(url, inputs, message):
    with pytest.raises(DataError, match=message):
        open_pack(url, ["test"], inputs, "vggsound")


def test_packs_without_a_modality_and_of_something_else_are_errors(vggsound, url, tmp_path):
    few = replace(vggsound, table=vggsound.table.head(2))
    packed(few, tmp_path, "sound", PackedFormat(16000, 0.0, 0))
    packed(replace(few, classes=[*few.classes, "another"]), tmp_path, "frames", PackedFormat(0, 2.0, 64))
    assert_same_manifest(open_pack(str(tmp_path), ["sound"], Inputs(AudioInputs(), None), "vggsound"), few)
    with pytest.raises(DataError, match="sound holds no frames, but the stage looks at pictures"):
        open_pack(str(tmp_path), ["sound"], INPUTS, "vggsound")
    with pytest.raises(DataError, match="frames holds no sound"):
        open_pack(str(tmp_path), ["frames"], INPUTS, "vggsound")
    with pytest.raises(DataError, match="'sound' and 'frames' have different classes"):
        open_pack(str(tmp_path), ["sound", "frames"], Inputs(None, None), "vggsound")
    with pytest.raises(DataError, match="is a pack of vggsound, version 1; expected audioset"):
        open_pack(url, ["test"], INPUTS, "audioset")
    with pytest.raises(DataError, match="no finished pack of the split 'val'"):
        open_pack(url, ["test", "val"], INPUTS, "vggsound")
    (tmp_path / "sound" / "index.arrow").write_bytes(b"x")
    with pytest.raises(DataError, match="sound cannot be read: ArrowInvalid"):
        open_pack(str(tmp_path), ["sound"], Inputs(AudioInputs(), None), "vggsound")


def flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def test_one_flipped_bit_is_a_fault_and_not_another_number(damaged, vggsound):
    read_frames(vggsound.table["video_path"][0], [0.0], 64)
    clip = damaged("000000000.sound.npy", flipped)
    with pytest.raises(MediaError, match=r"undecodable: its bytes in the shard are not those"):
        clip.audio(0.0, 1.0, 16000)
    clip.frames([0.0, 0.5], 64)
    clip = damaged("000000000.0002.jpg", flipped)
    clip.frames([0.0, 0.25, 0.75], 64)
    with pytest.raises(MediaError, match=r"000000.tar#.*undecodable"):
        clip.frames([0.0, 0.5], 64)


def test_a_truncated_or_missing_shard_is_a_fault_of_its_clips(url, damaged, tmp_path):
    clip = damaged("000000000.json", lambda content: content)
    shard = tmp_path / "damaged" / "test" / "000000.tar"
    clip.audio(0.0, 1.0, 16000)
    with shard.open("r+b") as file:
        file.truncate(70_000)  # while it is being read
    with pytest.raises(MediaError, match="truncated"):
        clip.audio(0.0, 1.0, 16000)
    with pytest.raises(MediaError, match="truncated"):
        clip.frames([0.0, 1.0], 64)
    shard.unlink()
    with pytest.raises(MediaError, match="missing"):
        clip.frames([0.0, 1.0], 64)
    opened = open_pack(str(tmp_path / "damaged"), ["test"], INPUTS, "vggsound")
    dataset = ClipDataset(opened, DataConfig(inputs=INPUTS), seed=0)
    assert dataset[ClipRef(0, -1)] == [] and dataset[ClipRef(0, 0)][0]["clip_id"] == opened.table["clip_id"][4]


def test_more_shards_than_a_process_may_open_files(vggsound, tmp_path):
    import resource

    pack(vggsound, "vggsound", "test", str(tmp_path), FORMAT, workers=1, shard_clips=1)
    opened = open_pack(str(tmp_path), ["test"], INPUTS, "vggsound")
    before = len(os.listdir("/proc/self/fd"))
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before + 10, limits[1]))
    try:
        for index in range(len(opened)):
            clip_of(opened, index).audio(0.0, 1.0, 16000)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert len(os.listdir("/proc/self/fd")) == before
