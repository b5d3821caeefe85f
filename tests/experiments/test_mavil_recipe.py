"""MAViL's recipes against what the authors' scripts did, by their own parsers and schedules."""

from __future__ import annotations

import argparse

import pytest

from bench.config import StageConfig, compose


def paper(stage: str, *overrides: str) -> StageConfig:
    return compose("mavil", ["preset=paper", *overrides]).stages[stage]


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
