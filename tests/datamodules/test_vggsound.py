"""VGGSound's official files, with the quirks they have."""

from __future__ import annotations

from pathlib import Path

import pytest

from datamodules.manifest.build import list_clips
from datamodules.manifest.checks import Checks
from datamodules.survey.walk import survey
from datamodules.types import Inputs
from datamodules.vggsound import VGGSound


@pytest.fixture
def vggsound(tmp_path: Path):
    def write(rows: str) -> VGGSound:
        # No header, no final newline, not sorted; labels with commas are quoted.
        (tmp_path / "stat.csv").write_bytes(b'zebra braying,50,animals\r\n"wind rustling, leaves",49,nature')
        (tmp_path / "vggsound.csv").write_bytes(rows.encode())
        return VGGSound(tmp_path)

    return write


def test_the_class_index_is_the_place_in_the_sorted_labels(vggsound):
    assert vggsound("").classes == ["wind rustling, leaves", "zebra braying"]


def test_headerless_rows_with_crlf_and_quoted_labels_are_read(vggsound):
    rows = '---g-f_I2yQ,1,"wind rustling, leaves",test\r\nabcdefghijk,120,zebra braying,train\r\n'
    source = vggsound(rows)
    test, train = source.read_split("test"), source.read_split("train")
    assert test.clips["clip_id"].tolist() == ["---g-f_I2yQ_000001"] and test.clips["labels"].tolist() == [[0]]
    assert train.clips["clip_id"].tolist() == ["abcdefghijk_000120"] and train.clips["labels"].tolist() == [[1]]
    assert test.malformed == train.malformed == []


def test_both_file_names_in_use_are_looked_for(vggsound):
    official = vggsound("abcdefghijk,12,zebra braying,test\n").read_split("test")
    assert [stem[0] for stem in official.timed_stems] == ["abcdefghijk_000012", "abcdefghijk_12000_22000"]
    assert [stem[0] for stem in official.stems] == ["abcdefghijk"]


def test_malformed_rows_are_counted_with_their_lines(vggsound):
    rows = (
        "a,1,zebra braying,test\nb,1,zebra braying\nc,x,zebra braying,test\nd,1,unicorn,test\ne,1,zebra braying,valid\n"
    )
    official = vggsound(rows).read_split("test")
    assert len(official.clips) == 1
    assert [row.split(": ")[0] for row in official.malformed] == [f"vggsound.csv:{line}" for line in (2, 3, 4, 5)]
    for part, row in zip(("3 fields", ": x", "unicorn", "valid"), official.malformed, strict=True):
        assert part in row


def test_the_lists_of_file_names_are_read_in_the_place_of_the_whole_list(vggsound):
    source = vggsound("")
    (source.root / "vggsound.csv").unlink()
    rows = (
        '---g-f_I2yQ_000001.mp4,"wind rustling, leaves"',
        "a_b-cdefghi_000120.mp4,zebra braying",
        "broken,zebra braying",
    )
    (source.root / "test.csv").write_bytes("\r\n".join(rows).encode())
    official = source.read_split("test")
    assert official.clips["clip_id"].tolist() == ["---g-f_I2yQ_000001", "a_b-cdefghi_000120"]
    assert official.clips["video_id"].tolist() == ["---g-f_I2yQ", "a_b-cdefghi"]
    assert official.clips["start"].tolist() == [1.0, 120.0] and official.clips["labels"].tolist() == [[0], [1]]
    assert len(official.malformed) == 1 and "test.csv:3" in official.malformed[0]


def write_lists(folder: Path, **lists: str) -> VGGSound:
    (folder / "stat.csv").write_text("a,1,x\nb,1,x\n")
    for name, rows in lists.items():
        (folder / f"{name}.csv").write_text(rows)
    return VGGSound(folder)


def test_a_split_s_own_list_is_read_before_the_one_of_both(tmp_path):
    """Copies of the latter circulate that have 50 test rows more."""
    both = "aaaaaaaaaaa,30,a,test\nbbbbbbbbbbb,30,b,test\nccccccccccc,30,b,train\n"
    source = write_lists(tmp_path, test="aaaaaaaaaaa_000030.mp4,a\n", vggsound=both)
    assert source.read_split("test").clips["clip_id"].tolist() == ["aaaaaaaaaaa_000030"]
    assert source.read_split("train").clips["clip_id"].tolist() == ["ccccccccccc_000030"]


def test_a_list_longer_than_the_official_one_is_reported(tmp_path, monkeypatch):
    monkeypatch.setattr(VGGSound, "sizes", {"test": 2})
    rows = "".join(f"{letter * 11},30,a,test\n" for letter in "abcde")
    listed = list_clips(write_lists(tmp_path, vggsound=rows), ["test"], Inputs(None, None))
    assert (listed.unlisted, listed.overlong) == (0, 3)
    facts = survey(VGGSound(tmp_path), Checks(tmp_path / "checks", workers=1), None, 0.85)
    assert facts.splits["test"].overlong == 3
    (overlong,) = [finding for finding in facts.findings if "more than the official release" in finding.what]
    assert (
        overlong.what == "test lists 5 clips, 3 more than the official release"
        and "official list" in overlong.next_step
    )
    rows = rows.splitlines()[0] + "\n"
    listed = list_clips(write_lists(tmp_path, vggsound=rows), ["test", "train"], Inputs(None, None))
    assert (listed.unlisted, listed.overlong) == (1, 0)
