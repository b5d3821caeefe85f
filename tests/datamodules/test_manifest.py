"""From official lists and files on a disk to the clips that can be used, on real media."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import av
import pandas as pd
import pytest

from datamodules.audioset import AudioSet
from datamodules.manifest.build import build_manifest
from datamodules.manifest.checks import Checks
from datamodules.manifest.media_index import index_media
from datamodules.source import LABELS, DataError, find_root
from datamodules.types import AudioInputs, Inputs, VideoInputs
from datamodules.vggsound import VGGSound


def build(source, splits=("test",), audio=True, video=True, cache=None, **options):
    inputs = Inputs(AudioInputs() if audio else None, VideoInputs() if video else None)
    checks = Checks(cache or source.root.parent / "cache", workers=2, **options)
    return build_manifest(source, splits, inputs, checks)


@pytest.fixture
def vggsound(sample_root: Path, tmp_path: Path) -> VGGSound:
    """A copy of the small sample whose files a test may break."""
    shutil.copytree(sample_root / "VGGSound", tmp_path / "VGGSound")
    return VGGSound(tmp_path / "VGGSound")


def drop_track(path: Path, kind: str) -> None:
    """Takes the sound or the pictures out of a file, leaving the rest as it is."""
    original = path.rename(path.with_suffix(".whole"))
    with av.open(str(original)) as source, av.open(str(path), "w", format="mp4") as target:
        kept = next(stream for stream in source.streams if stream.type != kind)
        copy = target.add_stream_from_template(kept)
        for packet in source.demux(kept):
            if packet.dts is not None:
                packet.stream = copy
                target.mux(packet)


def media_of(source: VGGSound, split: str = "test") -> list[Path]:
    index, official = index_media(source.root)["video"], source.read_split(split)
    found = index.find([*official.timed_stems, *official.stems])
    return [Path(path) for path in index.paths(found).to_pylist()]


def test_all_clips_of_an_intact_split_are_used(vggsound):
    manifest = build(vggsound)
    assert len(manifest) == manifest.official == 61 and manifest.coverage == 1.0 and manifest.excluded == {}
    assert manifest.table["seconds"].between(2.9, 3.2).all()


def test_each_kind_of_damage_is_counted_by_its_reason(vggsound, tmp_path):
    files = media_of(vggsound)
    files[0].unlink()
    files[1].write_text("this is not a film")
    files[2].write_bytes(files[2].read_bytes()[: files[2].stat().st_size // 2])
    files[3].write_bytes(b"")
    manifest = build(vggsound)
    assert len(manifest) == 57 and manifest.official == 61
    assert manifest.excluded["missing"] == 1 and sum(manifest.excluded.values()) == 4
    clip_ids = vggsound.read_split("test").clips["clip_id"]
    assert manifest.examples["missing"] == [clip_ids[0]]
    assert not set(clip_ids[:4]) & set(manifest.table["clip_id"])


def test_the_sample_flaws_are_found(sample_root, tmp_path):
    manifest = build(AudioSet(sample_root / "AudioSet"), ["unbalanced"], cache=tmp_path)
    assert manifest.excluded == {"missing": 2, "not media": 1, "silent": 1, "truncated": 1}
    assert len(manifest) + 5 == manifest.official == 48


def test_a_video_without_sound_counts_only_where_sound_is_needed(vggsound, tmp_path):
    files = media_of(vggsound)
    drop_track(files[5], "audio")
    drop_track(files[6], "video")
    cache = tmp_path / "cache"
    assert build(vggsound, cache=cache).excluded == {"no audio": 1, "no video": 1}
    assert build(vggsound, video=False, cache=cache).excluded == {"no audio": 1}
    assert build(vggsound, audio=False, cache=cache).excluded == {"no video": 1}


def test_sound_is_read_from_a_sound_file_beside_the_video(vggsound):
    film = media_of(vggsound)[0]
    shutil.copy(film, film.with_suffix(".m4a"))
    row = build(vggsound).table.iloc[0]
    assert row["audio_path"] == str(film.with_suffix(".m4a")) and row["video_path"] == str(film)


def test_judgements_are_remembered_until_a_file_changes(vggsound, tmp_path):
    checked: list[int] = []

    def count(items, title, total):
        checked.append(total)
        return items

    build(vggsound, track=count)
    build(vggsound, track=count)
    assert checked == [61]
    film = media_of(vggsound)[7]
    film.write_text("overwritten")
    assert build(vggsound, track=count).excluded == {"not media": 1}
    assert checked == [61, 1]


def test_a_file_of_the_same_size_but_newer_is_judged_again(vggsound):
    film = media_of(vggsound)[7]
    build(vggsound)
    film.write_bytes(b"x" * film.stat().st_size)
    os.utime(film, ns=(1, 1))
    assert sum(build(vggsound).excluded.values()) == 1


def test_the_fingerprint_tells_other_clips_or_labels_apart(vggsound):
    whole = build(vggsound)
    assert build(vggsound, audio=False).fingerprint == whole.fingerprint
    media_of(vggsound)[0].unlink()
    fewer = build(vggsound)
    assert fewer.fingerprint != whole.fingerprint
    relabelled = build(vggsound)
    labels = relabelled.table["labels"].tolist()
    labels[3] = [29]
    relabelled.table["labels"] = pd.Series(labels, dtype=LABELS)
    assert relabelled.fingerprint != fewer.fingerprint


def test_splits_are_joined(sample_root, tmp_path):
    manifest = build(AudioSet(sample_root / "AudioSet"), ["unbalanced", "balanced"], cache=tmp_path)
    assert manifest.official == 48 + 32


def test_malformed_rows_are_part_of_the_official_count(vggsound):
    with (vggsound.root / "vggsound.csv").open("a") as file:
        file.write("broken,row\n")
    manifest = build(VGGSound(vggsound.root))
    assert manifest.official == 62 and manifest.excluded == {"malformed row": 1}
    assert "fields instead of 4" in manifest.examples["malformed row"][0]


def test_an_empty_split_says_so(vggsound):
    (vggsound.root / "vggsound.csv").write_text("")
    with pytest.raises(DataError, match="none of the 0 official clips .* the split lists no clips"):
        build(VGGSound(vggsound.root))


def test_a_split_without_a_usable_clip_says_why(vggsound):
    shutil.rmtree(vggsound.root / "video")
    with pytest.raises(DataError, match=r"none of the 61 official clips can be used with audio and video: 61 missing"):
        build(vggsound)


def test_no_such_split(vggsound):
    with pytest.raises(DataError, match="VGGSound has no split 'eval'; it has train, test"):
        build(vggsound, ["eval"])


def test_the_folder_is_found_by_either_name_whatever_the_case(tmp_path):
    (tmp_path / "vggSOUND").mkdir()
    assert find_root(VGGSound, tmp_path) == tmp_path / "vggSOUND"


def test_data_without_the_dataset_says_what_was_looked_for(tmp_path):
    (tmp_path / "AudioSet").mkdir()
    with pytest.raises(DataError) as caught:
        find_root(VGGSound, tmp_path)
    for part in (str(tmp_path), "VGG-Sound", "stat.csv", "AudioSet", "data.root="):
        assert part in str(caught.value)
