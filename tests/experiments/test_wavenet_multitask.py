"""What is WaveNet multitask's own: one causal trunk that a classifier and tasks without labels teach in one step."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torchaudio.functional as TA
from torch import Tensor

from datamodules.parts import PartSpec
from datamodules.types import Inputs
from experiments.common.stage import StageSpec
from experiments.wavenet_multitask import objective
from experiments.wavenet_multitask.method import LOSSES, Pretrain, TaskOptions, Train, TrainOptions
from experiments.wavenet_multitask.model import GatedLayer, Trunk, WaveNetConfig

CLIPS, SAMPLES, CLASSES = 6, 640, 3
INPUTS = Inputs(None, None, streams={"wave": {"kind": "waveform", "sample_rate": 8000}})
SMALL = {"blocks": 2, "layers": 3, "width": 4, "skip": 6, "hidden": 8, "regression": 5, "command_widths": [8, 6, 5]}
OFF = dict.fromkeys(LOSSES, 0.0)


def stage(kind: Any = Train, weights: dict[str, float] | None = None, **changes: Any) -> Any:
    torch.manual_seed(0)
    of: type = TrainOptions if kind is Train else TaskOptions
    options = of(**({} if weights is None else {"weights": OFF | weights}))
    for key in [key for key in changes if key in ("head", "noise", "pitch")]:
        setattr(options, key, changes.pop(key))
    parts = [PartSpec(name, INPUTS, "a", CLASSES, False, "label", CLIPS // 2) for name in ("own", "unlabelled")]
    config = WaveNetConfig(**{**SMALL, **changes})
    return kind(StageSpec(config, options, INPUTS, "a", num_classes=CLASSES, parts=parts))


def batch(parts: list[int] | None = None) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(0)
    length = torch.full((CLIPS,), SAMPLES)
    length[-1] = SAMPLES // 2
    wave = torch.randn(CLIPS, SAMPLES, generator=draw) * (torch.arange(SAMPLES) < length[:, None])
    label = F.one_hot(torch.arange(CLIPS) % CLASSES, CLASSES).float()
    made = {"key": torch.arange(CLIPS), "wave": wave, "wave_length": length, "label": label}
    return made | ({} if parts is None else {"part": torch.tensor(parts)})


def gradient(made: Any, of: dict[str, Tensor]) -> Tensor:
    made.zero_grad()
    made.losses(of)["loss"].backward()
    return made.net.trunk.inlet.weight.grad.flatten().clone()


def test_all_that_is_on_teaches_the_trunk_in_one_step():
    alone = stage(weights={})
    seen = [gradient(alone, batch())]
    assert alone.net.tasks.keys() == set()
    for task in LOSSES:
        made = stage(weights={task: 2.0})
        made.net.trunk.load_state_dict(alone.net.trunk.state_dict())
        made.net.main.load_state_dict(alone.net.main.state_dict())
        terms = made.losses(batch())
        torch.testing.assert_close(terms["loss"], terms["main"] + 2 * terms[task])
        seen.append(gradient(made, batch()))
    assert all(not torch.allclose(a, b) for i, a in enumerate(seen) for b in seen[:i])
    assert gradient(stage(Pretrain), batch()).abs().sum() > 0, "and without any label"


def test_tasks_without_labels_are_of_the_other_dataset_and_see_no_label():
    made, mixed = stage().eval(), batch([0, 1, 0, 1, 0, 1])
    before = made.losses(mixed)
    unlabelled = mixed["part"] == 1
    other = made.losses(mixed | {"label": mixed["label"].masked_fill(unlabelled[:, None], float("nan"))})
    assert all(torch.equal(before[name], other[name]) for name in before), "labels that are not there are not read"
    louder = torch.where(unlabelled[:, None], mixed["wave"].flip(1), mixed["wave"])
    other = made.losses(mixed | {"wave": louder})
    assert torch.equal(before["main"], other["main"]) and not torch.equal(before["next_step"], other["next_step"])
    other = made.losses(mixed | {"wave": torch.where(unlabelled[:, None], mixed["wave"], mixed["wave"].flip(1))})
    assert torch.equal(before["upsample"], other["upsample"]) and not torch.equal(before["main"], other["main"])


@pytest.mark.parametrize("causal", [True, False])
@torch.no_grad()
def test_a_feature_is_of_the_samples_before_it_and_of_as_many_as_the_config_says(causal):
    config = WaveNetConfig(**SMALL, causal=causal)
    assert config.receptive_field == 15 and WaveNetConfig().receptive_field == 190
    trunk, wave = Trunk(config).double(), torch.randn(1, 60).double()
    at, reached = 30, []
    for place in range(60):
        changed = wave.clone()
        changed[0, place] += 1
        reached += [place] * bool((trunk(changed) - trunk(wave))[0, :, at].abs().max() > 1e-12)
    behind = 0 if causal else 8  # what is ahead of a kernel of 2: d - d // 2, of 1, 2, 4, twice
    assert reached == list(range(at - 14 + behind, at + behind + 1))


def test_parameters_are_as_many_as_the_cards_formula():
    r, k = 64, 64
    layer = 2 * (2 * r * r + r) + r * r + r + r * k + k
    assert sum(p.numel() for p in GatedLayer(WaveNetConfig(), 1).parameters()) == layer
    assert sum(p.numel() for p in Trunk(WaveNetConfig()).parameters()) == 18 * layer + 2 * r == 447_104


def test_losses_are_those_of_the_diagram_and_a_mean_over_clips():
    made, of = stage(), batch()
    wave, length = made.heard(of)
    terms = made.losses(of)
    answer = made.net.tasks["next_step"](made.net.trunk(wave))
    assert answer.shape == (CLIPS, 1, SAMPLES)
    each = [F.mse_loss(answer[i, 0, : n - 1], wave[i, 1:n]) for i, n in enumerate(length.tolist())]
    torch.testing.assert_close(terms["next_step"], torch.stack(each).mean())
    answer = made.net.tasks["upsample"](made.net.trunk(objective.coarse(wave, 4)))
    each = [F.smooth_l1_loss(answer[i, 0, :n], wave[i, :n]) for i, n in enumerate(length.tolist())]
    torch.testing.assert_close(terms["upsample"], torch.stack(each).mean())
    levels = stage(levels=16)
    of_levels = levels.net.tasks["next_step"](levels.net.trunk(wave))
    wanted = TA.mu_law_encoding(wave[:, 1:], 16)
    each = [F.cross_entropy(of_levels[i, :, : n - 1].T, wanted[i, : n - 1]) for i, n in enumerate(length.tolist())]
    torch.testing.assert_close(levels.losses(of)["next_step"], torch.stack(each).mean())


def test_noise_is_in_what_is_heard_alone_and_as_loud_as_is_said():
    made, of = stage(), batch()
    wave, length = made.heard(of)
    noise, snr = made.noise(of, SAMPLES, "to be removed")
    assert ((snr >= 10) & (snr <= 15)).all() and len(set(snr.tolist())) == CLIPS
    question = objective.denoise(wave, length, noise, snr)
    assert torch.equal(question.wanted_BT, wave)
    added = question.seen_BT - wave
    assert not added[-1, SAMPLES // 2 :].any(), "nothing behind the end"
    for i, n in enumerate(length.tolist()):
        measured = 10 * torch.log10(wave[i, :n].square().mean() / added[i, :n].square().mean())
        assert measured == pytest.approx(snr[i].item(), abs=1e-3)


def test_coarse_sound_is_held_from_one_of_four_samples_to_the_next():
    wave = torch.randn(2, 402)
    held = objective.coarse(wave, 4)
    assert (
        torch.equal(held, TA.resample(wave, 16000, 4000).repeat_interleave(4, 1)[:, :402]) and held.shape == wave.shape
    )


@torch.no_grad()
def test_commands_are_heard_in_their_order_and_tags_are_not():
    feature, length = torch.randn(2, SMALL["skip"], SAMPLES), torch.full((2,), SAMPLES)
    for main, same in (("tagging", True), ("speaker", True), ("command", False)):
        head = stage(head=main).net.main.eval()
        assert torch.allclose(head(feature, length), head(feature.flip(2), length), atol=1e-5) == same


def test_augmentation_is_of_the_classifier_alone():
    plain = stage().eval().losses(batch())
    for changes in ({"noise": 1.0}, {"pitch": 3}):
        changed = stage(**changes).eval().losses(batch())
        assert all(torch.equal(plain[task], changed[task]) for task in LOSSES)
        assert not torch.equal(plain["main"], changed["main"])


def test_a_pitch_is_changed_by_semitones_and_the_speed_is_not():
    second = torch.arange(8000) / 8000
    tone = torch.sin(2 * torch.pi * 440 * second)[None] * (second < 0.5)
    for steps in (-3, 2):
        changed = objective.pitch_shift(tone, steps)[0]
        loudest = torch.fft.rfft(changed * torch.hann_window(8000)).abs().argmax()
        assert loudest.item() == pytest.approx(440 * 2 ** (steps / 12), abs=4)
        assert changed[4600:].abs().max() < 0.1 < changed[1000:3500].abs().max()
    shifted = objective.pitched(batch()["wave"], torch.arange(CLIPS), 1)
    assert len({bool((a == b).all()) for a, b in zip(shifted, batch()["wave"], strict=True)}) == 2, "0 is drawn, too"


def test_what_is_wrong_is_named():
    with pytest.raises(ValueError, match=r"options\.weights: next: name some of next_step, denoise, upsample"):
        Train(StageSpec(WaveNetConfig(), TrainOptions(weights={"next": 1.0}), INPUTS, "a"))
    with pytest.raises(ValueError, match="no wave, which is of kind waveform"):
        Train(StageSpec(WaveNetConfig(), TrainOptions(), Inputs(None, None), "a"))
    with pytest.raises(ValueError, match="nothing to learn"):
        stage(Pretrain, weights={})
