"""Users' folders and files: links that lead back or to nowhere, suffixes, what vanishes while one looks."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from datamodules.features import stored
from datamodules.manifest.build import build_manifest
from datamodules.manifest.checks import Checks
from datamodules.manifest.media_index import KIND_OF, index_media
from datamodules.source import DataError
from datamodules.source.folders import walk
from datamodules.types import AudioInputs, Inputs
from datamodules.vggsound import VGGSound
from tests.media_files import noise, write_media

CONTAINERS = {
    # Suffix -> its sound's codec, by what FFmpeg's own writers put into it
    **{"wmv": "wmav2", "asf": "wmav2", "wma": "wmav2", "m2ts": "aac", "mts": "aac", "ogv": "flac"},
    **{"oga": "flac", "mka": "flac", "caf": "pcm_s16le", "aiff": "pcm_s16be", "aif": "pcm_s16be", "m4b": "aac"},
    **{"3g2": "aac", "vob": "mp2", "au": "pcm_s16be", "w64": "pcm_s16le", "ac3": "ac3"},
}


def vggsound(root: Path, ids: list[str]) -> VGGSound:
    root.mkdir(parents=True, exist_ok=True)
    (root / "SAMPLE.json").touch()
    (root / "stat.csv").write_text("a,1,x\n")
    (root / "test.csv").write_text("".join(f"{id_}_000030.mp4,a\n" for id_ in ids))
    return VGGSound(root)


def build(source: VGGSound):
    inputs = Inputs(AudioInputs(), None)
    return build_manifest(source, ["test"], inputs, Checks(source.root.parent / "checks", workers=1))


def sound(path: Path, codec: str = "pcm_s16le") -> Path:
    options = {"b": "128k"} if codec.startswith("wma") else {}
    return write_media(path, sound=noise(1.0, 48000), rate=48000, audio_codec=codec, audio_options=options)


def test_every_container_that_ffmpeg_demuxes_is_found_by_its_suffix(tmp_path):
    ids = {suffix: f"id-{number:08}" for number, suffix in enumerate(CONTAINERS)}
    source = vggsound(tmp_path / "VGGSound", list(ids.values()))
    for suffix, codec in CONTAINERS.items():
        sound(source.root / f"{ids[suffix]}_000030.{suffix.upper() if suffix == 'wmv' else suffix}", codec)
    found = build(source)
    assert found.excluded == {} and len(found) == len(CONTAINERS)


def test_a_suffix_that_is_not_known_is_reported_and_what_is_no_media_is_not(tmp_path):
    source = vggsound(tmp_path / "VGGSound", ["aaaaaaaaaaa", "bbbbbbbbbbb", "ccccccccccc", "ddddddddddd"])
    sound(source.root / "aaaaaaaaaaa_000030.wav")
    (source.root / "bbbbbbbbbbb_000030.xyz").touch()
    (source.root / "ccccccccccc_000030").touch()
    for suffix in ("json", "jpg", "npy", "en.vtt"):
        (source.root / f"ddddddddddd_000030.{suffix}").touch()
    found = build(source)
    assert found.excluded == {"missing": 1, "unknown suffix": 2}
    assert found.examples["unknown suffix"] == ["bbbbbbbbbbb_000030", "ccccccccccc_000030"]
    (source.root / "aaaaaaaaaaa_000030.wav").unlink()
    with pytest.raises(DataError, match=r"2 unknown suffix .*rename or convert it"):
        build(source)


def test_no_suffix_is_of_two_kinds():
    assert all(suffix.startswith(".") and suffix == suffix.lower() for suffix in KIND_OF)
    assert KIND_OF[".wav"] == "audio" and KIND_OF[".mp4"] == "video" and KIND_OF[".json"] == ""


def test_a_dead_link_is_counted_and_a_good_file_elsewhere_is_found(tmp_path):
    source = vggsound(tmp_path / "VGGSound", ["aaaaaaaaaaa", "bbbbbbbbbbb", "ccccccccccc"])
    for id_ in ("aaaaaaaaaaa", "bbbbbbbbbbb"):
        (source.root / f"{id_}_000030.mp4").symlink_to("gone/x.mp4")
    (source.root / "ccccccccccc_000030.mp4").symlink_to("ccccccccccc_000030.mp4")  # to itself
    (source.root / "later").mkdir()
    sound(source.root / "later" / "aaaaaaaaaaa_000030.wav")
    found = build(source)
    assert found.excluded == {"dead link": 2} and found.table["clip_id"].tolist() == ["aaaaaaaaaaa_000030"]


def test_each_folder_is_visited_once_whatever_links_lead_to_it(tmp_path):
    root = tmp_path / "VGGSound"
    (root / "video" / "deep").mkdir(parents=True)
    (root / "video" / "deep" / "a.mp4").touch()
    for link in (root / "VGGSound", root / "video" / "data", root / "video" / "deep" / "up"):
        link.symlink_to(root.resolve())
    (root / "zzz").symlink_to(root / "video" / "deep")
    assert [folder.path for folder in walk(root)] == [str(root / part) for part in ("", "video", "video/deep")]
    assert len(index_media(root)["video"]) == 1


def test_feature_files_are_looked_for_in_the_same_way(tmp_path):
    np.save(tmp_path / "abc_2d.npy", np.zeros((1, 2), np.float32))
    (tmp_path / "back").symlink_to(tmp_path)
    (tmp_path / "dead_2d.npy").symlink_to("gone.npy")
    found = stored.index_features(tmp_path, ["2d", "3d"])
    assert found == {"2d": {"abc": str(tmp_path / "abc_2d.npy")}, "3d": {}}


def test_a_folder_that_cannot_be_read_or_named_is_logged_and_the_rest_is_found(tmp_path, caplog):
    (tmp_path / "good").mkdir()
    (tmp_path / "good" / "a.mp4").touch()
    os.mkdir(os.fsencode(tmp_path) + b"/caf\xe9")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/good/\xe9.mp4")).touch()
    assert len(index_media(tmp_path)["video"]) == 1
    assert "its name is no UTF-8" in caplog.text
    caplog.clear()
    assert len(index_media(tmp_path / "absent")["video"]) == 0 and "absent is not looked into" in caplog.text


def test_a_file_that_vanishes_before_it_is_judged_is_counted(tmp_path):
    files = [sound(tmp_path / f"{name}.wav") for name in "ab"]
    checks = Checks(tmp_path / "checks", workers=1)
    paths = pa.array(map(str, files), pa.large_string())
    assert checks.of(paths, "")["audio_reason"].tolist() == ["", ""]
    files[0].unlink()
    judged = checks.of(paths, "")
    assert (
        judged["audio_reason"].tolist()
        == judged["video_reason"].str.replace("no video", "").tolist()
        == ["missing", ""]
    )
    assert judged["still"].dtype == bool


def test_what_is_no_file_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "aaaaaaaaaaa_000030.mp4")  # opening it would wait for ever
    (tmp_path / "bbbbbbbbbbb_000030.mp4").mkdir()
    index = index_media(tmp_path)
    assert len(index["video"]) == len(index["dead link"]) == 0
