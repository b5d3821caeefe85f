"""MAViL's recipes against what the authors' scripts did, by their own parsers and schedules."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from bench.config.compose import compose
from bench.config.schema import StageConfig
from datamodules.types import Inputs
from experiments.common.optim import OptimConfig, param_groups, peak_lr, schedule_factor
from experiments.common.stage import StageSpec
from experiments.mavil.checkpoints import to_official
from experiments.mavil.downstream import Finetune, FinetuneOptions
from experiments.mavil.model import MAViLConfig

GOLDEN = Path(__file__).parent.parent / "golden"
SCHEDULES = json.loads((GOLDEN / "mavil_schedules.json").read_text())
GROUPS = json.loads((GOLDEN / "mavil_learning_rates.json").read_text())["groups"]


@cache
def stages() -> dict[str, StageConfig]:
    return compose("mavil", ["preset=paper"]).stages


def paper(stage: str) -> StageConfig:
    return stages()[stage]


def test_flags_of_the_published_command_mean_what_argparse_made_of_them():
    """facebookresearch/AudioMAE `submit_ft_mask_bal.sh` as its README runs it; types as in `main_finetune_as.py`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--replacement", type=bool, default=False)
    parser.add_argument("--weight_sampler", type=bool, default=False)
    parser.add_argument("--roll_mag_aug", type=bool, default=False)
    parser.add_argument("--epoch_len", type=int, default=200000)
    for flag in ("blr", "mask_t_prob", "mask_f_prob"):
        parser.add_argument(f"--{flag}", type=float)
    command = "--blr 2e-4 --mask_t_prob 0.2 --mask_f_prob 0.2 --roll_mag_aug True --weight_sampler True"
    args = parser.parse_args([*command.split(), "--replacement", "False"])

    stage = paper("finetune_audioset2m_a")
    loader = stage.data.loader
    assert loader.weighted_replacement is args.replacement is True
    assert loader.weighted_draws == (args.epoch_len if args.weight_sampler else 0)
    assert stage.data.augment.roll_gain is args.roll_mag_aug
    assert stage.optim.base_lr == args.blr
    assert (stage.options.mask_t, stage.options.mask_f) == (args.mask_t_prob, args.mask_f_prob)


@pytest.mark.parametrize("modality", ["a", "v", "av"])
def test_every_stage_that_draws_by_weights_draws_with_replacement(modality):
    assert paper(f"finetune_audioset2m_{modality}").data.loader.weighted_replacement


@pytest.mark.parametrize("name", SCHEDULES["rates"])
def test_the_rate_of_every_step_is_that_of_the_authors_scheduler(name):
    stage, steps = paper(name), SCHEDULES["steps_per_epoch"]
    peak = peak_lr(stage.optim, stage.batch_size)
    rates = [
        peak * schedule_factor(stage.optim, stage.batch_size, step, steps, stage.epochs)
        for step in range(steps * stage.epochs)
    ]
    assert rates == pytest.approx(SCHEDULES["rates"][name], rel=1e-6, abs=1e-12)


def test_stages_with_the_same_script_have_the_same_schedule():
    """What is compared above holds for every stage that trains, but for VGGSound's, whose recipe is unknown."""
    asked = {name: paper(name) for name in SCHEDULES["rates"]}
    others = {name: stage for name, stage in stages().items() if stage.train and "vggsound" not in name}
    known = [(stage.optim, stage.batch_size, stage.epochs) for stage in asked.values()]
    assert all((stage.optim, stage.batch_size, stage.epochs) in known for stage in others.values())


@pytest.mark.parametrize("slower", GROUPS)
def test_rate_and_decay_of_every_parameter_are_those_of_the_authors_groups(slower):
    optim = OptimConfig(lr=1.0, layer_decay=0.75, weight_decay=0.05)
    spec = StageSpec(MAViLConfig(dim=16, depth=12, heads=2), FinetuneOptions(slower=slower), Inputs(), num_classes=5)
    stage = Finetune(replace(spec, optim=optim))
    named = dict(stage.named_parameters())
    theirs_of = {value.data_ptr(): name for name, value in to_official(named, "av").items()}
    assert len(theirs_of) == len(named)
    ours = {
        theirs_of[parameter.data_ptr()]: (pytest.approx(group["lr"], rel=1e-9), group["weight_decay"])
        for group in param_groups(stage)
        for parameter in group["params"]
    }
    assert ours == {
        name: (group["lr_scale"], group["weight_decay"]) for group in GROUPS[slower] for name in group["params"]
    }


def test_esc_50_retrieval_and_fine_tuned_files_have_stages_that_are_measured_on_their_boards():
    boards = {stage.board for stage in stages().values()}
    assert {"esc50", "msrvtt-a2v", "youcook2-a2v"} <= boards
    evaluated = {name for name, stage in stages().items() if stage.module == "Finetune" and not stage.train}
    assert evaluated == {f"evaluate_{data}_{m}" for data in ("audioset", "vggsound") for m in ("a", "v", "av")}
    assert [paper(f"finetune_esc50_fold{fold}").fold for fold in range(1, 6)] == [1, 2, 3, 4, 5]
