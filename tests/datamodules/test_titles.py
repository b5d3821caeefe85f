"""Titles of videos, by a table beside the official files, as a clip's text."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from datamodules.errors import DataError
from datamodules.howto100m import HowTo100M
from datamodules.source import class_lists
from datamodules.streams.tokens import TokenStream
from datamodules.types import TextInputs
from datamodules.vggsound import VGGSound

WORDS = ["a", "video", "of", "my", "bell", "red"]


def stream(tmp_path: Path, **options: Any) -> TokenStream:
    (tmp_path / "words.txt").write_text("\n".join(WORDS))
    return TokenStream("text", TextInputs("words", str(tmp_path / "words.txt"), 6, "titles", **options))


def clips() -> pd.DataFrame:
    return pd.DataFrame(
        {"clip_id": list("xyz"), "video_id": ["v1", "v2", "v3"], "labels": class_lists([[0], [1], [0]])}
    )


def found(tmp_path: Path, titles: str | None) -> pd.DataFrame:
    (tmp_path / "stat.csv").write_text("bell ringing,1,x\ndog barking,1,x\n")
    if titles is not None:
        (tmp_path / "titles.csv").write_text(titles)
    table = clips()
    stream(tmp_path).find(table, VGGSound(tmp_path), None)
    return table


def test_a_clip_without_a_title_stays_and_has_no_words(tmp_path: Path):
    table = found(tmp_path, 'title,video_id\n"My  bell, \nred",v1\nunknown,v9\n,v3\n')
    assert table["text"].tolist() == ["My bell, red", "", ""]
    prompted = stream(tmp_path, prompt="A video of")
    prompted.prepare()
    read = [prompted.read(SimpleNamespace(moment=SimpleNamespace(text=text))) for text in table["text"]]
    assert [each[""].tolist() for each in read] == [[1, 2, 3, 4, 5, 6], [], []]
    assert [int(each["length"]) for each in read] == [6, 0, 0]


@pytest.mark.parametrize(
    ("titles", "why"),
    [
        (None, "there is no titles.csv in .*video_id,title"),
        ("video_id,title\nv7,My bell\n", "no title of any of the 3 videos, as video_id=v1"),
        ("video_id,title\nv1,Bell Ringing!\nv2,dog barking\nv3,my bell\n", "2 of 3 titles are the names of the clips'"),
        ("video_id,words\nv1,x\n", "no column title"),
    ],
)
def test_what_is_no_table_of_titles_is_named(tmp_path: Path, titles: str | None, why: str):
    with pytest.raises(DataError, match=why):
        found(tmp_path, titles)


def test_narrated_videos_are_read_by_what_is_said(tmp_path: Path):
    with pytest.raises(DataError, match=r"data\.inputs\.text\.reads=captions"):
        stream(tmp_path).find(clips(), HowTo100M(tmp_path), None)
