"""What is MMV's own: pictures reach text through the space of sound, sound may follow them there, text that is not
there is masked, and the two losses are one formula.

Outputs, losses and gradients of towers and graphs are compared with the authors' in `recorded/mmv.py`.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from datamodules.types import TextInputs
from experiments.common.networks.resnet_v2 import ResNetV2Config, TemporalShift
from experiments.common.networks.s3d import S3DConfig, to_depth
from experiments.common.stage import StageSpec
from experiments.mmv.method import Train, TrainOptions
from experiments.mmv.model import MMV, MMVConfig

CLIPS, WORDS, TEXTS = 8, 6, 3
SMALL = ResNetV2Config(8, [16, 32], [1, 1])


def config(**changes) -> MMVConfig:
    sizes = {
        "tsm": SMALL,
        "audio": SMALL,
        "s3d": S3DConfig(8),
        "fine": 24,
        "coarse": 12,
        "sentence": 16,
        "word_dim": 10,
    }
    return MMVConfig(**(sizes | changes))


def stage(modality: str = "avt", **changes) -> Train:
    torch.manual_seed(0)
    spec = StageSpec(config(**changes), TrainOptions(), modality=modality, text=TextInputs("words", length=WORDS))
    return Train(spec)


def clips(count: int = CLIPS, without_text: tuple[int, ...] = ()) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(1)
    text = torch.randint(1, 40, (count, TEXTS, WORDS), generator=draw)
    length = torch.full((count, TEXTS), WORDS)
    for clip in without_text:
        text[clip], length[clip] = 0, 0
    return {
        "video": torch.rand(count, 3, 4, 16, 16, generator=draw),
        "audio": torch.randn(count, 1, 20, 16, generator=draw),
        "audio_length": torch.full((count,), 20),
        "text": text,
        "text_length": length,
        "label": torch.zeros(count, 1),
    }


@torch.no_grad()
def test_pictures_reach_text_through_the_space_of_sound_and_only_there():
    for graph, through in (("fac", True), ("disjoint", False)):
        net = MMV(config(graph=graph), "vat").eval()
        for parameter in net.video_fine.parameters():
            parameter.zero_()
        _, coarse_BD = net.see(clips()["video"])
        assert (coarse_BD.std(0).max() < 1e-6) == through


def test_the_spaces_are_as_long_as_they_say_and_shared_is_one():
    fine, coarse = MMV(config(), "vat").see(clips()["video"])
    assert (fine.shape[1], coarse.shape[1]) == (24, 12)
    one, other = MMV(config(graph="shared"), "vat").see(clips()["video"])
    assert one is other and one.shape[1] == 24


def test_sound_follows_pictures_to_text_by_the_same_head():
    net, audio = MMV(config(), "vat").eval(), clips()["audio"]
    expected = net.coarse(net.hear(audio))
    assert torch.equal(net.hear_as_text(audio), expected)
    with torch.no_grad():
        net.coarse[1].weight.mul_(2)
    assert not torch.equal(net.hear_as_text(audio), expected)
    with pytest.raises(ValueError, match="graph=disjoint"):
        MMV(config(graph="disjoint"), "vat").hear_as_text(audio)


def test_sound_changes_nothing_that_the_head_of_pictures_remembers():
    made, other = stage().train(), stage().train()
    made.losses(clips())
    other.losses({**clips(), "audio": 5 + 3 * clips()["audio"]})
    norms = [net.net.coarse[2] for net in (made, other)]
    assert torch.equal(norms[0].running_mean, norms[1].running_mean) and norms[0].running_mean.any()


def test_clips_without_text_teach_text_nothing_and_change_nothing_of_what_sound_costs():
    whole, none = stage().train(), stage().train()
    everything = whole.losses(clips())
    missing = none.losses(clips(without_text=tuple(range(CLIPS))))
    assert torch.equal(everything["va"], missing["va"]) and missing["vt"] == 0 and everything["vt"] > 0
    missing["loss"].backward()
    of_text = [p.grad for name, p in none.named_parameters() if "text" in name or name.startswith("words")]
    assert len(of_text) >= 4 and not any(grad is not None and grad.any() for grad in of_text)


def test_what_stands_in_the_place_of_missing_text_is_never_looked_at():
    made, batch = stage().eval(), clips(without_text=(1, 5))
    other = {**batch, "text": batch["text"].clone()}
    other["text"][[1, 5]] = 7
    assert torch.equal(made.losses(batch)["vt"], made.losses(other)["vt"])


def test_an_eighth_of_the_channels_comes_from_each_neighbour_in_time_and_nothing_from_other_clips():
    shift = TemporalShift()
    shift.frames = 3
    x_NC = torch.arange(2 * 3 * 16.0).view(6, 16)
    found = shift(x_NC[:, :, None, None])[:, :, 0, 0].view(2, 3, 16)
    x_BTC = x_NC.view(2, 3, 16)
    assert torch.equal(found[:, 1:, :2], x_BTC[:, :-1, :2]) and not found[:, 0, :2].any()
    assert torch.equal(found[:, :-1, -2:], x_BTC[:, 1:, -2:]) and not found[:, -1, -2:].any()
    assert torch.equal(found[:, :, 2:-2], x_BTC[:, :, 2:-2])


def test_s3d_says_which_pictures_it_cannot_read():
    with pytest.raises(ValueError, match=r"\(3, 16, 16\) must be multiples of \(2, 2, 2\)"):
        to_depth(torch.zeros(1, 3, 3, 16, 16), (2, 2, 2))
