"""Features of one stage for the next: what is written is read, by clip, whatever the order of parts."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from datamodules.features import extracted
from datamodules.features.extracted import ExtractedFeatures, FeatureWriter, extracted_ids
from datamodules.features.stored import FeatureError


def features(clip: str) -> torch.Tensor:
    return torch.full((3, 2), float(clip.removeprefix("clip")))


def write(folder: Path, clips: list[str], rank: int = 0) -> None:
    with FeatureWriter(folder, rank) as writer:
        for first in range(0, len(clips), 2):
            batch = clips[first : first + 2]
            writer.add(batch, torch.stack([features(clip) for clip in batch]))


def test_every_clip_finds_its_own_features_in_any_part(tmp_path, monkeypatch):
    monkeypatch.setattr(extracted, "PART_BYTES", 2 * 3 * 2 * 2)  # two clips a file
    write(tmp_path, ["clip5", "clip3", "clip8", "clip1", "clip4"])
    write(tmp_path, ["clip7", "clip2"], rank=1)
    assert len(extracted.parts(tmp_path)) == 4
    wanted = pd.Series(["clip1", "clip2", "clip3", "clip4", "clip5", "clip7", "clip8"])
    read = pickle.loads(pickle.dumps(ExtractedFeatures(tmp_path, wanted)))  # as it travels to a loader's process
    for index, clip in enumerate(wanted):
        assert torch.equal(read[index], features(clip)) and read[index].dtype == torch.float32


def test_all_together_they_are_one_array_in_the_order_of_the_clips_that_are_there(tmp_path, monkeypatch):
    monkeypatch.setattr(extracted, "PART_BYTES", 2 * 3 * 2 * 2)
    monkeypatch.setattr(extracted, "ROWS", 1)
    write(tmp_path, ["clip5", "clip3", "clip8", "clip1"])
    write(tmp_path, ["clip7", "clip3", "clip9"], rank=1)  # one that is written again, one that is not wanted
    wanted = pd.Series(["clip1", "clip2", "clip3", "clip5", "clip7", "clip8"])
    rows, features_NTD = ExtractedFeatures(tmp_path, wanted).together()
    assert rows.tolist() == [0, 2, 3, 4, 5] and features_NTD.dtype == np.float32 and features_NTD.flags.writeable
    assert torch.equal(torch.from_numpy(features_NTD), torch.stack([features(clip) for clip in wanted[rows]]))
    assert len(ExtractedFeatures(tmp_path / "none", wanted).together()[0]) == 0


def test_a_clip_that_was_not_extracted_is_an_error(tmp_path):
    write(tmp_path, ["clip1"])
    read = ExtractedFeatures(tmp_path, pd.Series(["clip1", "clip9"]))
    assert torch.equal(read[0], features("clip1"))
    with pytest.raises(FeatureError, match="could not be read when features were extracted"):
        read[1]


def test_what_was_cut_off_leaves_no_half_file_and_the_rest_is_known(tmp_path, monkeypatch):
    monkeypatch.setattr(extracted, "PART_BYTES", 2 * 3 * 2 * 2)
    with pytest.raises(KeyboardInterrupt), FeatureWriter(tmp_path) as writer:
        writer.add(["clip1", "clip2"], torch.stack([features("clip1"), features("clip2")]))
        writer.add(["clip3"], features("clip3")[None])
        raise KeyboardInterrupt
    assert extracted_ids(tmp_path).tolist() == ["clip1", "clip2"]
    write(tmp_path, ["clip3", "clip2"])  # a clip that is written again does no harm
    read = ExtractedFeatures(tmp_path, pd.Series(["clip3", "clip2"]))
    assert torch.equal(read[0], features("clip3")) and torch.equal(read[1], features("clip2"))


def test_numbers_beyond_float16_are_refused(tmp_path):
    with pytest.raises(ValueError, match="clip7"):
        FeatureWriter(tmp_path).add(["clip1", "clip7"], torch.tensor([[[1.0]], [[1e6]]]))
