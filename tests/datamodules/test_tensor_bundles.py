"""TensorFlow's checkpoints: one that TensorFlow 2.21 wrote is read, and damage is named."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from datamodules.tensor_bundles import read
from tests.tensor_bundle import write

WRITTEN = Path(__file__).parents[1] / "golden" / "tensorflow"
SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"
DATA = "tensorflow.data-00000-of-00001"


def test_what_tensorflow_wrote_is_read_to_the_bit():
    found = {key.removesuffix(SUFFIX): value for key, value in read(WRITTEN / "tensorflow.index").items()}
    assert len(found) == 15, "the graph of objects, which is text, is left out"
    assert torch.equal(found["model/a/kernel"], torch.arange(6.0).view(2, 3) / 4)
    assert torch.equal(found["model/a/bias"], torch.tensor([1.5, -2.0], dtype=torch.bfloat16))
    assert torch.equal(found["model/scalar"], torch.tensor(0.25, dtype=torch.float64))
    for i in range(12):
        assert torch.equal(found[f"model/many/{i}"], torch.full((3,), i))


def test_many_variables_in_several_blocks_are_read(tmp_path):
    variables = {f"layer/{i}/kernel": np.full((i % 3 + 1, 2), i, np.float32) for i in range(70)}
    write(tmp_path / "ck.index", variables)
    found = read(tmp_path / "ck.index")
    assert found.keys() == variables.keys()
    assert all(np.array_equal(found[name].numpy(), values) for name, values in variables.items())


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda index, data: index.write_bytes(b"no"), "does not end as an index"),
        (lambda index, data: index.write_bytes(b"\xff" * 20 + index.read_bytes()[-48:]), "damaged"),
        (lambda index, data: data.unlink(), f"{DATA}, in which its numbers lie, is not beside it"),
        (lambda index, data: data.write_bytes(data.read_bytes()[:40]), "has 4 bytes; a .data file is cut off"),
    ],
)
def test_damage_is_named(damage, why, tmp_path):
    for name in ("tensorflow.index", DATA):
        shutil.copy(WRITTEN / name, tmp_path / name)
    damage(tmp_path / "tensorflow.index", tmp_path / DATA)
    with pytest.raises(ValueError, match=why):
        read(tmp_path / "tensorflow.index")
