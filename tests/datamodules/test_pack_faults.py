"""Packs that cannot be made or read, and what is said of them."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from datamodules.loading.clips import ClipDataset
from datamodules.loading.samplers import ClipRef
from datamodules.manifest.build import Manifest
from datamodules.media.decode import MediaError, read_frames
from datamodules.packing.pack import pack
from datamodules.packing.shards import PackedClip, PackedFormat, open_pack
from datamodules.source import DataError
from datamodules.types import AudioInputs, DataConfig, FeatureInputs, Inputs, TextInputs, VideoInputs
from datamodules.vggsound import VGGSound
from tests.datamodules.packs import FORMAT, INPUTS, assert_same_manifest, clip_of, clips, packed
from tests.sample_data import SampleMaker


@pytest.fixture(scope="module")
def vggsound(tmp_path_factory: pytest.TempPathFactory, make_sample: SampleMaker) -> Manifest:
    root = tmp_path_factory.mktemp("media")
    make_sample(root, ["vggsound"], counts={"vggsound": {"train": 1, "test": 8}})
    return clips(root, VGGSound, "test")


@pytest.fixture(scope="module")
def url(vggsound: Manifest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A pack that nothing may change."""
    return packed(vggsound, tmp_path_factory.mktemp("pack"))


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


def test_what_cannot_be_packed_is_an_error(vggsound, url, tmp_path):
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
        (replace(INPUTS, text=TextInputs()), "has no text"),
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
