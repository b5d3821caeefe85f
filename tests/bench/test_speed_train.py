"""`bench speed train`: its plain loop does what the harness does, bit for bit, and what it counts is right."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.plan.cost import flops_of
from bench.speed import timed_loops, training
from bench.speed.flops import DATA_SHEETS, peak
from bench.speed.plain_loop import attention_by_hand, hand_written_attention
from bench.speed.timed_loops import WARM_UP, Timed
from tests.bench.runs import SMALLEST

MBT = ["model.dim=32", "model.depth=2", "model.heads=2", "model.fusion_layer=1", "data.loader.workers=0"]


def timed(sample_root: Path, folder: Path, method: str, stage: str, *overrides: str, rounds: int = 3) -> Timed:
    small = SMALLEST if method == "mavil" else MBT
    places = [f"sample_root={sample_root}", f"runs={folder / 'runs'}"]
    plan = training.planned(method, [*small, f"stages.{stage}.batch_size=8", *places, *overrides], stage)
    return training.timed_of(plan.config, replace(plan.stages[-1], folder=folder / "run"), steps=2, rounds=rounds)


CASES = {
    "masks and contrast": ("mavil", "pretrain"),
    "a teacher": ("mavil", "pretrain_2"),
    "stochastic depth, clipped, in two parts": (
        *("mavil", "finetune_vggsound_av", "stages.finetune_vggsound_av.options.drop_path=0.5"),
        *("trainer.grad_clip=0.01", "trainer.device_batch=4"),
    ),
    "mix-up drawn from torch's own generator": ("mbt", "train_audioset_av"),
}

LONG = ("a teacher", "stochastic depth, clipped, in two parts")


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=name, marks=[pytest.mark.slow] * (name in LONG)) for name, case in CASES.items()]
)
def test_the_plain_loop_s_losses_and_weights_are_the_harness_s(case, sample_root: Path, tmp_path: Path):
    job = timed(sample_root, tmp_path, *case)
    fresh = training.untrained(job.stage, job.settings.seed)
    reading, in_harness, in_loop, by_hand = (copy.deepcopy(fresh) for _ in range(4))
    read, kept = timed_loops.read(job, reading)
    assert len(kept) == timed_loops.HELD and len(read.losses) == job.last == WARM_UP + 6
    losses: list[Tensor] = []
    harness = timed_loops.held(job, in_harness, kept, {"plain": noted(timed_loops.plain(job, in_loop, kept), losses)})
    assert harness.losses == losses and len(set(map(float, losses))) > 1
    start, one, other = (module.state_dict() for module in (fresh, in_harness, in_loop))
    assert all(torch.equal(one[name], other[name]) for name in start)
    assert any(not torch.equal(one[name], start[name]) for name in start)
    written = torch.stack([*timed_loops.by_hand(job, by_hand, kept)])
    torch.testing.assert_close(written, torch.stack(losses), rtol=2e-2, atol=1e-3)


def noted(loop: timed_loops.Loop, losses: list[Tensor]) -> timed_loops.Loop:
    for loss in loop:
        losses.append(loss)
        yield loss


@pytest.mark.slow
def test_in_bfloat16_the_plain_loop_is_the_harness_but_for_rounding(sample_root: Path, tmp_path: Path):
    job = timed(sample_root, tmp_path, "mbt", "train_audioset_av", "trainer.precision=bf16-mixed")
    fresh = training.untrained(job.stage, job.settings.seed)
    _, kept = timed_loops.read(job, copy.deepcopy(fresh))
    harness = timed_loops.held(job, copy.deepcopy(fresh), kept, {}).losses
    plain = [*timed_loops.plain(job, copy.deepcopy(fresh), kept)]
    in_float32 = next(timed_loops.plain(replace(job, settings=replace(job.settings, precision="32-true")), fresh, kept))
    torch.testing.assert_close(torch.stack(plain), torch.stack(harness), rtol=1e-3, atol=0)
    assert plain[0] == harness[0] != in_float32


@pytest.mark.parametrize("mask", [None, "bool", "float"])
def test_attention_by_hand_is_torch_s(mask):
    query, key, value = (torch.randn(2, 3, n, 8, requires_grad=True) for n in (5, 7, 7))
    if mask == "bool":
        mask = torch.tensor([True, False, True, True, False, True, True])[None, None, None]
    elif mask == "float":
        mask = torch.randn(5, 7)
    expected = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    torch.testing.assert_close(attention_by_hand(query, key, value, mask), expected)


def test_attention_is_by_hand_within_and_torch_s_again_after():
    fused = F.scaled_dot_product_attention
    with pytest.raises(RuntimeError), hand_written_attention():
        assert F.scaled_dot_product_attention is attention_by_hand
        raise RuntimeError
    assert F.scaled_dot_product_attention is fused
    with pytest.raises(ValueError, match="is_causal"):
        attention_by_hand(*torch.randn(3, 1, 2, 4), is_causal=True)


def test_flops_are_those_of_the_products():
    layer = nn.Linear(3, 5)
    x = torch.randn(7, 3, requires_grad=True)
    assert flops_of(lambda: layer(x)) == 2 * 7 * 3 * 5
    assert flops_of(lambda: layer(x).sum().backward()) == 3 * 2 * 7 * 3 * 5  # and the gradients of x and of the weight


def test_the_peak_of_a_cpu_is_measured_alone(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("bench.speed.flops.SIZES", {"cpu": (16, 32)})
    found = peak(torch.device("cpu"), torch.float32)
    assert found.measured > 0 and found.size in (16, 32) and found.specified is None
    assert all(flops > 1e14 and source.startswith("https://") for flops, source in DATA_SHEETS.values())


@pytest.mark.slow
def test_a_measurement_has_every_loop_in_every_round(sample_root: Path, tmp_path: Path, capsys, monkeypatch):
    from bench.cli import main

    monkeypatch.setattr("bench.speed.flops.SIZES", {"cpu": (64,)})
    places = [f"sample_root={sample_root}", f"runs={tmp_path / 'runs'}", "stages.train_vggsound_av.batch_size=8"]
    measured = []
    monkeypatch.setattr(training, "measure", lambda *a, real=training.measure: measured.append(real(*a)) or measured[0])
    command = ["speed", "train", "mbt", *MBT, *places, "--stage", "train_vggsound_av"]
    assert main([*command, "--steps", "1", "--rounds", "2", "--packed"]) == 0
    found = measured[0]
    assert found.timed.stage.config.data.packed and found.timed.last == WARM_UP + 2
    loops = {"harness", "plain loop", "plain loop, attention by hand"}
    assert found.seconds.keys() == found.work.keys() == found.memory.keys() == loops
    assert all(len(times) == 2 and min(times) > 0 for times in found.seconds.values())
    assert 0 <= found.reading[2] <= found.reading[0] and found.flops > 0
    printed = capsys.readouterr().out
    for part in ("samples/s", "from a pack", "GFLOPs a step", f"torch {torch.__version__}"):
        assert part in printed
    assert not (tmp_path / "runs" / "mbt").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["mavil", "--stage", "retrieve"], "pretrain"),
        (["mavil", "--steps", "0"], "at least 1"),
        (["mavil", "trainer.devices=2", "trainer.accelerator=cpu"], "one device"),
    ],
)
def test_mistakes_of_speed_train_are_user_errors(arguments, message, capsys):
    from bench.cli import main

    assert main(["speed", "train", *arguments]) == 2
    assert message in capsys.readouterr().err
