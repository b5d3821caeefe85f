"""Reading official CSV files as columns: exactness on any table, labels, and what is said of bad rows."""

from __future__ import annotations

import csv
import io
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamodules.audioset import AudioSet
from datamodules.source import DataError, Rows, find_root, milliseconds, padded, read_rows, read_rows_by_header
from datamodules.source import rows as rows_module
from datamodules.vggsound import VGGSound

# Neither a blank at the start, which the dialect takes for none, nor surrogates, which UTF-8 has not.
CELL = st.text(st.characters(codec="utf-8", exclude_characters="\r\n\x00"), max_size=8).map(str.lstrip)
QUIRKY = st.sampled_from(["", 'a "b"', "a, b", "炒飯", "-x", '"', ",", "/m/1,/m/2", "\ufeff"])


@st.composite
def tables(draw: st.DrawFn) -> list[list[str]]:
    width = draw(st.integers(2, 4))
    rows = draw(st.lists(st.lists(CELL | QUIRKY, min_size=width, max_size=width), max_size=9))
    return [row for row in rows if not row[0].startswith(("#", "\ufeff"))]


def written(rows: list[list[str]], end: str, blank: str, mark: str) -> str:
    """In the dialect of the official files: all or the needed quotes, blanks after commas, either end of line."""
    text = io.StringIO()
    for row in rows:
        cells = []
        for cell in row:
            one = io.StringIO()
            csv.writer(one, lineterminator="").writerow([cell, ""])
            cells.append(one.getvalue().removesuffix(","))
        text.write(f",{blank}".join(cells) + end)
    return mark + text.getvalue()


def read_text(text: str, names: list[str]) -> Rows:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "list.csv"
        path.write_bytes(text.encode())
        return read_rows(path, names)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    """A handful of rows is then read in several pieces, as 65,536 and more are."""
    monkeypatch.setattr(rows_module, "CHUNK_ROWS", 3)


@given(tables(), st.sampled_from(["\n", "\r\n"]), st.sampled_from(["", " "]), st.sampled_from(["", "\ufeff"]))
def test_any_table_is_read_back_exactly(rows, end, blank, mark):
    width = len(rows[0]) if rows else 2
    names = [f"column {i}" for i in range(width)]
    comment = f"# a comment{end}"
    found = read_text(mark + comment + written(rows, end, blank, ""), names)
    assert found.malformed == [] and len(found) == len(rows)
    for i, name in enumerate(names):
        assert found[name].tolist() == [row[i] for row in rows]


LABELS = ["Speech", "Male speech", "/m/1", "ünï", "x"]


@given(st.lists(st.lists(st.sampled_from([*LABELS, "unknown", ""]), min_size=1, max_size=5), max_size=12))
def test_labels_equal_a_slow_reference(lists):
    found = read_text("".join(f'v{i},"{",".join(labels)}"\n' for i, labels in enumerate(lists)), ["id", "labels"])
    indices = found.labels("labels", LABELS, separator=",")
    clips = {"clip_id": found["id"], "video_id": found["id"], "start": 0.0, "end": 1.0, "labels": indices}
    official = found.official(clips, [])
    good = {f"v{i}": labels for i, labels in enumerate(lists) if set(labels) <= set(LABELS)}
    assert official.clips["clip_id"].tolist() == list(good)
    assert official.clips["labels"].tolist() == [sorted({LABELS.index(x) for x in labels}) for labels in good.values()]
    bad = [(i, next(x for x in labels if x not in LABELS)) for i, labels in enumerate(lists) if f"v{i}" not in good]
    assert official.malformed == [f"list.csv:{i + 1}: unknown label {label!r}" for i, label in bad]


@given(st.lists(st.sampled_from([*LABELS, "a, b", "unknown"]), max_size=12))
def test_one_label_a_row_is_not_split(labels):
    classes = [*LABELS, "a, b"]
    found = read_text("".join(f'v{i},"{label}"\n' for i, label in enumerate(labels)), ["id", "label"])
    indices = found.labels("label", classes).tolist()
    assert [x[0] for x in indices] == [classes.index(x) if x in classes else -1 for x in labels]


NUMBERS = {"0": 0.0, "30.000": 30.0, "1e1": 10.0, "-2": -2.0}
NO_NUMBERS = ["", "nan", "inf", "-inf", "zero", "1_0", "0x10", "True", "1;2", "00:10"]


def test_what_is_no_finite_number_is_rejected_with_its_text():
    cells = [*NUMBERS, *NO_NUMBERS]
    found = read_text("".join(f"v{i},{cell}\n" for i, cell in enumerate(cells)), ["id", "start"])
    assert found.numbers("start")[: len(NUMBERS)].tolist() == list(NUMBERS.values())
    clips = {"clip_id": found["id"], "video_id": found["id"], "start": 0.0, "end": 1.0}
    official = found.official(clips, [found["id"]])
    assert len(official.clips) == len(official.stems[0]) == len(NUMBERS)
    assert [row.split("is no number: ")[1] for row in official.malformed] == NO_NUMBERS


def test_the_first_reason_of_a_row_stays_and_stems_stay_aligned():
    found = read_text("a,1\nb,x\n# no row\n\nc,2\nc,3\n", ["id", "n"])
    found.numbers("n")
    found.reject(found["id"] == "b", "another reason")
    clips = {"clip_id": found["id"], "video_id": found["id"], "start": 0.0, "end": 1.0}
    official = found.official(clips, [found["id"] + "!"])
    assert official.stems[0].tolist() == ["a!", "c!"]
    assert official.malformed == ["list.csv:2: n is no number: x", "list.csv:6: the clip c stands here twice"]


def test_rows_without_an_id_and_segments_that_are_none_are_rejected():
    found = read_text("a,0,9\nb,9,0\nc,-1,9\nd,9,9\n,0,9\ne,0\n", ["id", "start", "end"])
    clips = {"clip_id": "clip_" + found["id"], "video_id": found["id"]}
    official = found.official(clips | {"start": found.numbers("start"), "end": found.numbers("end")}, [])
    assert official.clips["video_id"].tolist() == ["a"]
    whys = ["9.0 to 0.0 s is no segment", "-1.0 to 9.0 s is no segment", "9.0 to 9.0 s is no segment", "no video id"]
    whys.append("2 fields instead of 3")
    assert official.malformed == [f"list.csv:{line}: {why}" for line, why in enumerate(whys, 2)]


def test_the_line_of_a_row_is_where_it_ends_in_the_file(tmp_path):
    (tmp_path / "a.csv").write_text('id,text\n1,"two\nlines"\n2\n')
    found = read_rows_by_header(tmp_path / "a.csv", ["text"])
    assert found["text"].tolist() == ["two\nlines"] and found.malformed == ["a.csv:4: 1 fields instead of 2"]


def test_a_file_of_no_bytes_has_no_rows(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"")
    found = read_rows(tmp_path / "a.csv", ["id", "labels"])
    clips = {"clip_id": found["id"], "video_id": found["id"], "start": found.numbers("id"), "end": 1.0}
    clips["labels"] = found.labels("labels", LABELS, ",")
    assert len(found.official(clips, [milliseconds(clips["start"])]).clips) == 0


def test_a_column_that_is_missing_is_named_with_the_file(tmp_path):
    (tmp_path / "a.csv").write_text("id,label\n1,x\n")
    with pytest.raises(DataError, match=r"a\.csv: no column start, end; its first line is 'id,label'"):
        read_rows_by_header(tmp_path / "a.csv", ["id", "start", "end"])


def test_times_as_file_names_have_them():
    seconds = pd.Series([0.0, 30.0, 21.5, 0.0004, np.nan, 1e300])
    assert milliseconds(seconds).tolist()[:5] == ["0", "30000", "21500", "0", "0"]
    assert padded(seconds).tolist()[:4] == ["000000", "000030", "000021", "000000"]


# AudioSet and VGGSound, beyond test_audioset.py and test_vggsound.py

CLASSES = 'index,mid,display_name\r\n0,/m/09x0r,"Speech"\r\n1,/m/05zppz,"Male speech, man speaking"\r\n'
SEGMENTS = "# created\r\n# num_ytids=1\r\n# YTID, start_seconds, end_seconds, positive_labels\r\n"


def audioset(folder: Path, segments: str, mark: str = "") -> AudioSet:
    (folder / "class_labels_indices.csv").write_bytes((mark + CLASSES).encode())
    (folder / "eval_segments.csv").write_bytes((mark + segments).encode())
    return AudioSet(folder)


def test_audioset_with_a_byte_order_mark_and_crlf(tmp_path):
    source = audioset(tmp_path, SEGMENTS + '--4gqARaEJE, 0.000, 10.000, "/m/05zppz,/m/09x0r"\r\n', "\ufeff")
    official = source.read_split("eval")
    assert official.clips["labels"].tolist() == [[0, 1]] and official.malformed == []
    assert source.classes == ["Speech", "Male speech, man speaking"]


def test_a_copy_of_audioset_that_went_through_a_spreadsheet_is_an_error(tmp_path):
    row = '--4gqARaEJE,0,10,"""/m/09x0r","/m/05zppz"""' + "," * 9 + "\r\n"
    with pytest.raises(DataError, match=r"14 fields instead of 4.*googleapis.*/eval_segments\.csv") as error:
        audioset(tmp_path, row * 2).read_split("eval")
    assert "spreadsheet" in str(error.value)


def test_vggsound_with_byte_order_marks_and_faults_of_the_other_split(tmp_path):
    (tmp_path / "stat.csv").write_bytes('\ufeff"wind rustling, leaves",49,nature\r\nzebra braying,50,animals'.encode())
    rows = '\ufeff---g-f_I2yQ,1,"wind rustling, leaves",test\r\nbbbbbbbbbbb,1,unicorn,train\r\n'
    (tmp_path / "vggsound.csv").write_bytes(rows.encode())
    source = VGGSound(tmp_path)
    assert source.classes == ["wind rustling, leaves", "zebra braying"]
    test, train = source.read_split("test"), source.read_split("train")
    assert test.clips["video_id"].tolist() == ["---g-f_I2yQ"] and test.malformed == []
    assert train.malformed == ["vggsound.csv:2: unknown label 'unicorn'"]


def test_an_official_size_holds_for_real_data_only(tmp_path):
    assert AudioSet(tmp_path).official_size("eval") == 20371 and VGGSound(tmp_path).official_size("train") is None
    (tmp_path / "SAMPLE.json").write_text("{}")
    assert AudioSet(tmp_path).official_size("eval") is None


def test_a_folder_is_found_whatever_its_case_and_missed_with_an_error(tmp_path):
    with pytest.raises(DataError, match="AudioSet is not under .* there is no folders"):
        find_root(AudioSet, tmp_path)
    (tmp_path / "AUDIOSET").mkdir()
    assert find_root(AudioSet, tmp_path) == tmp_path / "AUDIOSET"
