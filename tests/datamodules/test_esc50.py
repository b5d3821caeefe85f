"""ESC-50's official file, with the quirks it has, and the real ESC-10."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.config.compose import compose
from bench.errors import UserError
from bench.plan.graph import make_plan
from datamodules.esc50 import ESC10, ESC50, FOLDS
from datamodules.manifest.media_index import index_media
from datamodules.source import DataError, Source, find_root

REAL = Path(__file__).parents[3] / "shared" / "data" / "ESC-50"
HEADER = "filename,fold,target,category,esc10,src_file,take\n"
DOG, WIND = "0,dog,True,{source},A\n", "16,wind,False,{source},B\n"


def two_clips_a_fold() -> str:
    rows = ""
    for fold in range(1, 6):
        rows += f"{fold}-10{fold}-B-16.wav,{fold},16,wind,False,10{fold},B\n"
        rows += f"{fold}-20{fold}-A-0.wav,{fold},0,dog,True,20{fold},A\n"
    return rows


@pytest.fixture
def esc50(tmp_path: Path):
    def write(rows: str, kind: type[Source] = ESC50, start: str = HEADER) -> Source:
        (tmp_path / "meta").mkdir(exist_ok=True)
        (tmp_path / "meta/esc50.csv").write_bytes((start + rows).encode())
        return kind(tmp_path)

    return write


def test_classes_are_in_the_order_of_their_targets_and_clips_in_their_folds(esc50):
    source = esc50(two_clips_a_fold())
    assert source.classes == ["dog", "wind"]
    for number, fold in enumerate(FOLDS, 1):
        official = source.read_split(fold)
        assert official.malformed == []
        assert official.clips["clip_id"].tolist() == [f"{number}-10{number}-B-16", f"{number}-20{number}-A-0"]
        assert official.clips["video_id"].tolist() == [f"10{number}", f"20{number}"]
        assert official.clips["labels"].tolist() == [[1], [0]]


def test_esc10_is_the_marked_clips_of_the_full_file_and_the_others_are_no_faults(esc50):
    source = esc50(two_clips_a_fold(), ESC10)
    assert source.classes == ["dog"]
    official = source.read_split("fold2")
    assert official.clips["clip_id"].tolist() == ["2-202-A-0"] and official.malformed == []


def test_a_byte_order_mark_crlf_and_another_order_of_columns_are_read(esc50):
    rows = "\ufefffold,filename,take,target,category,esc10,src_file\r\n1,1-7-A-0.wav,A,0,dog,True,7\r\n"
    official = esc50(rows, start="").read_split("fold1")
    assert official.clips["clip_id"].tolist() == ["1-7-A-0"] and official.malformed == []


def test_the_suffix_on_the_disk_may_be_another(esc50, tmp_path):
    source = esc50("1-7-A-0.wav,1,0,dog,True,7,A\n")
    (tmp_path / "audio").mkdir()
    (tmp_path / "audio/1-7-A-0.ogg").touch()
    stems = source.read_split("fold1").stems
    media = index_media(tmp_path)["audio"]
    assert media.paths(media.find(stems)).to_pylist() == [str(tmp_path / "audio/1-7-A-0.ogg")]


def test_malformed_rows_are_counted_with_their_lines_in_the_fold_they_belong_to(esc50):
    rows = (
        "1-1-A-0.wav,1,0,dog,True,1,A\n"
        "1-2-A-0.wav,1,0,dog,True,2\n"
        "1-3-A-0.wav,6,0,dog,True,3,A\n"
        "1-4-A-0.wav,1,zero,dog,True,4,A\n"
        "1-5-A-0.wav,1,0,dog,maybe,5,A\n"
        ".wav,1,0,dog,True,6,A\n"
        "1-7-A-0.wav,1,0,dog,True,,A\n"
        "1-1-A-0.wav,1,0,dog,True,1,A\n"
        "2-9-A-0.wav,2,zero,dog,True,9,A\n"
    )
    source = esc50(rows)
    official = source.read_split("fold1")
    assert official.clips["clip_id"].tolist() == ["1-1-A-0"]
    assert [row.split(": ")[0] for row in official.malformed] == [f"esc50.csv:{line}" for line in range(3, 10)]
    whys = ("6 fields", "none of 1 to 5: 6", "zero", "maybe", "no clip id", "no video id", "twice")
    for why, row in zip(whys, official.malformed, strict=True):
        assert why in row
    # A row that is no row, or of no fold, may belong to any.
    lines = [row.split(":")[1] for row in source.read_split("fold2").malformed]
    assert lines == ["3", "4", "10"]


@pytest.mark.parametrize("content", ["", "filename,fold\n1-1-A-0.wav,1\n", HEADER, HEADER + "a.wav,1,0,dog,True,1,A\n"])
def test_an_empty_or_other_file_is_refused_with_its_name(esc50, content):
    source = esc50("b.wav,1,0,cat,True,1,A\n" if content.count("\n") > 1 and "dog" in content else "", start=content)
    with pytest.raises(DataError, match=r"meta/esc50\.csv: (no column .*target|expected one category)"):
        source.read_split("fold1")


def test_the_official_folder_of_the_zip_is_found(tmp_path):
    (tmp_path / "ESC-50-MASTER").mkdir()
    assert find_root(ESC50, tmp_path).name == "ESC-50-MASTER"


@pytest.mark.skipif(not REAL.is_dir(), reason="the real ESC-10 is not here")
def test_the_real_esc10_has_five_folds_of_eighty_and_no_source_in_two():
    source = ESC10(REAL)
    splits = [source.read_split(fold) for fold in FOLDS]
    assert [len(split.clips) for split in splits] == [80] * 5 and not any(split.malformed for split in splits)
    assert len(source.classes) == 10 and source.classes[:3] == ["dog", "rooster", "rain"]
    videos = [set(split.clips["video_id"]) for split in splits]
    assert len(set.union(*videos)) == sum(map(len, videos))
    media = index_media(REAL)["audio"]
    assert all((media.find(split.stems) >= 0).all() for split in splits)


@pytest.mark.skipif(not REAL.is_dir(), reason="the real ESC-10 is not here")
def test_esc50_is_not_measured_on_the_part_of_it_that_is_esc10(tmp_path):
    config = compose(
        "baseline_cnn", [f"data_root={REAL.parent}", "stage=train_esc50", "preset=paper", f"runs={tmp_path}"]
    )
    with pytest.raises(UserError, match=r"only 80 of the 400 official clips of esc50 .*20\.0%; 320 not listed"):
        make_plan(config)
