"""MAViL's stages in a Trainer, and what every stage asks of its parameters."""

from __future__ import annotations

from pathlib import Path

import lightning as L
import pytest
import torch
from torch.utils.data import DataLoader

from tests.experiments.mavil_tiny import distill, finetune, objectives, pretrain, random_batch, tiny_config

STAGES = {
    **{name: lambda name=name: objectives()[name] for name in ("pretrain", "distill", "finetune a", "finetune v")},
    "finetune av": lambda: finetune("av"),
    "without fusion": lambda: pretrain(tiny_config(fusion_depth=0)),
    "without contrast": lambda: pretrain(use_inter=False, use_intra=False),
    "unfused targets": lambda: distill(target="uni_teacher"),
    "masked video": lambda: finetune("av", mask_v=0.5),
}


@pytest.mark.parametrize("name", STAGES)
def test_every_trainable_parameter_gets_a_gradient(name):
    stage = STAGES[name]()
    stage.losses(random_batch())["loss"].backward()
    assert [n for n, p in stage.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())] == []


def trained(stage, steps, folder: Path, resume: Path | None = None):
    """Trains up to `steps` in a Trainer; all batches are equal, so that it does not matter where the data goes on."""
    trainer = L.Trainer(
        max_steps=steps, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        enable_checkpointing=False, log_every_n_steps=1,
    )  # fmt: skip
    trainer.fit(stage, DataLoader([random_batch()] * 3, batch_size=None), ckpt_path=resume and str(resume))
    trainer.save_checkpoint(folder / "last.ckpt")
    return trainer


@pytest.mark.filterwarnings("ignore")
def test_checkpoint_of_a_student_holds_no_teacher_and_its_weights_are_the_next_teacher(tmp_path):
    stage = distill()
    teacher = {key: value.clone() for key, value in stage.teacher.state_dict().items()}
    trainer = trained(stage, 2, tmp_path)
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert saved["state_dict"].keys() == stage.state_dict().keys() and not any(
        "teacher" in k for k in saved["state_dict"]
    )
    assert len(saved["optimizer_states"][0]["state"]) == len(list(stage.parameters()))
    assert all(torch.equal(value, teacher[key]) for key, value in stage.teacher.state_dict().items())
    assert {"loss/loss", "loss/audio", "loss/video", "loss/inter", "loss/intra"} <= trainer.callback_metrics.keys()

    following = distill()
    following.load_parent(saved["state_dict"])
    theirs = stage.trunk.state_dict()
    assert all(torch.equal(value, theirs[key]) for key, value in following.teacher.state_dict().items())


@pytest.mark.filterwarnings("ignore")
def test_a_cut_off_student_goes_on_with_its_teacher_to_the_same_weights(tmp_path):
    undisturbed, cut_off, resumed = distill(), distill(), distill()
    trained(undisturbed, 3, tmp_path)
    trained(cut_off, 1, tmp_path)
    trainer = trained(resumed, 3, tmp_path, resume=tmp_path / "last.ckpt")
    assert trainer.global_step == 3
    for key, value in resumed.state_dict().items():
        assert torch.equal(value, undisturbed.state_dict()[key])
    assert not torch.equal(resumed.trunk.audio.cls_token, cut_off.trunk.audio.cls_token)


def test_masks_and_losses_are_functions_of_the_batch_alone():
    stage, batch = pretrain(), random_batch()
    torch.manual_seed(1)
    first = stage.losses(batch)["loss"]
    torch.manual_seed(2)
    assert torch.equal(first, stage.losses(batch)["loss"])
