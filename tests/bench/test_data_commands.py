"""`bench data pack`, `bench data features` and `bench speed data`, as typed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import timm
import torch

from bench.cli import main
from bench.config.compose import compose
from bench.plan.graph import make_plan


@pytest.mark.slow
def test_a_packed_dataset_is_what_a_plan_reads(sample_root: Path, tmp_path: Path, capsys):
    runs = f"runs={tmp_path / 'runs'}"
    common = [f"data_root={sample_root}", runs, "workers=1"]
    assert main(["data", "pack", "vggsound", f"to={tmp_path / 'pack'}", "size=72", "fps=4", *common]) == 0
    assert "read them with data.packed=" in capsys.readouterr().out
    stage = ["stage=finetune_vggsound_av", "variant=scratch", "preset=tiny", runs]
    media = make_plan(compose("mavil", [*stage, f"data_root={sample_root}"])).stages[-1]
    packed = make_plan(compose("mavil", [*stage, f"data.packed={tmp_path / 'pack'}"])).stages[-1]
    assert packed.train.pack is not None and media.train.pack is None
    assert packed.train.fingerprint == media.train.fingerprint and packed.scored.coverage == media.scored.coverage == 1
    assert packed.identity != media.identity, "frames lose a little in a pack"
    for split in ("train", "test"):  # of the frames that are trained on and of those that are scored
        about = tmp_path / "pack" / split / "pack.json"
        text = about.read_text()
        content = json.loads(text)
        content["format"]["size"] += 8
        about.write_text(json.dumps(content))
        other = make_plan(compose("mavil", [*stage, f"data.packed={tmp_path / 'pack'}"])).stages[-1]
        assert other.identity != packed.identity, split
        about.write_text(text)


def test_a_pack_needs_a_place(capsys):
    assert main(["data", "pack", "vggsound"]) == 2
    assert "to= is missing" in capsys.readouterr().err


def test_features_are_extracted_into_files_of_their_videos(sample_root: Path, tmp_path: Path, capsys):
    torch.manual_seed(0)
    model = timm.create_model("resnet10t")
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    weights = ["model=resnet10t", f"weights={tmp_path / 'weights.pt'}"]
    place = [f"data_root={sample_root}", f"runs={tmp_path / 'runs'}", f"to={tmp_path / 'features'}", "splits=eval"]
    assert main(["data", "features", "audioset", *place, *weights]) == 0
    files = sorted((tmp_path / "features").glob("*_2d.npy"))
    assert len(files) == 37 and "37 written" in capsys.readouterr().out
    features = np.load(files[0])
    assert features.shape == (3, 512) and np.allclose(np.linalg.norm(features.astype(np.float32), axis=1), 1, atol=1e-2)


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["kind=4d", "to=x"], "no such kind of features"),
        (["kind=2d"], "to= is missing"),
        (["kind=2d", "to=x", "weights=/nowhere.pt"], "/nowhere.pt"),
        (["kind=2d", "to=x"], "weights"),
    ],
)
def test_mistakes_in_features_are_user_errors(arguments, part, sample_root, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["data", "features", "vggsound", f"data_root={sample_root}", "splits=test", *arguments]) == 2
    assert part in capsys.readouterr().err


@pytest.mark.slow
def test_the_speed_of_data_is_reported_in_ratios(tmp_path: Path, capsys):
    assert main(["speed", "data", f"folder={tmp_path}", "clips=2", "rounds=1"]) == 0
    shown = capsys.readouterr().out
    for part in ("sound + frames + log-mel", "packed against MP4 (whole loader", "times one process", "clips/s"):
        assert part in shown
