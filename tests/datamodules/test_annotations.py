"""What datasets' files share beside CSVs: lists of words and of classes, JSON, and a file for each clip."""

from __future__ import annotations

import pytest

from datamodules.esc50 import ESC50
from datamodules.source import (
    DataError,
    file_of,
    lines_of,
    read_each,
    read_json,
    read_rows,
    read_words,
    rows_of,
    segment_ids,
    timed_steps,
)


@pytest.fixture
def written(tmp_path):
    """Writes a text, and returns its file."""

    def write(text: str, name: str = "list.txt"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())
        return path

    return write


def test_lists_of_words_may_have_blanks_tabs_marks_and_quotes(written):
    """As UCF101's, HMDB51's (a blank ends each line) and Oxford-IIIT Pet's."""
    rows = read_words(written('\ufeffa_"b;#c.avi 1 \r\n\r\nlonely\r\nd.avi\t 2\r\n'), ("file", "split"))
    assert rows["file"].tolist() == ['a_"b;#c.avi', "d.avi"] and rows["split"].tolist() == ["1", "2"]
    assert rows.malformed == ["list.txt:3: 1 fields instead of 2"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "expected one row a class; there is none"),
        ("0,a\n1\n", r"expected one row a class; list\.txt:2"),
        ("1,a\n2,b\n", r"the indices are not 0\.\.1 in order; they begin with '1'"),
        ("index,name\n0,a\n", "begin with 'index'"),
        ("0,a\n1,a\n", "the name a stands there twice"),
    ],
)
def test_a_list_of_classes_that_does_not_count_them_is_refused(written, text, why):
    with pytest.raises(DataError, match=why):
        read_rows(written(text), ("index", "name")).numbered("index", "name")


def test_what_a_reader_leaves_out_is_a_whole_recording_without_labels(written):
    rows = read_rows(written("a,3\nb,\n"), ("id", "end"))
    whole = rows.official({"clip_id": rows["id"]})
    assert list(whole.clips) == ["clip_id", "video_id", "start", "end", "labels"]
    assert whole.clips["labels"].tolist() == [[], []]
    assert whole.clips.iloc[:, :4].to_numpy().tolist() == [[x, x, 0.0, float("inf")] for x in "ab"]
    assert [stems.tolist() for stems in whole.stems] == [["a", "b"]]
    cut = read_rows(rows.path, ("id", "end"))
    cut = cut.official({"clip_id": cut["id"] + "_0", "video_id": cut["id"], "end": cut.numbers("end")})
    assert cut.clips["end"].tolist() == [3.0] and [stems.tolist() for stems in cut.stems] == [["a"]]
    assert len(cut.malformed) == 1


def test_two_sentences_of_one_segment_are_two_clips(written):
    rows = read_rows(written("a,0,1\na,0,1\na,0,1.0\n"), ("id", "start", "end"))
    assert segment_ids(rows["id"], rows["start"], rows["end"]).tolist() == ["a_0_1", "a_0_1_1", "a_0_1.0"]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"videos": 3}', '{"videos": [{}]}', '{"videos": [[]]}'])
def test_json_of_another_shape_is_an_error_that_says_which_it_should_have(written, text):
    with pytest.raises(DataError, match=r"list\.json: not \{videos: \[\{id\}\]\}: "):
        read_json(written(text, "list.json"), "{videos: [{id}]}", lambda all: [one["id"] for one in all["videos"]])


def test_rows_of_json_are_known_by_their_numbers(written):
    rows = rows_of(written("", "list.json"), ("id", "start"), [("a", 1), ("b", None), ("c", 0.5)])
    assert rows.numbers("start").tolist()[::2] == [1.0, 0.5]
    assert rows.official({"clip_id": rows["id"]}).malformed == ["list.json:2: start is no number: None"]
    assert len(rows_of(rows.path, ("id", "start"), [])) == 0


def test_a_file_for_each_clip_is_found_and_read_by_lines_and_one_that_is_not_there_is_counted(written):
    path, rows = written("\ufeffx\r\n\r\n y\r\n", "times/a.txt"), read_rows(written("a\nb\n"), ("id",))
    assert list(lines_of(path)) == [("times/a.txt:1", "x"), ("times/a.txt:3", " y")]
    found = read_each(rows, lambda clip: file_of(path.parent, clip, ".srt", ".txt"), rows["id"], otherwise=None)
    assert found == [path, None]
    assert rows.official({"clip_id": rows["id"]}).malformed == ["list.txt:2: no times/b{.srt,.txt}"]


@pytest.mark.parametrize("place", ["", "release/", "a/b/"])
def test_a_folder_is_found_down_to_two_folders_below_and_named_with_its_archive_where_it_is_not(written, place):
    folder = written("", f"{place}audio/one.wav").parent
    source = ESC50(folder.parents[len(place.split("/")) - 1])
    assert source.find_folder("sound", "audio", archive="ESC-50.zip") == folder
    with pytest.raises(DataError, match=r"ESC-50: no folder sound or one\.wav in .*; unpack ESC-50\.zip there"):
        source.find_folder("sound", "one.wav", archive="ESC-50.zip")


def test_steps_stay_with_their_videos_when_rows_are_left_out(written):
    rows = read_rows(written("a\nb\nc\na\n"), ("id",))
    rows.reject(rows["id"] == "b", "broken")
    segments = [[(2, 0.5, 1.0), (0, 3.0, 4.0)], [(1, 0.0, 1.0)], [(1, 2.0, 2.0)], [(2, 0.5, 1.0), (0, 3.0, 4.0)]]
    official = timed_steps(rows, {"clip_id": rows["id"]}, segments, [[0, 2], [1], [1, 2], [0, 2]])
    assert official.clips["clip_id"].tolist() == ["a", "c"] and official.clips["labels"].tolist() == [[0, 2], [1]]
    assert official.steps.tolist() == [[0, 2], [1, 2]]
    assert official.segments.to_numpy().tolist() == [["a", 2, 0.5, 1.0], ["a", 0, 3.0, 4.0], ["c", 1, 2.0, 2.0]]
