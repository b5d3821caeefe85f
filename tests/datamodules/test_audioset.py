"""AudioSet's official files, with the quirks they have."""

from __future__ import annotations

from pathlib import Path

import pytest

from datamodules.audioset import AudioSet
from datamodules.source import DataError

CLASSES = """index,mid,display_name
0,/m/09x0r,"Speech"
1,/m/05zppz,"Male speech, man speaking"
2,/t/dd00003,"Child speech, kid speaking"
3,/g/122z_qxw,"Chainsaw"
"""
HEADER = """# Segments csv created Sun Mar  5 10:54:31 2017
# num_ytids=3
# YTID, start_seconds, end_seconds, positive_labels
"""


@pytest.fixture
def audioset(tmp_path: Path):
    def write(rows: str) -> AudioSet:
        (tmp_path / "class_labels_indices.csv").write_text(CLASSES)
        (tmp_path / "eval_segments.csv").write_text(HEADER + rows)
        return AudioSet(tmp_path)

    return write


def test_display_names_with_commas_are_one_class(audioset):
    assert audioset("").classes[1] == "Male speech, man speaking"


def test_ids_that_start_with_a_dash_and_quoted_label_lists_are_read(audioset):
    rows = '--4gqARaEJE, 0.000, 10.000, "/m/09x0r,/t/dd00003"\n_b-C12345_7, 21.500, 31.500, "/g/122z_qxw"\n'
    official = audioset(rows).read_split("eval")
    assert official.malformed == []
    assert official.clips["video_id"].tolist() == ["--4gqARaEJE", "_b-C12345_7"]
    assert official.clips["labels"].tolist() == [[0, 2], [3]]
    assert official.clips["start"].tolist() == [0.0, 21.5]
    assert official.clips["clip_id"].tolist() == ["--4gqARaEJE_0", "_b-C12345_7_21500"]


NAMES = ["Yid_shorter12", "id_shorter12", "id_shorter12_30", "id_shorter12_30000", "id_shorter12_30000_40000"]


@pytest.mark.parametrize("name", NAMES)
def test_names_that_people_have_on_disk_are_looked_for(audioset, name):
    official = audioset('id_shorter12, 30.000, 40.000, "/m/09x0r"\n').read_split("eval")
    stems = official.timed_stems if "_30" in name else official.stems
    assert [name] in [stem.tolist() for stem in stems]


def test_a_class_list_out_of_order_is_refused(tmp_path: Path):
    (tmp_path / "class_labels_indices.csv").write_text('index,mid,display_name\n1,/m/09x0r,"Speech"\n')
    with pytest.raises(DataError, match="indices are not 0..0"):
        _ = AudioSet(tmp_path).classes


@pytest.mark.parametrize("row", ['1,/m/09x0r,"Other"', '1,/m/other,"Speech"'])
def test_a_class_that_stands_there_twice_is_refused(tmp_path: Path, row: str):
    (tmp_path / "class_labels_indices.csv").write_text(f'index,mid,display_name\n0,/m/09x0r,"Speech"\n{row}\n')
    with pytest.raises(DataError, match=r"class_labels_indices\.csv: the (mid|display_name) .* stands there twice"):
        _ = AudioSet(tmp_path).classes


def test_a_split_needs_its_own_list_only(audioset):
    source = audioset('aaaaaaaaaaa, 0.000, 10.000, "/m/09x0r"\n')
    for name in source.required_files():
        source.find(name)
    assert len(source.read_split("eval").clips) == 1
    with pytest.raises(DataError, match=r"unbalanced_train_segments\.csv"):
        source.read_split("unbalanced")
