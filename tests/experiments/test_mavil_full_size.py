"""One training step of each stage at the paper's size, on clips decoded from real files."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from bench.config.compose import compose
from bench.plan.graph import make_plan
from datamodules.base import Features
from datamodules.loading.clips import ClipDataset
from datamodules.loading.loader import collate
from datamodules.loading.samplers import ClipRef

pytestmark = pytest.mark.slow

STAGES = ("pretrain", "pretrain_2", "finetune_vggsound_a", "finetune_vggsound_v", "finetune_vggsound_av")


@pytest.fixture(scope="module")
def plan(sample_root: Path, tmp_path_factory: pytest.TempPathFactory):
    batches = [f"stages.{stage}.batch_size=2" for stage in STAGES]
    folder = tmp_path_factory.mktemp("runs")
    chosen = f"stage=[{','.join(STAGES)}]"
    # Fine-tuning after the first student: its later rounds have the same shapes.
    after = [f"stages.{stage}.after=pretrain_2" for stage in STAGES[2:]]
    options = ["preset=paper", chosen, *batches, *after, f"sample_root={sample_root}", f"runs={folder}"]
    return {stage.name: stage for stage in make_plan(compose("mavil", options)).stages}


@pytest.mark.parametrize("name", STAGES)
def test_a_step_at_full_size_lowers_the_loss_of_its_batch(plan, name):
    stage = plan[name]
    torch.manual_seed(0)
    dataset = ClipDataset(stage.train, stage.config.data, seed=0)
    raw = collate([dataset[ClipRef(0, 0)], dataset[ClipRef(1, 0)]])
    batch = Features(stage.config.data.inputs, stage.config.data.augment)(raw, train=True)
    if "a" in stage.config.modality:
        assert batch["audio"].shape == (2, 1, 1024, 128)
    if "v" in stage.config.modality:
        assert batch["video"].shape == (2, 3, 8, 224, 224)

    module = stage.stage_class(stage.spec)
    if name == "pretrain_2":
        parent = plan["pretrain"]
        module.load_parent(parent.stage_class(parent.spec).state_dict())
    module.eval()  # without stochastic depth, so that both losses are of the same function
    optimizer = torch.optim.SGD([p for p in module.parameters() if p.requires_grad], lr=1e-3)
    before = module.losses(batch)["loss"]
    before.backward()
    optimizer.step()
    with torch.no_grad():
        after = module.losses(batch)["loss"]
    assert math.isfinite(before.item()) and after < before
