"""The sample data's recordings (ESC-50, FSD50K)."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from datamodules.media.decode import Media
from datamodules.sample import esc50, fsd50k
from tests.datamodules.sample_files import RATE, official_files, read_csv, read_sound, read_table, spectrum_of
from tests.sample_data import SampleMaker

SMALL = {
    "esc50": {f"fold{fold}": 32 for fold in range(1, 6)},
    "fsd50k": {"train": 32, "val": 8, "eval": 16},
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, make_sample: SampleMaker) -> Path:
    root = tmp_path_factory.mktemp("layouts")
    make_sample(root, tuple(SMALL), counts=SMALL)
    return root


@pytest.fixture(scope="module")
def full_lists(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return official_files(tmp_path_factory.mktemp("lists"), [*SMALL])


# ESC-50


def test_esc50_csv_reads_as_the_official_one(root: Path) -> None:
    lines = (root / "ESC-50/meta/esc50.csv").read_text().splitlines()
    assert lines[0] == "filename,fold,target,category,esc10,src_file,take"
    assert all(re.fullmatch(r"([1-5])-(\d+)-([A-Z])-(\d+)\.wav,\1,\4,[a-z_]+,(True|False),\2,\3", s) for s in lines[1:])
    rows = read_table(root / "ESC-50/meta/esc50.csv")
    assert {row["filename"] for row in rows} == {path.name for path in (root / "ESC-50/audio").iterdir()}
    assert len(rows) == len({row["filename"] for row in rows}) == sum(SMALL["esc50"].values())
    assert len({(row["target"], row["category"], row["esc10"]) for row in rows}) == 16


def test_esc50_folds_are_balanced_and_share_no_source(full_lists: Path) -> None:
    rows = read_table(full_lists / "ESC-50/meta/esc50.csv")
    assert Counter((row["fold"], row["target"]) for row in rows) == {
        (str(fold), str(target)): 3 for fold in range(1, 6) for target in range(16)
    }
    assert len({row["target"] for row in rows if row["esc10"] == "True"}) == 10
    folds_of, clips_of = {}, Counter(row["src_file"] for row in rows)
    for row in rows:
        folds_of.setdefault(row["src_file"], set()).add((row["fold"], row["target"]))
    assert all(len(folds) == 1 for folds in folds_of.values())
    assert set(clips_of.values()) == {1, 2}, "some sources have two takes"


def test_esc50_recordings_are_16_khz_mono_and_some_end_in_digital_silence(root: Path) -> None:
    padded = 0
    paths = sorted((root / "ESC-50/audio").iterdir())
    for path in paths:
        with Media(path) as opened:
            info = opened.info()
        assert (info.sample_rate, info.has_video) == (16000, False)
        assert info.duration == pytest.approx(esc50.SECONDS, abs=1e-3)
        waveform = read_sound(path)
        assert np.abs(waveform).max() > 0.1
        padded += not waveform[round(1.0 * RATE) :].any()
    assert 0.05 < padded / len(paths) < 0.25


def test_esc50_targets_are_heard(root: Path) -> None:
    rows = read_table(root / "ESC-50/meta/esc50.csv")
    spectra = np.array([spectrum_of(read_sound(root / "ESC-50/audio" / row["filename"])) for row in rows])
    targets, held_out = np.array([int(row["target"]) for row in rows]), np.array([row["fold"] == "5" for row in rows])
    means = np.stack([spectra[~held_out & (targets == target)].mean(axis=0) for target in range(16)])
    nearest = ((spectra[held_out, None] - means) ** 2).sum(axis=2).argmin(axis=1)
    assert (nearest == targets[held_out]).mean() > 0.9


# FSD50K


def test_fsd50k_csvs_read_as_the_official_ones(root: Path) -> None:
    truth = root / "FSD50K/FSD50K.ground_truth"
    vocabulary = read_csv(truth / "vocabulary.csv")
    assert [row[0] for row in vocabulary] == [str(i) for i in range(len(vocabulary))], "there is no header"
    mid_of = {label: mid for _, label, mid in vocabulary}
    assert 18 <= len(mid_of) == len(set(mid_of.values())) == len(vocabulary) <= 24
    assert {mid[:3] for mid in mid_of.values()} == {"/m/", "/t/"}

    raw = (truth / "dev.csv").read_text().splitlines() + (truth / "eval.csv").read_text().splitlines()
    assert raw[0] == "fname,labels,mids,split" and "fname,labels,mids" in raw
    bodies = [line for line in raw if not line.startswith("fname")]
    assert all(('"' in line) == bool(re.match(r'\d+,"', line)) for line in bodies)
    assert any('"' not in line for line in bodies), "a single label is not quoted"

    names = []
    for file, folder in (("dev", "FSD50K.dev_audio"), ("eval", "FSD50K.eval_audio")):
        rows = read_table(truth / f"{file}.csv")
        assert {f"{int(row['fname'])}.wav" for row in rows} == {p.name for p in (root / "FSD50K" / folder).iterdir()}
        assert all([mid_of[label] for label in r["labels"].split(",")] == r["mids"].split(",") for r in rows)
        names += [row["fname"] for row in rows]
    assert len(set(names)) == len(names) == 56
    assert Counter(row["split"] for row in read_table(truth / "dev.csv")) == {"train": 32, "val": 8}


def test_fsd50k_labels_hold_all_parents_and_every_class_is_everywhere(full_lists: Path) -> None:
    truth = full_lists / "FSD50K/FSD50K.ground_truth"
    rows = read_table(truth / "dev.csv") + [{**row, "split": "eval"} for row in read_table(truth / "eval.csv")]
    present: dict[str, Counter[str]] = {}
    for row in rows:
        labels = row["labels"].split(",")
        assert len(set(labels)) == len(labels)
        assert all(fsd50k.PARENTS.get(label, label) in labels for label in labels)
        # Nothing but the one or two sounds and what is above them.
        assert 1 <= len(set(labels) & set(fsd50k.LEAVES)) <= 2
        above = {fsd50k.PARENTS.get(label) for label in labels}
        assert set(labels) - set(fsd50k.LEAVES) <= above
        present.setdefault(row["split"], Counter()).update(labels)
    assert all(set(counts) == set(fsd50k.VOCABULARY) for counts in present.values())
    assert min(present["eval"].values()) >= 5
    assert present["eval"]["Bell"] < present["eval"]["Chime_and_bell"] < present["eval"]["Musical_instrument"]


def test_fsd50k_recordings_are_of_unequal_lengths(root: Path) -> None:
    lengths = []
    for path in (root / "FSD50K").glob("*_audio/*.wav"):
        waveform = read_sound(path)
        assert np.abs(waveform).max() > 0.1
        lengths.append(len(waveform) / RATE)
    assert 0.59 <= min(lengths) < 0.7 and 2 < max(lengths) <= 4
    assert len(set(lengths)) > 30
