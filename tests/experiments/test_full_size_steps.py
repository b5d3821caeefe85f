"""A training step of real size lowers the loss of its batch: one stage of each kind of network, on random clips.

MAViL's, on clips decoded from real files: `test_mavil_full_size.py`.
"""

from __future__ import annotations

import math

import pytest
import torch

from bench.config.compose import compose
from bench.contract.cases import CPU, spec, stage_class
from bench.plan import cost
from experiments.common.stage import Stage

pytestmark = pytest.mark.slow
CLIPS, CLASSES, LEARNING_RATE = 2, 309, 1e-2


def first_stage(method: str, name: str, *settings: str) -> Stage:
    """In evaluation mode, without what is drawn at random, so that all losses are of the same function."""
    config = compose(method, ["preset=paper", *settings])
    torch.manual_seed(0)
    module = stage_class(config, name)(spec(config, name, CLASSES)).eval()
    teacher = config.stages[name].teacher
    if teacher:
        theirs = spec(config, teacher, CLASSES)
        module.load_teacher(theirs, stage_class(config, teacher)(theirs).state_dict())
    return module


def batch_of(module: Stage) -> dict:
    """Random clips, each of its own class."""
    clips, generator = cost.fake_batch(module.spec, CLIPS, CPU), torch.Generator().manual_seed(0)
    for key in clips.keys() & {"audio", "video", "audio_feat", "video_feat"}:
        clips[key] = torch.randn(clips[key].shape, generator=generator)
    for key in clips.keys() & {"audio_length", "video_feat_length"}:
        values = clips[key.removesuffix("_length")]
        clips[key] = torch.full((CLIPS,), values.shape[2 if key == "audio_length" else 1])
    clips["label"][torch.arange(CLIPS), torch.arange(CLIPS)] = 1.0
    return clips


def losses(module: Stage, steps: int) -> list[float]:
    """Before and after each of so many steps of plain descent on one batch."""
    clips, found = batch_of(module), []
    optimizer = torch.optim.SGD((p for p in module.parameters() if p.requires_grad), lr=LEARNING_RATE)
    for step in range(steps + 1):
        optimizer.zero_grad()
        loss = module.training_step(clips, step)
        found.append(loss.item())
        if step < steps:
            loss.backward()
            assert all(p.grad is None or p.grad.isfinite().all() for p in module.parameters())
            optimizer.step()
    return found


def test_uavm_s_unified_network_learns_30_steps_of_1024_numbers():
    module = first_stage("uavm", "train_vggsound")
    assert module.spec.features == {"a": (30, 1024), "v": (30, 1024)}
    found = losses(module, 3)
    assert found[-1] < 0.9 * found[0]


def test_cmkd_distils_efficientnet_b2_into_ast_base():
    """Of 300 frames, not of 1000: 348 patches in the place of 1188."""
    module = first_stage("cmkd", "distill_ast_audioset20k", "data.inputs.audio.frames=300")
    before = {key: value.clone() for key, value in module.teacher.state_dict().items()}
    found = losses(module, 1)
    assert found[1] < found[0]
    assert all(torch.equal(value, before[key]) for key, value in module.teacher.state_dict().items())


def test_mbt_b_learns_both_modalities():
    """Of one frame, not of 8: 197 tokens in the place of 1569."""
    train = "stages.train_vggsound_av"
    module = first_stage(
        "mbt", "train_vggsound_av", f"{train}.data.inputs.video.frames=1", f"{train}.options.mixup_alpha=0.0"
    )
    found = losses(module, 1)
    assert found[0] == pytest.approx(math.log(CLASSES), abs=1e-3)  # the classifier starts at zero
    assert found[1] < found[0]


def test_avlnet_learns():
    """0.6 s of sound, not 10, and two moments of pictures."""
    inputs = "stages.pretrain.data.inputs"
    module = first_stage("avlnet", "pretrain", f"{inputs}.audio.frames=64", f"{inputs}.features.frames=2")
    found = losses(module, 1)
    assert found[1] < found[0]


@pytest.mark.parametrize(
    ("method", "name"), [("avenet", "pretrain"), ("crisscross", "pretrain"), ("xdc", "train_1"), ("xkd", "pretrain")]
)
def test_what_learns_without_labels_lowers_its_loss(method: str, name: str):
    module = first_stage(method, name)
    clips, draw = cost.fake_batch(module.spec, CLIPS, CPU), torch.Generator().manual_seed(0)
    for key, value in clips.items():
        if isinstance(value, torch.Tensor) and value.is_floating_point() and value.ndim > 2:
            clips[key] = torch.randn(value.shape, generator=draw)
    optimizer = torch.optim.SGD((p for p in module.parameters() if p.requires_grad), lr=1e-3)
    before = module.training_step(clips, 0)
    before.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in module.parameters() if p.requires_grad)
    optimizer.step()
    assert module.training_step(clips, 1) < before


def test_lava_aligns_sound_pictures_and_titles_and_a_linear_layer_judges_them():
    """Of 143 M parameters, from raw sound and pixels."""
    module = first_stage("lava", "pretrain")
    clips, draw = cost.fake_batch(module.spec, CLIPS, CPU), torch.Generator().manual_seed(0)
    clips["waveform"] = torch.randn(clips["waveform"].shape, generator=draw)
    clips["video"] = 255 * torch.rand(clips["video"].shape, generator=draw)
    clips["text"] = torch.randint(1, 48000, clips["text"].shape, generator=draw)
    clips["waveform_length"] += clips["waveform"].shape[1]
    clips["text_length"] += clips["text"].shape[1]
    optimizer = torch.optim.SGD(module.parameters(), lr=1e-3)
    before = module.training_step(clips, 0)
    before.backward()
    assert all(p.grad.isfinite().all() and p.grad.any() for p in module.parameters())
    optimizer.step()
    assert module.training_step(clips, 1) < before
    for name in ("linear_ucf101_fold1", "linear_esc50_fold1"):
        probe = first_stage("lava", name)
        probe.load_parent(module.state_dict())
        probe.training_step({**clips, "label": torch.eye(CLIPS, CLASSES)}, 0).backward()
        assert probe.head[-1].weight.grad.any()
