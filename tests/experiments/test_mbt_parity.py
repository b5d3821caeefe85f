"""MBT against the authors' Flax class, by numbers recorded from it (`tests/golden/mbt_scenic.json`), and its recipe
against the schedule of their released configuration (`tests/golden/mbt_schedules.json`).

The weights and inputs of that run can be drawn again here: each is a function of its name in their layout.
"""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from timm.layers import DropPath
from torch import Tensor, nn

from bench.config.compose import compose
from datamodules import keyed
from datamodules.types import AudioInputs, Inputs, VideoInputs
from experiments.common.optim import peak_lr, schedule_factor
from experiments.mbt.checkpoints import load
from experiments.mbt.model import MBT, MBTConfig, mean_logits

FOLDER = Path(__file__).parent.parent / "golden"
GOLDEN = json.loads((FOLDER / "mbt_scenic.json").read_text())
RATES = json.loads((FOLDER / "mbt_schedules.json").read_text())["rates"]
STAGES = {name: stage for name, stage in compose("mbt", ["preset=paper"]).stages.items() if stage.train}
TOLERANCE = 2e-5  # the exact GELU would differ by 1.7e-4, LayerNorms of eps 1e-5 by 4e-4
MODELS = {
    "bottleneck_0": MBTConfig(fusion_layer=0),
    "bottleneck_2": MBTConfig(fusion_layer=2),
    "bottleneck_3": MBTConfig(fusion_layer=3),
    "bottleneck_4": MBTConfig(fusion_layer=4),
    "bottleneck_2_shared": MBTConfig(fusion_layer=2, share_encoder=True),
    "cross_0": MBTConfig(fusion="cross", fusion_layer=0),
    "cross_2": MBTConfig(fusion="cross", fusion_layer=2),
    "full_0": MBTConfig(fusion="full", fusion_layer=0, share_encoder=True),
    "full_2": MBTConfig(fusion="full", fusion_layer=2, share_encoder=True),
    "audio": MBTConfig(fusion_layer=2),
    "video": MBTConfig(fusion_layer=2),
    "drop_path_video": MBTConfig(fusion_layer=2),
}
MODALITY = {"audio": "a", "video": "v", "drop_path_video": "v"}


def drawn(name: str, shape: tuple[int, ...]) -> Tensor:
    """Uniform numbers in [-0.5, 0.5) that depend on the name alone."""
    key = torch.tensor([keyed.stable_hash("mbt parity", name)])
    return keyed.uniform(key, "value", math.prod(shape)).view(shape) - 0.5


def scenic_weights(run: str, depth: int) -> dict[str, Tensor]:
    """The parameters of the recorded run, as a flattened Flax tree."""
    layout = GOLDEN["layouts"][GOLDEN["runs"][run]["layout"]]
    shapes = {key.format(i=i): shape for key, shape in layout.items() for i in range(depth)}
    return {key: 0.2 * drawn(key, tuple(s)) + (1.0 if key.endswith("scale") else 0.0) for key, s in shapes.items()}


def recorded(run: str, drop_path: float = 0.0, depth: int = 4) -> MBT:
    """Our model with the recorded run's weights, loaded from the authors' layout."""
    sizes = GOLDEN["config"]
    size = {name: sizes[name] for name in ("dim", "heads", "tubelet", "bottlenecks")}
    config = replace(MODELS[run], depth=depth, drop_path=drop_path, **size)
    (frames, mels), (pictures, side) = sizes["audio"], sizes["video"]
    inputs = Inputs(AudioInputs(frames=frames, mel_bins=mels), VideoInputs(frames=pictures, size=side))
    model = MBT(config, inputs, MODALITY.get(run, "av"), sizes["classes"])
    load(model, scenic_weights(run, depth))
    return model


def batch() -> dict[str, Tensor]:
    return {"audio": 4 * drawn("audio", (2, 1, 96, 32)), "video": 4 * drawn("video", (2, 3, 4, 64, 64))}


def close(ours: Tensor, golden: list) -> None:
    golden = torch.tensor(golden)
    assert ours.shape == golden.shape and (ours - golden).abs().max() < TOLERANCE


@torch.no_grad()
@pytest.mark.parametrize("run", [run for run in MODELS if run != "drop_path_video"])
def test_tokens_and_logits_are_those_of_the_authors_class(run):
    model, golden, seen = recorded(run), GOLDEN["runs"][run], {}
    for name in golden.get("blocks", ()):  # of middle layers, bottleneck included
        block = model.get_submodule(f"blocks.{name}")
        block.register_forward_hook(lambda _, inputs, out, name=name: seen.update({name: out}))
    tokens = torch.cat(list(model.encode(batch()).values()), dim=1)  # theirs: audio, then video
    assert tokens.shape[1] == golden["tokens"]["length"]
    close(tokens[:, ::4, 5], golden["tokens"]["channel_5_of_every_4th"])
    for name, out in seen.items():
        assert out.shape[1] == golden["blocks"][name]["length"]
        close(out[:, [0, 1, -5, -1], ::8], golden["blocks"][name]["rows"])
    logits = model(batch())
    assert logits.keys() == golden["logits"].keys()
    for modality, values in golden["logits"].items():
        close(logits[modality], values)
    close(mean_logits(logits), golden["mean"])


@torch.no_grad()
def test_each_recorded_draw_of_stochastic_depth_is_one_of_ours_without_rescaling():
    """Two layers of rates 0 and 0.5: each clip keeps or loses the branches of the second, so has one of four logits."""
    model = recorded("drop_path_video", drop_path=0.5, depth=2)
    last = model.blocks["v"][1]
    assert isinstance(last.drop_path1, DropPath) and not last.drop_path1.scale_by_keep
    possible = []
    for kept in itertools.product((True, False), repeat=2):
        last.drop_path1, last.drop_path2 = (nn.Identity() if keep else nn.Threshold(math.inf, 0.0) for keep in kept)
        possible.append(model(batch())["v"])
    draws = torch.tensor(GOLDEN["runs"]["drop_path_video"]["logits"])  # [seeds, B, C]
    distance = (draws[:, None] - torch.stack(possible)).abs().amax(dim=-1)  # [seeds, 4, B]
    nearest = distance.min(dim=1)
    assert nearest.values.max() < TOLERANCE
    assert len(nearest.indices.unique()) == 4


@pytest.mark.parametrize("name", STAGES)
@pytest.mark.parametrize(("steps", "every"), [(4, 1), (318, 53)])
def test_the_rate_of_every_step_is_that_of_the_authors_scheduler(name, steps, every):
    stage = STAGES[name]
    peak = peak_lr(stage.optim, stage.batch_size)
    rates = [
        peak * schedule_factor(stage.optim, stage.batch_size, step, steps, stage.epochs)
        for step in range(0, steps * stage.epochs, every)
    ]
    assert rates == pytest.approx(RATES[str(steps)], rel=1e-5, abs=1e-7)  # theirs is computed in float32
