"""MAViL's class for fine-tuning, the groups of its optimiser and the schedule of its scripts."""

from __future__ import annotations

from dataclasses import replace
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor

from bench.config.compose import compose
from bench.config.schema import StageConfig
from datamodules.types import Batch, Inputs
from experiments.common.optim import OptimConfig, param_groups
from experiments.common.stage import StageSpec
from experiments.mavil.checkpoints import to_official
from experiments.mavil.downstream import Finetune, FinetuneOptions
from experiments.mavil.model import MAViLConfig
from tests.experiments.golden import Recording, Released, Run, rates

RECORDED = Recording("mavil")
GOLDEN, drawn = RECORDED.values, RECORDED.drawn
CONFIG, SCHEDULES, GROUPS = GOLDEN["network"]["config"], GOLDEN["schedules"], GOLDEN["learning_rates"]["groups"]


def fresh(modality: str) -> Finetune:
    model = MAViLConfig(dim=CONFIG["dim"], depth=CONFIG["depth"], heads=CONFIG["heads"])
    options = FinetuneOptions(ft_fusion_depth=CONFIG["fusion"], drop_path=0.0, mask_v=0.8)
    return Finetune(StageSpec(model, options, Inputs(), modality, num_classes=CONFIG["classes"], multilabel=True))


def released(modality: str) -> dict[str, Tensor]:
    shapes = {key: value.shape for key, value in to_official(fresh(modality).state_dict(), modality).items()}
    shapes.setdefault("blocks_v.0.norm1.weight", torch.Size([CONFIG["dim"]]))  # sound alone has none to name
    return RECORDED.weights(shapes)


def stage(modality: str, masked: bool = False) -> Finetune:
    """Without DropPath, training only adds the masks."""
    made = fresh(modality)
    made.load_parent(released(modality))
    return made.train(masked)


def batch() -> Batch:
    audio, video = 4 * drawn("audio", 2, 1, 1024, 128), 4 * drawn("video", 2, 3, 8, 224, 224)
    return {"key": torch.tensor([11, 12]), "audio": audio, "video": video}


@torch.no_grad()
def logits(made: Finetune) -> Tensor:
    return made.logits(batch())[:, ::66]


@cache
def paper() -> dict[str, StageConfig]:
    return compose("mavil", ["preset=paper"]).stages


def rates_of(stage: str, _: None) -> list[float]:
    return rates(paper()[stage], SCHEDULES["steps_per_epoch"])


def groups(slower: str, _: None) -> dict[str, Any]:
    """The authors' name of each parameter -> its rate and decay."""
    optim = OptimConfig(lr=1.0, layer_decay=0.75, weight_decay=0.05)
    spec = StageSpec(MAViLConfig(dim=16, depth=12, heads=2), FinetuneOptions(slower=slower), Inputs(), num_classes=5)
    made = Finetune(replace(spec, optim=optim))
    named = dict(made.named_parameters())
    theirs_of = {value.data_ptr(): name for name, value in to_official(named, "av").items()}
    assert len(theirs_of) == len(named)
    return {
        theirs_of[parameter.data_ptr()]: [group["lr"], group["weight_decay"]]
        for group in param_groups(made)
        for parameter in group["params"]
    }


def by_parameter(recorded: list[dict[str, Any]]) -> dict[str, Any]:
    return {name: [group["lr_scale"], group["weight_decay"]] for group in recorded for name in group["params"]}


RUNS = [
    *(Run(f"network/logits_{modality}", logits, partial(stage, modality)) for modality in ("a", "v", "av")),
    Run("network/masked/logits_av", logits, partial(stage, "av", masked=True)),
    *(
        Run(f"schedules/rates/{name}", partial(rates_of, name), tolerance=1e-12, relative=1e-6)
        for name in SCHEDULES["rates"]
    ),
    *(
        Run(
            f"learning_rates/groups/{slower}",
            partial(groups, slower),
            expected=by_parameter,
            tolerance=0,
            relative=1e-9,
        )
        for slower in GROUPS
    ),
]
ELSEWHERE = ("real_clips",)
"""In `test_mavil.py`."""
RELEASED = [
    Released(
        "av", partial(stage, "av"), partial(released, "av"), strange=("blocks_x.0.weight",),
        missing=("blocks_av.1.attn.qkv.bias", "trunk.fusion.blocks.1.attn.qkv.bias"), parallel=False,
    )
]  # fmt: skip
