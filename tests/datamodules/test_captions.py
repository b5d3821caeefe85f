"""Captions: what is read, what is left out and counted, and how clips grow around them."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamodules.source import captions
from datamodules.source.captions import CaptionError, Captions, Said, beside, grow, read


def write(path: Path, content: object) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def said_of(starts: list[float], lengths: list[float]) -> Said:
    start = np.sort(np.array(starts, dtype=np.float32))
    return Said(start, start + np.array(lengths, dtype=np.float32), [f"word{i}" for i in range(len(starts))])


def slow_grow(said: Said, index: int, seconds: float) -> tuple[float, float, list[str]]:
    """All spans as captions in the order in which they come in: the better of the two with one neighbour more."""

    def span(chosen: list[int]) -> tuple[float, float]:
        return min(float(said.start[i]) for i in chosen), max(float(said.end[i]) for i in chosen)

    chosen = [index]
    while span(chosen)[1] - span(chosen)[0] < seconds and len(chosen) < len(said.text):
        before, after = min(chosen) - 1, max(chosen) + 1
        # The neighbour's own end counts, as in the official loader, even where an earlier caption ends later.
        lengths = {}
        if before >= 0:
            lengths[before] = span(chosen)[1] - float(said.start[before])
        if after < len(said.text):
            lengths[after] = float(said.end[after]) - span(chosen)[0]
        chosen.append(min(lengths, key=lambda i: (lengths[i], i)))
    return *span(chosen), [said.text[i] for i in chosen]


@st.composite
def lines(draw: st.DrawFn) -> tuple[Said, int]:
    count = draw(st.integers(1, 12))
    starts = draw(st.lists(st.integers(0, 120).map(lambda n: n / 4), min_size=count, max_size=count))
    lengths = draw(st.lists(st.integers(1, 40).map(lambda n: n / 4), min_size=count, max_size=count))
    return said_of(starts, lengths), draw(st.integers(0, count - 1))


@given(lines(), st.integers(0, 200).map(lambda n: n / 4))
def test_growing_equals_a_slow_reference_and_is_long_enough(drawn, seconds):
    said, index = drawn
    start, end, text = grow(said, index, seconds)
    words = text.split()
    assert (start, end, words) == slow_grow(said, index, seconds)
    places = [said.text.index(word) for word in words]
    assert places[0] == index and sorted(places) == list(range(min(places), max(places) + 1))
    assert end - start >= seconds or len(words) == len(said.text)
    assert start <= said.start[index] and end >= said.end[index]


def test_a_caption_takes_the_nearer_neighbour():
    said = said_of([0, 10, 13], [2, 2, 2])
    assert grow(said, 1, 5.0) == (10.0, 15.0, "word1 word2")
    assert grow(said, 1, 1.0) == (10.0, 12.0, "word1")
    assert grow(said, 1, 99.0) == (0.0, 15.0, "word1 word2 word0")


def test_captions_beside_a_stretch_are_the_nearest_ones_that_do_not_lie_in_it():
    said = said_of([0, 3, 10, 13, 30], [2, 2, 2, 2, 2])
    assert beside(said, 10.0, 15.0, 2) == ["word1", "word0"]
    assert beside(said, 3.0, 5.0, 9) == ["word0", "word2", "word3", "word4"], "and no more than there are"
    assert beside(said, 2.5, 11.0, 2) == ["word2", "word0"], "one that reaches beyond the stretch is beside it"


AUTHORS = json.loads((Path(__file__).parent.parent / "golden" / "narration_avlnet.json").read_text())


@pytest.mark.parametrize("seconds", [8.0, 10.0, 20.0])
def test_a_caption_that_is_merged_comes_first_and_its_neighbours_follow_as_in_the_authors_loader(seconds):
    start, end, text = AUTHORS["captions"].values()
    said = Said(np.array(start), np.array(end), text)
    for cut in (cut for cut in AUTHORS["cut"] if cut["seconds"] == seconds):
        start, end, text = grow(said, cut["caption"], seconds)
        assert (start, end, " ".join(text.split()[:20])) == (cut["start"], cut["end"], cut["words"])


BAD = ["", "[]", "{}", '{"v": {"start": [0', '{"v": [1, 2]}', '{"v": {"start": [0], "end": [1]}}', "pickled"]
UNEQUAL = '{"v": {"start": [0, 1], "end": [1], "text": ["a"]}}'


@pytest.mark.parametrize("content", [*BAD, UNEQUAL])
def test_what_is_no_caption_file_is_refused_with_its_name_and_leaves_nothing(tmp_path, content):
    with pytest.raises(CaptionError, match=r"caption\.json"):
        read(write(tmp_path / "caption.json", content), tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())


def test_unequal_lists_name_the_video(tmp_path):
    with pytest.raises(CaptionError, match=r"captions of 'v' .* not equally long"):
        read(write(tmp_path / "caption.json", UNEQUAL), tmp_path / "cache")


def test_a_folder_whose_files_have_other_columns_is_refused(tmp_path):
    (tmp_path / "captions").mkdir()
    write(tmp_path / "captions/v.csv", "begin,end,text\n0,1,a\n")
    with pytest.raises(CaptionError, match=r"captions: v\.csv has no columns start, end, text"):
        read(tmp_path / "captions", tmp_path / "cache")


def test_lines_that_say_nothing_or_have_no_span_are_left_out_and_counted(tmp_path):
    videos = {
        "first": {
            "start": [5.0, 0.0, 1.0, 9.0, -1.0, "x", None],
            "end": [6.0, 2.0, 3.0, 8.0, 1.0, 2.0, 3.0],
            "text": ["later", "first", "  ", "reversed", "negative", "no time", "none"],
        },
        "silent": {"start": [0.0], "end": [1.0], "text": [None]},
        "empty": {"start": [], "end": [], "text": []},
    }
    found = read(write(tmp_path / "caption.json", videos), tmp_path / "cache")
    assert found.skipped == 6 and len(found) == 1
    said = found.of(0)
    assert said.text == ["first", "later"] and said.start.tolist() == [0.0, 5.0]
    rows = found.rows(pd.Series(["silent", "first", "absent"]))
    assert rows.isna().tolist() == [True, False, True] and rows[1] == 0


def test_short_lines_of_a_csv_do_not_say_none(tmp_path):
    (tmp_path / "captions").mkdir()
    write(tmp_path / "captions/v.csv", "start,end,text\n0,1,yes\n1,2\n")
    found = read(tmp_path / "captions", tmp_path / "cache")
    assert found.of(0).text == ["yes"] and found.skipped == 1


def one(text: str) -> dict[str, dict[str, list]]:
    return {"v": {"start": [0.0], "end": [1.0], "text": [text]}}


def test_an_unchanged_file_is_read_once_and_a_changed_one_again(tmp_path, monkeypatch):
    path, cache = write(tmp_path / "caption.json", one("old")), tmp_path / "cache"
    read(path, cache)
    with monkeypatch.context() as patch:
        patch.setattr(captions, "_from_json", lambda path: pytest.fail("read again"))
        assert read(path, cache).of(0).text == ["old"]
    time = path.stat().st_mtime_ns
    write(path, one("new"))
    os.utime(path, ns=(time + 1, time + 1))
    assert read(path, cache).of(0).text == ["new"]


def test_another_file_of_the_same_name_size_and_time_is_another(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        os.utime(write(tmp_path / folder / "caption.json", one(folder)), ns=(10**18, 10**18))
    assert [read(tmp_path / f / "caption.json", tmp_path / "cache").of(0).text for f in "ab"] == [["a"], ["b"]]


def test_an_interrupted_conversion_leaves_nothing_half_done(tmp_path, monkeypatch):
    monkeypatch.setattr(captions, "BATCH_VIDEOS", 1)
    path, cache = write(tmp_path / "caption.json", {name: one("x")["v"] for name in "abc"}), tmp_path / "cache"

    whole = captions._batch
    batches = []

    def interrupted(videos):
        batches.append(videos)
        if len(batches) == 3:
            raise KeyboardInterrupt
        return whole(videos)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(captions, "_batch", interrupted)
        read(path, cache)
    assert not list(cache.iterdir())
    assert len(read(path, cache)) == 3


def _text_of(found: Captions, row: int) -> list[str]:
    return found.of(row).text


def test_other_processes_share_the_file_and_not_its_content(tmp_path):
    videos = {f"v{i}": {"start": [0.0], "end": [1.0], "text": [f"text {i} " * 50]} for i in range(2000)}
    found = read(write(tmp_path / "caption.json", videos), tmp_path / "cache")
    assert len(pickle.dumps(found)) < 1000
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(_text_of, (found, 1234)) == found.of(1234).text == [("text 1234 " * 50).strip()]
