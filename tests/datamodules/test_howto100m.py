"""HowTo100M's official lists and caption files, with the quirks they have."""

from __future__ import annotations

import json
import pickle
import zipfile
from pathlib import Path

import pytest

from datamodules.howto100m import HowTo100M
from datamodules.source import DataError

IDS = ["-aBcDeFgHi_", "_0123456789", "nVbIUDjzWY4"]
LISTS = {
    "HowTo100M_v1.csv": "video_id,category_1,category_2,rank,task_id\n"
    + "".join(f"{id_},Home & Garden,Cars & Other Vehicles,{n},{n}\n" for n, id_ in enumerate(IDS)),
    "howto100m_videos.csv": "video_path\n"
    + "".join(f"{id_}.{s}\n" for id_, s in zip(IDS, ("mp4", "mkv", "webm"), strict=True)),
    "HowTo100M_1166_videopaths.txt": "path\n"
    + "".join(f"Food & Entertaining/video_{n}/{i}\n" for n, i in enumerate(IDS)),
}
OVERLAPPING = {"start": [0.0, 2.5, 4.1], "end": [3.0, 5.0, 8.2], "text": ["so we take", "take the rice", "and stir"]}


def source_of(folder: Path, name: str, content: str) -> HowTo100M:
    (folder / name).write_bytes(content.encode())
    return HowTo100M(folder, cache=folder / "cache")


@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize("quirk", ["as it is", "byte order mark and CRLF"])
def test_each_published_list_gives_the_same_ids(tmp_path, name, quirk):
    content = LISTS[name] if quirk == "as it is" else "\ufeff" + LISTS[name].replace("\n", "\r\n")
    official = source_of(tmp_path, name, content).read_split("train")
    assert official.clips["clip_id"].tolist() == official.stems[0].tolist() == IDS and official.malformed == []
    assert official.clips["labels"].tolist() == [[], [], []] and set(official.clips["end"]) == {float("inf")}


@pytest.mark.parametrize("name", LISTS)
def test_a_list_without_its_header_or_empty_is_refused(tmp_path, name):
    for content in ("", "\n".join(LISTS[name].splitlines()[1:])):
        with pytest.raises(DataError, match=rf"{name}: no column"):
            source_of(tmp_path, name, content).read_split("train")


def as_csv() -> str:
    lines = zip(OVERLAPPING["start"], OVERLAPPING["end"], OVERLAPPING["text"], strict=True)
    return "start,end,text\n" + "".join(f"{start},{end},{text}\n" for start, end, text in lines)


def write_captions(folder: Path, form: str) -> None:
    if form.endswith(".json"):
        (folder / form).write_text(json.dumps({IDS[0]: OVERLAPPING}))
    elif form.endswith(".zip"):
        with zipfile.ZipFile(folder / form, "w") as archive:
            archive.writestr(f"howto100m_captions/{IDS[0]}.csv", as_csv())
            archive.writestr(f"__MACOSX/howto100m_captions/._{IDS[0]}.csv", b"\x00\x05\x16")
    else:
        (folder / form).mkdir()
        (folder / form / f"{IDS[0]}.csv").write_bytes(b"\xef\xbb\xbf" + as_csv().replace("\n", "\r\n").encode())


FORMS = ["caption.json", "raw_caption.json", "raw_caption_superclean.json", "howto100m_captions.zip"]


@pytest.mark.parametrize("form", [*FORMS, "howto100m_captions"])
def test_each_form_of_the_captions_says_the_same(tmp_path, form):
    write_captions(tmp_path, form)
    captions = HowTo100M(tmp_path, cache=tmp_path / "cache").captions
    assert len(captions) == 1 and captions.skipped == 0
    said = captions.of(0)
    assert said.text == OVERLAPPING["text"]
    assert said.start.tolist() == pytest.approx(OVERLAPPING["start"])
    assert said.end.tolist() == pytest.approx(OVERLAPPING["end"])


def test_a_pickle_is_not_opened_and_the_error_says_how_to_convert_it(tmp_path):
    (tmp_path / "caption.pickle").write_bytes(pickle.dumps({IDS[0]: OVERLAPPING}))
    with pytest.raises(DataError, match="pickles run the code they hold.*json.dump"):
        _ = HowTo100M(tmp_path, cache=tmp_path / "cache").captions


@pytest.mark.parametrize("name", ["caption.json", "howto100m_captions.zip"])
def test_a_broken_caption_file_is_named(tmp_path, name):
    write_captions(tmp_path, name)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=name):
        _ = HowTo100M(tmp_path, cache=tmp_path / "cache").captions
