"""Training clips with the labels of a file in the layout of PSLA's enhanced label sets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from datamodules.manifest.build import Manifest
from datamodules.manifest.relabel import UNLISTED, relabelled
from datamodules.source import DataError, class_lists

CODES = ["/m/09x0r", "/m/05zppz", "/m/02zsn"]
CLIPS = {"--4gqARaEJE_0": "--4gqARaEJE", "ab_12345678_30000": "ab_12345678", "Yabcdefghij_20000": "Yabcdefghij"}
FSD50K = {"64760": "64760", "16399": "16399", "100": "100"}


def manifest(clips: dict[str, str] = CLIPS) -> Manifest:
    """All with class 1 alone."""
    table = pd.DataFrame(
        {"clip_id": clips.keys(), "video_id": clips.values(), "labels": class_lists([[1]] * len(clips))}
    )
    return Manifest(table.astype({"clip_id": "str", "video_id": "str"}), ["Speech", "Man", "Woman"], True, 5)


def labels_of(found: Manifest) -> dict[str, list[int]]:
    return {clip: list(labels) for clip, labels in zip(found.table["clip_id"], found.table["labels"], strict=True)}


@pytest.fixture
def write(tmp_path: Path):
    def file(content: Any) -> Path:
        path = tmp_path / "enhanced.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return file


def entries(**labels: str) -> dict[str, Any]:
    return {"data": [{"wav": f"/data/audio/{name}", "labels": text} for name, text in labels.items()]}


@pytest.mark.parametrize(
    ("clips", "names"),
    [
        (CLIPS, ["--4gqARaEJE_0.000.flac", "ab_12345678_30.000.flac", "Yabcdefghij_20.000.flac"]),  # AST's sample list
        (CLIPS, ["--4gqARaEJE.wav", "ab_12345678.wav", "Yabcdefghij.wav"]),
        (CLIPS, ["Y--4gqARaEJE.wav", "Yab_12345678.wav", "YYabcdefghij.wav"]),  # PANNs
        (CLIPS, ["--4gqARaEJE_0_10000.flac", "ab_12345678_30000_40000.flac", "Yabcdefghij_20000_30000.flac"]),
        (FSD50K, ["64760.wav", "16399.wav", "100.wav"]),
    ],
    ids=["seconds", "id", "Y", "milliseconds", "fsd50k"],
)
def test_clips_get_the_labels_of_the_list_however_their_files_are_named(write, clips, names):
    texts = ["/m/09x0r,/m/05zppz", "/m/02zsn,/m/09x0r,/m/02zsn", "/m/05zppz"]
    found = relabelled(manifest(clips), write(entries(**dict(zip(names, texts, strict=True)))), CODES)
    assert list(labels_of(found).values()) == [[0, 1], [0, 2], [1]]
    assert list(labels_of(found)) == list(clips) and found.excluded == {}
    assert found.fingerprint != manifest(clips).fingerprint


def test_clips_that_the_list_lacks_are_counted_and_left_out(write):
    more = {"16399.wav": "/m/09x0r", "of another split.wav": "/m/09x0r"}
    found = relabelled(manifest(FSD50K), write(entries(**more)), CODES)
    assert labels_of(found) == {"16399": [0]}
    assert found.excluded == {UNLISTED: 2} and found.examples == {UNLISTED: ["64760", "100"]}
    assert (found.official, found.used) == (5, 1)


def test_the_official_clips_keep_theirs(write):
    official = manifest(FSD50K)
    relabelled(official, write(entries(**{"16399.wav": "/m/09x0r"})), CODES)
    assert set(map(tuple, labels_of(official).values())) == {(1,)} and official.excluded == {}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("not json", 'expected {"data": '),
        ({"data": [{"labels": "/m/09x0r"}]}, 'expected {"data": '),
        ([1, 2], 'expected {"data": '),
        (entries(**{"16399.wav": "/m/unknown"}), "16399: '/m/unknown' is no class"),
        (entries(**{"16399.wav": ""}), "16399: '' is no class"),
        (entries(**{"7.wav": "/m/09x0r"}), "none of its 1 clips is one of the 3 to train on, e.g. 7"),
        (entries(**{"16399.wav": "/m/09x0r", "16399_0.flac": "/m/09x0r"}), "lists 16399 twice"),
    ],
    ids=["no JSON", "no wav", "no data", "unknown label", "no label", "other clips", "twice"],
)
def test_a_list_that_cannot_be_used_is_named(write, content, expected):
    with pytest.raises(DataError) as error:
        relabelled(manifest(FSD50K), write(content), CODES)
    assert "enhanced.json: " in str(error.value) and expected in str(error.value)
