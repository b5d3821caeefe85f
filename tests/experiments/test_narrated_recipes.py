"""The recipes of AVLnet, MCN and Everything at Once: what their configurations say, against the authors' commands."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from types import SimpleNamespace

import pytest
import torch

from bench.config.compose import compose
from bench.config.schema import BenchConfig
from tests.experiments import golden

METHODS = ("avlnet", "mcn", "everything_at_once")
RECIPES = {
    # roudimit/AVLnet training.md and README.md; args.py where a command leaves it out
    ("avlnet", "pretrain"): ("howto100m", ["train"], "train", 128 * 32, 30, 1e-3, 0.9),
    ("avlnet", "pretrain_tri"): ("howto100m", ["train"], "train", 256 * 32, 15, 2.5e-4, 0.9),
    ("avlnet", "pretrain_fused"): ("howto100m", ["train"], "train", 64 * 32, 15, 1e-4, 0.9),
    ("avlnet", "finetune"): ("youcook2", ["train"], "eval", 256, 5, 1e-4, 1.0),
    ("avlnet", "finetune_tri"): ("youcook2", ["train"], "eval", 256, 3, 1e-4, 0.9),
    ("avlnet", "finetune_fused"): ("youcook2", ["train"], "eval", 256, 5, 1e-5, 1.0),
    ("avlnet", "finetune_msrvtt"): ("msrvtt", ["train_7k"], "eval", 256, 5, 1e-4, 1.0),
    ("avlnet", "finetune_tri_msrvtt"): ("msrvtt", ["train_7k"], "eval", 256, 15, 1e-4, 1.0),
    ("avlnet", "finetune_fused_msrvtt"): ("msrvtt", ["train_7k"], "eval", 256, 5, 1e-5, 1.0),
    # ninatu/everything_at_once configs/pretraining, configs/finetuning
    ("everything_at_once", "pretrain"): ("howto100m", ["train"], "train", 224 * 10, 15, 5e-5, 0.9),
    ("everything_at_once", "finetune"): ("youcook2", ["train"], "eval", 256, 5, 1e-5, 0.9),
    ("everything_at_once", "finetune_msrvtt"): ("msrvtt", ["train_7k"], "eval", 128, 25, 5e-5, 0.9),
}
"""(method, stage) -> dataset, splits, mode, clips of a step, epochs, rate, and by what each epoch multiplies it."""
MCN_RATES = golden.recorded("mcn")["schedule"]["rates"]


@cache
def composed(method: str) -> BenchConfig:
    return compose(method, ["preset=paper", "data_root=none"])


@pytest.mark.parametrize(("method", "name"), RECIPES)
def test_a_training_stage_is_the_authors_command_and_has_its_scheduler_s_rate_at_every_step(method, name):
    stage = composed(method).stages[name]
    dataset, train, mode, batch_size, epochs, lr, decay = RECIPES[method, name]
    described = (stage.dataset, stage.train, stage.options.mode, stage.batch_size, stage.epochs)
    assert described == (dataset, train, mode, batch_size, epochs)
    assert stage.optim.algorithm == "adam" and stage.optim.betas == [0.9, 0.999] and not stage.optim.weight_decay
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], lr=lr)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, decay)
    expected = []
    for _ in range(epochs):
        expected += 7 * [optimizer.param_groups[0]["lr"]]
        optimizer.step()
        scheduler.step()
    assert golden.rates(stage, 7) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("steps", MCN_RATES)
def test_mcn_s_rates_are_those_of_its_scheduler_at_every_step(steps):
    """The recipe's warm-up of 5,000 steps is made shorter."""
    stage = composed("mcn").stages["pretrain"]
    assert (stage.batch_size, stage.epochs, stage.optim.lr, stage.optim.warmup_steps) == (4096, 30, 1e-4, 5000)
    warm, total = map(int, steps.split(" of "))
    shorter = SimpleNamespace(batch_size=4096, epochs=30, optim=replace(stage.optim, warmup_steps=warm))
    got = golden.rates(shorter, total // 30)
    assert got == pytest.approx(MCN_RATES[steps], rel=1e-9, abs=1e-18)


def test_every_stage_that_trains_has_a_recipe_above():
    """That of MCN's fine-tuning is not known, and ours."""
    stages = {(method, name): stage for method in METHODS for name, stage in composed(method).stages.items()}
    assert {key for key, stage in stages.items() if stage.train} == {*RECIPES, ("mcn", "pretrain"), ("mcn", "finetune")}
    assert [stages["mcn", name].options.mode for name in ("pretrain", "finetune")] == ["train", "eval"]


@pytest.mark.parametrize("method", METHODS)
def test_only_whole_videos_have_one_reference_of_loudness(method):
    """The authors' files of YouCook2 and MSR-VTT hold a log-mel of each clip."""
    for name, stage in composed(method).stages.items():
        whole = stage.dataset in ("howto100m", "crosstask", "mining_youtube")
        if stage.data.inputs.audio is None:
            continue
        assert stage.data.inputs.audio.reference == ("source" if whole else "clip"), name
        assert stage.data.captions == ("one" if stage.train and stage.dataset == "msrvtt" else "each"), name
