"""The baseline, and with it cross-validation from the command to the board, on made-up recordings."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import torch

from bench.cli import main
from bench.config.schema import StageConfig
from bench.run.results import shareable
from datamodules.types import AudioInputs, Batch, DataConfig, FeatureInputs, Inputs
from experiments.baseline_cnn.method import Train, TrainOptions
from experiments.baseline_cnn.model import CNN, CNNConfig
from experiments.common.stage import StageSpec
from tests.sample_data import SampleMaker


def test_the_mean_over_time_and_the_loudest_moment_are_both_heard():
    torch.manual_seed(0)
    net = CNN(CNNConfig(widths=[4, 8]), num_classes=3).eval()
    quiet = torch.zeros(1, 1, 64, 16)
    once, always = quiet.clone(), quiet.clone()
    once[:, :, 20:24] = 3
    always[:] = 3
    logits = [net(x) for x in (quiet, once, always)]
    assert all(x.shape == (1, 3) for x in logits)
    assert not torch.allclose(logits[0], logits[1]) and not torch.allclose(logits[1], logits[2])


def test_any_length_of_sound_goes():
    net = CNN(CNNConfig(widths=[4, 8, 8]), num_classes=2).eval()
    assert net(torch.randn(2, 1, 50, 64)).shape == net(torch.randn(2, 1, 900, 64)).shape == (2, 2)


def spec(multilabel: bool) -> StageSpec:
    inputs = Inputs(AudioInputs(mel_bins=16), None)
    return StageSpec(CNNConfig(widths=[4]), TrainOptions(), inputs, "a", num_classes=3, multilabel=multilabel)


@pytest.mark.parametrize("multilabel", [False, True])
def test_the_loss_is_the_task_s(multilabel, monkeypatch):
    torch.manual_seed(0)
    stage = Train(spec(multilabel)).eval()
    monkeypatch.setattr(stage, "log", lambda *_, **__: None)
    label = torch.tensor([[1.0, 0, 1], [0, 1, 0]]) if multilabel else torch.tensor([[0.3, 0.7, 0], [0, 0, 1]])
    batch = Batch(audio=torch.randn(2, 1, 32, 16), label=label)
    logits = stage.predict_step(batch, 0)["logits"]["a"]
    if multilabel:
        p = torch.sigmoid(logits)
        expected = -(label * p.log() + (1 - label) * (1 - p).log()).mean()
    else:
        expected = -(label * logits.log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(stage.training_step(batch, 0), expected)


def test_weights_of_other_classes_are_taken_but_for_the_head():
    torch.manual_seed(0)
    old, new = Train(spec(False)), Train(spec(False))
    new.load_parent(old.state_dict())
    assert torch.equal(new.net.blocks[0][0].weight, old.net.blocks[0][0].weight)
    assert not torch.equal(new.net.head.weight, old.net.head.weight)
    with pytest.raises(ValueError, match=r"\bblocks\.0\.0\.weight: missing"):
        new.load_parent({})


def test_a_record_does_not_say_where_things_lie_on_this_machine():
    features = FeatureInputs(root="/home/me/features")
    data = DataConfig(root="/home/me/data", packed="s3://mine/pack", inputs=Inputs(None, None, None, features))
    assert "me" in str(data) and "/home/me" not in str(shareable(StageConfig(data=data)))
    assert "s3://mine" not in str(shareable(StageConfig(data=data)))


@pytest.mark.slow
def test_five_folds_become_one_row(tmp_path: Path, capsys, make_sample: SampleMaker):
    """Each fold is scored by what was trained on the other four, and the row is the mean over all clips."""
    make_sample(tmp_path / "data", ["esc50"], counts={"esc50": {f"fold{i}": 16 for i in range(1, 6)}})
    quick = ["stages.train_esc10.epochs=1", "stages.train_esc10.batch_size=8", "data.loader.workers=0"]
    places = [f"sample_root={tmp_path / 'data'}", f"runs={tmp_path / 'runs'}", f"leaderboards={tmp_path / 'boards'}"]
    assert main(["run", "baseline_cnn", "stage=train_esc10", *quick, *places]) == 0
    records = [json.loads(path.read_text()) for path in (tmp_path / "boards/sample/results").glob("*.json")]
    assert sorted(record["fold"] for record in records) == [f"fold{i}" for i in range(1, 6)]
    assert {record["stage"] for record in records} == {"train_esc10"}
    assert len({record["config_hash"] for record in records}) == 1
    for record in records:
        assert record["n"] == 10 and record["data"]["split"] == record["fold"]
        assert record["fold"] not in record["train"]["split"].split("+")
        predictions = pd.read_parquet(next(tmp_path.glob(f"runs/*/train_esc10_{record['fold']}-*/predictions.parquet")))
        assert all(clip.startswith(record["fold"][-1]) for clip in predictions["clip_id"])
    table = pd.read_csv(tmp_path / "boards/sample/esc10.csv")
    assert len(table) == 1 and "50" in capsys.readouterr().out
    mean = sum(record["metrics"]["top1"]["value"] for record in records) / 5
    assert table["top1"][0] == pytest.approx(mean, abs=1e-6)
