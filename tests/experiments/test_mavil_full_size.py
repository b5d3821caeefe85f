"""One training step of MAViL's stages at the paper's size, on clips decoded from real files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bench.config.compose import compose
from bench.plan.graph import make_plan
from datamodules.base import Features
from datamodules.loading.clips import ClipDataset
from datamodules.loading.loader import collate
from datamodules.loading.samplers import ClipRef

STAGES = ("pretrain", "pretrain_2", "finetune_vggsound_av")


@pytest.mark.slow
@pytest.mark.parametrize("name", STAGES)
def test_a_step_at_full_size_lowers_the_loss_of_its_batch(name: str, sample_root: Path, tmp_path: Path):
    chosen = [f"stage=[{','.join(STAGES)}]", "stages.finetune_vggsound_av.after=pretrain_2"]
    chosen += [f"stages.{stage}.batch_size=2" for stage in STAGES]
    config = compose("mavil", ["preset=paper", *chosen, f"sample_root={sample_root}", f"runs={tmp_path}"])
    plan = {stage.name: stage for stage in make_plan(config).stages}
    stage, parent = plan[name], plan["pretrain"]
    clips = ClipDataset(stage.train, stage.config.data, seed=0)
    raw = collate([clips[ClipRef(0, 0)], clips[ClipRef(1, 0)]])
    batch = Features(stage.config.data.inputs, stage.config.data.augment)(raw, train=True)
    assert batch["audio"].shape == (2, 1, 1024, 128) and batch["video"].shape == (2, 3, 8, 224, 224)

    torch.manual_seed(0)
    module = stage.stage_class(stage.spec).eval()  # without stochastic depth, so that both losses are of one function
    if name == "pretrain_2":
        module.load_parent(parent.stage_class(parent.spec).state_dict())
    before = module.losses(batch)["loss"]
    before.backward()
    torch.optim.SGD([p for p in module.parameters() if p.requires_grad], lr=1e-3).step()
    with torch.no_grad():
        assert module.losses(batch)["loss"] < before < torch.inf
