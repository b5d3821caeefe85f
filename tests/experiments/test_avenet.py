"""The ideas without which it would not be AVE-Net or AVOL-Net; each test fails when its idea is broken."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from bench.config.compose import compose
from bench.contract.cases import Case, made_up_batch, spec
from datamodules.loading.windows import places, window_lengths
from experiments.avenet.method import SVM, Correspond, Localise
from experiments.avenet.model import AVENet, AVENetConfig, AVOLNet
from experiments.common.stages.svm import SVMOptions

CASE = Case("avenet", "pretrain")
SPEC, BATCH = spec(CASE.config, CASE.stage), made_up_batch(CASE)
SMALL = AVENetConfig(widths=[4, 4, 8, 8], dim=6)


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def stage(fusion: str) -> Correspond:
    torch.manual_seed(0)
    return Correspond(replace(SPEC, model=replace(SMALL, fusion=fusion)))


# --- AVE-Net ------------------------------------------------------------------------------------------------------


def test_all_that_a_pair_is_judged_by_is_the_distance_of_its_embeddings():
    net = AVENet(SMALL)
    there, back = torch.eye(6)[:3], torch.eye(6)[3:]  # other vectors, of the same distance
    logits = net.logits(torch.cat([there, back]), torch.cat([back, there.roll(1, 0)]))
    assert (logits == logits[:1]).all()
    turned = torch.linalg.qr(drawn(6, 6)).Q
    seen, heard = (torch.nn.functional.normalize(x, dim=1) for x in drawn(2, 5, 6))
    torch.testing.assert_close(net.logits(seen @ turned, heard @ turned), net.logits(seen, heard))
    assert net.fc3.weight.shape == (2, 1) and net.logits(seen, heard).unique(dim=0).shape == (5, 2)


def test_embeddings_have_length_1_in_ave_net_and_none_in_avol_net():
    for net, fixed in ((AVENet(SMALL).eval(), True), (AVOLNet(SMALL).eval(), False)):
        for embedding in (net.see(drawn(3, 3, 48, 48)), net.hear(drawn(3, 1, 33, 40))):
            lengths = embedding.norm(dim=1)
            assert torch.allclose(lengths, torch.ones_like(lengths)) == fixed


def test_in_the_beginning_what_is_near_belongs_together():
    far = torch.linspace(0, 1, 9)[:, None]
    near_first = torch.cat([1 - far, far, torch.zeros(9, 4)], 1)
    odds = AVENet(SMALL).odds(near_first, torch.eye(6)[:1].expand(9, 6))
    assert (odds.diff() < 0).all() and odds[0] > 0
    assert AVOLNet(SMALL).conv7.weight.item() > 0
    torch.manual_seed(0)
    unsigned = {bool(AVENet(replace(SMALL, sign_init=False)).fc3.weight.diff(dim=0) > 0) for _ in range(20)}
    assert unsigned == {True, False}


def test_embeddings_that_are_equal_have_gradients():
    same = torch.nn.functional.normalize(drawn(2, 6), dim=1).requires_grad_()
    AVENet(SMALL).odds(same, same.detach()).sum().backward()
    assert same.grad.isfinite().all()


# --- AVOL-Net -----------------------------------------------------------------------------------------------------


def test_the_best_cell_decides_alone():
    net, heard = AVOLNet(SMALL), drawn(3, 6)
    seen = drawn(3, 6, 4, 5).requires_grad_()
    net.odds(seen, heard).sum().backward()
    assert (seen.grad.abs().sum(1) > 0).flatten(1).sum(1).tolist() == [1, 1, 1]
    shuffled = seen.flatten(2)[..., torch.randperm(20)].unflatten(2, (4, 5))
    assert torch.equal(net.odds(shuffled, heard), net.odds(seen, heard))


def test_what_is_heard_says_where_and_its_length_how_much():
    net = AVOLNet(SMALL)
    seen = torch.zeros(2, 6, 4, 4)
    seen[:, 0, 1, 2], seen[:, 5, 3, 0] = 1.0, 1.0
    cells = net.map(seen, torch.eye(6)[[0, 5]])
    assert cells.flatten(1).argmax(1).tolist() == [1 * 4 + 2, 3 * 4 + 0]
    torch.testing.assert_close(net.map(seen, 3 * torch.eye(6)[[0, 5]]), 3 * cells)


# --- pairs --------------------------------------------------------------------------------------------------------


def test_a_picture_belongs_to_its_own_sound_and_not_to_another_video_s(monkeypatch):
    made = stage("distance").eval()
    monkeypatch.setattr(made.net, "hear", lambda sound: sound[:, 0, 0])
    monkeypatch.setattr(made.net, "odds", lambda seen, heard: heard[:, 0])
    right, wrong = (BATCH[name][:, 0, 0, 0].sigmoid() for name in ("sound", "other_sound"))
    found = made.losses(BATCH)
    torch.testing.assert_close(found["loss"], -(torch.log(right).mean() + torch.log(1 - wrong).mean()) / 2)
    assert found["accuracy"] == ((right > 0.5).float().mean() + (wrong <= 0.5).float().mean()) / 2


def test_both_sounds_of_a_picture_are_measured():
    made = stage("distance").eval()
    measured = made.predict_step(BATCH, 0)["correspondence"]["av"]
    own = made.net.odds(made.see(BATCH), made.net.hear(BATCH["sound"]))
    torch.testing.assert_close(measured[:, 0], own)
    swapped = {**BATCH, "sound": BATCH["other_sound"], "other_sound": BATCH["sound"]}
    torch.testing.assert_close(made.predict_step(swapped, 0)["correspondence"]["av"], measured.flip(1))


@pytest.mark.parametrize("fusion", ["distance", "map", "concat"])
def test_each_cell_is_judged_as_if_it_were_the_picture(fusion):
    localise = Localise(replace(stage(fusion).spec, modality="av")).eval()
    net, heard = localise.net, localise.hear(BATCH)
    found = localise.predict_step(BATCH, 0)["map"]["av"]
    cells = net.image(localise.image(BATCH))
    assert found.shape == (len(heard), *cells.shape[2:])
    for row, column in ((0, 0), (1, 2)):
        cell = cells[:, :, row : row + 1, column : column + 1]
        net.image = torch.nn.Identity()
        torch.testing.assert_close(found[:, row, column], net.odds(net.see(cell), heard))


@pytest.mark.parametrize("modality", ["a", "v"])
def test_features_have_length_1_and_say_what_is_strongest_where(modality):
    made = SVM(replace(SPEC, modality=modality, options=SVMOptions(), multilabel=False)).eval()
    features = made.embed(BATCH)
    assert features.shape == (len(BATCH["label"]), made.width)
    torch.testing.assert_close(features.norm(dim=1), torch.ones(len(features)))
    cells = made.net.sound(BATCH["sound"]) if modality == "a" else made.net.image(made.image(BATCH))
    loudest = features.unflatten(1, (cells.shape[1], -1)).amax(2)
    loudest, most = (torch.nn.functional.normalize(each, dim=1) for each in (loudest, cells.amax((2, 3))))
    torch.testing.assert_close(loudest, most)


def middles(variant: str, stream: str) -> torch.Tensor:
    """Seconds from the start of its clip to the middle of what is heard, of many clips of 10 s."""
    config = compose("avenet", ["preset=paper", *([f"variant={variant}"] if variant else [])])
    inputs = config.stages["pretrain"].data.inputs
    inputs.windows["around"].by[:] = [-0.5, -0.5]
    lengths, window = window_lengths(inputs), inputs.streams[stream]["window"]
    draws = torch.rand(500, 2, generator=torch.Generator().manual_seed(1)).tolist()
    begins = [places(inputs.windows, lengths, 10.0, own, lambda _, u=u: u, inputs.grid)[window][0] for own, u in draws]
    return torch.tensor(begins) + 0.5


def test_times_do_not_say_which_sounds_belong_to_a_picture():
    """Both lie on the grid of frames; without that (the paper's shortcut) only those that belong to one do."""
    histograms = {
        (variant, stream): torch.histc(((middles(variant, stream) + 0.005) % 0.04), 4, 0, 0.04)
        for variant in ("", "shortcut") for stream in ("sound", "other_sound")
    }  # fmt: skip
    usual = histograms["", "sound"]
    assert usual.tolist() == [500, 0, 0, 0]
    assert torch.equal(histograms["", "other_sound"], usual) and torch.equal(histograms["shortcut", "sound"], usual)
    assert histograms["shortcut", "other_sound"].min() > 80


def test_inputs_that_the_network_cannot_look_at_are_named():
    video = replace(SPEC.inputs.video, frames=2)
    with pytest.raises(ValueError, match=r"data\.inputs\.video.*set its frames to 1"):
        Correspond(replace(SPEC, inputs=replace(SPEC.inputs, video=video)))
    for modality, missing in (("av", "sound"), ("i", "still")):
        with pytest.raises(ValueError, match=rf"data\.inputs\.streams has no {missing}"):
            Correspond(replace(SPEC, modality=modality, inputs=replace(SPEC.inputs, streams={})))
    with pytest.raises(ValueError, match="modality=av: features are of a or of v"):
        SVM(replace(SPEC, options=SVMOptions(), multilabel=False))
