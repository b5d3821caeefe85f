"""AudioSet-Instruments: which clips it has, and how far its classes are from each other in the ontology."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from datamodules.audioset_instruments import INSTRUMENTS, AudioSetInstruments
from datamodules.packing.shards import PackedFormat, open_pack
from datamodules.source import DataError, find_root
from datamodules.types import AudioInputs, Inputs
from tests.datamodules.packs import assert_same_manifest, clips, packed

BELOW = {
    "Music": ["Musical instrument"],
    "Musical instrument": ["Plucked string instrument", "Percussion", "Bell"],
    "Plucked string instrument": ["Guitar"],
    "Guitar": ["Acoustic guitar", "Electric guitar"],
    "Percussion": ["Drum"],
    "Sounds of things": ["Bell", "Alarm"],
    **dict.fromkeys(("Acoustic guitar", "Electric guitar", "Drum", "Bell", "Alarm"), []),
}
"""An excerpt of the ontology: a class -> those right below it. Bells are below two."""
CLASSES = ["Acoustic guitar", "Electric guitar", "Drum", "Bell", "Alarm"]


@pytest.fixture
def instruments(tmp_path: Path) -> AudioSetInstruments:
    entries = [{"id": name, "name": name, "child_ids": children} for name, children in BELOW.items()]
    (tmp_path / "ontology.json").write_text(json.dumps(entries))
    rows = [f'{index},{name},"{name}"' for index, name in enumerate(CLASSES)]
    (tmp_path / "class_labels_indices.csv").write_text("\n".join(["index,mid,display_name", *rows]) + "\n")
    return AudioSetInstruments(tmp_path)


def test_the_names_are_the_published_ones():
    assert len(INSTRUMENTS) == len(set(INSTRUMENTS)) == 110 and list(INSTRUMENTS) == sorted(INSTRUMENTS)


def test_relevance_is_20_less_the_way_through_the_tree(instruments):
    """Both of the card: two kinds of guitar are 2 apart, a guitar and a drum 5. What has nothing above it in common
    meets above all, and a class below two others takes the shorter way."""
    away = 20 - instruments.class_relevance()
    expected = [[0, 2, 5, 4, 6], [2, 0, 5, 4, 6], [5, 5, 0, 3, 5], [4, 4, 3, 0, 2], [6, 6, 5, 2, 0]]
    np.testing.assert_array_equal(away, expected)


@pytest.mark.parametrize(
    ("content", "error"),
    [
        ('{"id": 1}', r"ontology\.json: not a list of objects with id and child_ids"),
        ('[{"id": "Drum", "child_ids": ["Tom"]}]', "Tom is named as a child, and has no entry"),
        ('[{"id": "Drum", "child_ids": []}]', "no entry Acoustic guitar; is it the ontology of these 5 classes"),
    ],
)
def test_a_file_that_is_not_the_ontology_is_refused(instruments, content: str, error: str):
    (instruments.root / "ontology.json").write_text(content)
    with pytest.raises(DataError, match=error):
        instruments.class_relevance()


def test_clips_without_an_instrument_are_not_of_the_split_and_the_others_keep_all_labels(instruments):
    rows = ['aaaaaaaaaaa, 0.000, 10.000, "Alarm"', 'bbbbbbbbbbb, 0.000, 10.000, "Alarm,Drum"']
    rows += ['ccccccccccc, 0.000, 10.000, "Alarm"', 'ddddddddddd, 30.000, 40.000, "Bell"', "not a row"]
    (instruments.root / "eval_segments.csv").write_text("\n".join(rows) + "\n")
    official = instruments.read_split("eval")
    assert official.clips["video_id"].tolist() == ["bbbbbbbbbbb", "ddddddddddd"]
    assert official.clips["labels"].tolist() == [[2, 4], [3]]
    assert [stems.tolist() for stems in official.stems] == [
        ["Ybbbbbbbbbbb", "Yddddddddddd"],
        ["bbbbbbbbbbb", "ddddddddddd"],
    ]
    assert official.timed_stems[1].tolist() == ["bbbbbbbbbbb_0", "ddddddddddd_30000"]
    assert official.malformed == ["eval_segments.csv:5: 1 fields instead of 4"]


def test_its_own_folder_goes_before_audioset_s(tmp_path: Path):
    (tmp_path / "AudioSet").mkdir()
    assert find_root(AudioSetInstruments, tmp_path) == tmp_path / "AudioSet"
    (tmp_path / "audioset-instruments").mkdir()
    assert find_root(AudioSetInstruments, tmp_path) == tmp_path / "audioset-instruments"


def test_missing_clips_are_counted_in_the_filtered_list_and_relevance_is_part_of_manifest_and_pack(
    tmp_path: Path, make_sample
):
    counts = {"audioset_instruments": {"unbalanced_train": 1, "balanced_train": 1, "eval": 12}}
    make_sample(tmp_path, list(counts), counts)
    sorted((tmp_path / "AudioSet-Instruments/eval_segments").iterdir())[0].unlink()
    inputs = Inputs(audio=AudioInputs(), video=None)
    manifest = clips(tmp_path, AudioSetInstruments, "eval", inputs)
    assert (manifest.official, len(manifest)) == (12, 11), "rows of other sounds are in the list, and not in the split"
    assert manifest.relevance is not None and manifest.relevance.shape == (12, 12)
    sound = PackedFormat(sample_rate=16000, fps=0, size=0)
    opened = open_pack(packed(manifest, tmp_path / "pack", "eval", sound), ["eval"], inputs, "vggsound")
    assert_same_manifest(opened, manifest)
    np.testing.assert_array_equal(opened.relevance, manifest.relevance)
    manifest.relevance[0, 1] += 1
    assert manifest.fingerprint != opened.fingerprint
