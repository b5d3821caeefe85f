"""MAViL against numbers recorded from runs of the authors' code, of which `tests/golden/mavil_*.json` tell.

The weights and inputs of the runs can be drawn again here: each is a function of its name in their layout.
"""

from __future__ import annotations

import json
import math
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from bench.config.compose import compose
from bench.config.schema import StageConfig
from datamodules import keyed
from datamodules.base import Features
from datamodules.loading.clips import ClipDataset
from datamodules.loading.loader import collate
from datamodules.loading.samplers import EVALUATION, ClipRef
from datamodules.manifest.build import build_manifest
from datamodules.manifest.checks import Checks
from datamodules.types import Batch, Inputs
from datamodules.vggsound import VGGSound
from experiments.common.optim import OptimConfig, param_groups, peak_lr, schedule_factor
from experiments.common.stage import StageSpec
from experiments.mavil.checkpoints import to_official
from experiments.mavil.downstream import Finetune, FinetuneOptions
from experiments.mavil.model import MAViLConfig

REAL = Path(__file__).parents[3] / "shared" / "data" / "VGGSound"
TOLERANCE = 1e-4


def golden(name: str) -> dict[str, Any]:
    return json.loads((Path(__file__).parent.parent / "golden" / f"mavil_{name}.json").read_text())


CLASS, CLIPS = golden("av_superb"), golden("real_clips")["clips"]
SCHEDULES, GROUPS = golden("schedules"), golden("learning_rates")["groups"]

# --- the network --------------------------------------------------------------------------------------------------


def drawn(name: str, shape: tuple[int, ...]) -> Tensor:
    """Uniform numbers in [-0.5, 0.5) that depend on the name alone."""
    key = torch.tensor([keyed.stable_hash("mavil parity", name)])
    return keyed.uniform(key, "value", math.prod(shape)).view(shape) - 0.5


def finetuned(modality: str) -> Finetune:
    """Our model with the recorded run's weights, loaded as a checkpoint in the authors' layout."""
    config = CLASS["config"]
    model = MAViLConfig(dim=config["dim"], depth=config["depth"], heads=config["heads"])
    options = FinetuneOptions(ft_fusion_depth=config["fusion"], drop_path=0.0, mask_v=0.8)
    spec = StageSpec(model, options, Inputs(), modality, num_classes=config["classes"], multilabel=True)
    stage = Finetune(spec)
    official = {
        key: 0.2 * drawn(key, tuple(value.shape)) + (1.0 if "norm" in key and key.endswith("weight") else 0.0)
        for key, value in to_official(stage.state_dict(), modality).items()
    }
    official.setdefault("blocks_v.0.norm1.weight", torch.ones(config["dim"]))  # the audio-only model has none to name
    stage.load_parent(official)
    return stage


def batch() -> Batch:
    audio, video = 4 * drawn("audio", (2, 1, 1024, 128)), 4 * drawn("video", (2, 3, 8, 224, 224))
    return {"key": torch.tensor([11, 12]), "audio": audio, "video": video}


def close(ours: Tensor, theirs: list[list[float]]) -> None:
    assert (ours - torch.tensor(theirs)).abs().max() < TOLERANCE


@torch.no_grad()
@pytest.mark.parametrize(("modality", "masked"), [("a", False), ("v", False), ("av", False), ("av", True)])
def test_logits_are_those_of_the_authors_class(modality, masked):
    """Without DropPath, training only adds the masks."""
    theirs = CLASS["masked"] if masked else CLASS
    close(finetuned(modality).train(masked).logits(batch())[:, ::66], theirs[f"logits_{modality}"])


# --- from the file to the logits ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real_batch(tmp_path_factory: pytest.TempPathFactory) -> Batch:
    """The nine clips as `evaluate_vggsound_av` reads them."""
    if not REAL.is_dir():
        pytest.skip("the real clips of VGGSound are not here")
    data = paper("evaluate_vggsound_av").data
    manifest = build_manifest(VGGSound(REAL), ("test",), data.inputs, Checks(tmp_path_factory.mktemp("checks")))
    assert set(manifest.table["clip_id"]) == set(CLIPS)
    clips = ClipDataset(manifest, data, seed=0)
    raw = collate([clips[ClipRef(index, EVALUATION)] for index in range(len(clips))])
    return Features(data.inputs, data.augment)(raw, train=False)


@torch.no_grad()
@pytest.mark.parametrize("modality", ["a", "v", "av"])
def test_logits_of_real_files_are_those_of_the_authors_class_but_for_the_picture_scaler(real_batch, modality):
    """Theirs is torchvision's bilinear `Resize` with antialiasing, ours swscale's bicubic, and the README says what
    that does to logits; the golden numbers have both."""
    ours = finetuned(modality).eval().logits(real_batch)[:, ::31]

    def largest_difference(kind: str) -> float:
        theirs = torch.tensor([CLIPS[clip][kind] for clip in real_batch["clip_id"]])
        return (ours - theirs).abs().max().item()

    assert largest_difference("a" if modality == "a" else f"{modality}_swscale") < TOLERANCE
    assert modality == "a" or 0.063 < largest_difference(modality) < 0.07


# --- recipes ------------------------------------------------------------------------------------------------------


@cache
def stages() -> dict[str, StageConfig]:
    return compose("mavil", ["preset=paper"]).stages


def paper(stage: str) -> StageConfig:
    return stages()[stage]


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
    known = [(stage.optim, stage.batch_size, stage.epochs) for stage in map(paper, SCHEDULES["rates"])]
    others = [stage for name, stage in stages().items() if stage.train and "vggsound" not in name]
    assert all((stage.optim, stage.batch_size, stage.epochs) in known for stage in others)


@pytest.mark.parametrize("modality", ["a", "v", "av"])
def test_audioset_2m_is_drawn_as_argparse_reads_the_published_flags(modality):
    """`--replacement False` of `type=bool` (AudioMAE `submit_ft_mask_bal.sh`, `main_finetune_as.py`)."""
    loader = paper(f"finetune_audioset2m_{modality}").data.loader
    assert (loader.weighted_draws, loader.weighted_replacement) == (200_000, bool("False"))


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
