"""Pickles of arrays: what is read of Haiku's, and that nothing else is made."""

from __future__ import annotations

import base64
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from datamodules import array_pickles

GOLDEN = json.loads((Path(__file__).parent.parent / "golden" / "haiku_pickles.json").read_text())
WEIGHTS = {
    "params": {"net/~/conv": {"w": np.arange(6, dtype=np.float32).reshape(2, 3)}},
    "state": {"ema": {"n": np.int32(3)}},
}


@pytest.mark.parametrize("file", GOLDEN["files"])
def test_files_that_haiku_s_users_write_are_read(file, tmp_path):
    (tmp_path / "x.pkl").write_bytes(base64.b64decode(GOLDEN["files"][file]))
    found = array_pickles.read(tmp_path / "x.pkl")
    assert {name: value.tolist() for name, value in found.items()} == GOLDEN["holds"]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_names_lead_to_arrays_in_every_protocol(protocol, tmp_path):
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(WEIGHTS, protocol))
    found = array_pickles.read(tmp_path / "x.pkl")
    assert torch.equal(found["net/~/conv/w"], torch.arange(6.0).view(2, 3)) and found["ema/n"] == 3 and len(found) == 2


class Runs:
    """What it is unpacked from writes a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_no_code_that_a_file_names_is_run(tmp_path):
    for content in (Runs(tmp_path / "ran"), np.array([Runs(tmp_path / "ran")], dtype=object)):
        (tmp_path / "x.pkl").write_bytes(pickle.dumps({"params": {"a": {"w": content}}}))
        with pytest.raises(ValueError, match=r"it holds \S+, whose code could do anything"):
            array_pickles.read(tmp_path / "x.pkl")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (pickle.dumps([1]), "a list"),
        (pickle.dumps({"params": {"a": {"w": "text"}}}), "a/w is no array of numbers, but a str"),
        (pickle.dumps({"params": {"a": {"w": np.array(["x"])}}}), "a/w is no array of numbers"),
        (
            pickle.dumps({"params": {"a": {"w": np.ones(1)}}, "state": {"a": {"w": np.ones(1)}}}),
            "two arrays called a/w",
        ),
        (b"not a pickle", "it is no pickle"),
        (pickle.dumps(WEIGHTS)[:-20], "it is no pickle"),
    ],
)
def test_what_is_something_else_is_named(content, why, tmp_path):
    (tmp_path / "x.pkl").write_bytes(content)
    with pytest.raises(ValueError, match=why):
        array_pickles.read(tmp_path / "x.pkl")
