"""`bench weights convert`: a file of another framework becomes one that `init=FILE` takes."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from bench.cli import main
from datamodules.weight_files import read_checkpoint

CONTENT = pickle.dumps({"params": {"net": {"w": np.ones((2, 3), np.float32)}}, "state": {}})


def test_a_pickle_becomes_a_state_dict_with_its_names(tmp_path, capsys):
    (tmp_path / "mmv_s3d.pkl").write_bytes(CONTENT)
    assert main(["weights", "convert", str(tmp_path / "mmv_s3d.pkl")]) == 0
    written = capsys.readouterr().out.strip()
    assert written == str(tmp_path / "mmv_s3d.pt")
    assert torch.equal(read_checkpoint(written)["net/w"], torch.ones(2, 3))
    assert main(["weights", "convert", str(tmp_path / "mmv_s3d.pkl"), f"to={tmp_path}/other.pt", "format=haiku"]) == 0
    assert read_checkpoint(str(tmp_path / "other.pt")).keys() == {"net/w"}


@pytest.mark.parametrize(
    ("name", "settings", "why"),
    [
        ("absent.pkl", [], "there is no such file"),
        ("x.weights", [], "its name does not say what it is; format=haiku is a pickle of Haiku's"),
        ("x.weights", ["format=caffe"], "there is no format caffe; format=haiku is"),
        ("x.pkl", ["form=haiku"], "form"),
        ("bad.pkl", [], "as a pickle of Haiku's parameters and state: it is no pickle"),
    ],
)
def test_what_cannot_be_converted_is_said(name, settings, why, tmp_path, capsys):
    for file, content in (("x.weights", CONTENT), ("x.pkl", CONTENT), ("bad.pkl", b"no")):
        (tmp_path / file).write_bytes(content)
    assert main(["weights", "convert", str(tmp_path / name), *settings]) == 2
    assert why in capsys.readouterr().err
    assert not (tmp_path / "x.pt").exists()
