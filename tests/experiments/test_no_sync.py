"""Nothing waits for the device: on the meta device, which has shapes and no values, asking for one (`.item()`,
`nonzero`, indexing by a mask, a copy to the host) is an error. Training steps: `test_every_method.py`."""

from __future__ import annotations

import pytest
import torch
from lightning.fabric.utilities import move_data_to_device

from datamodules.base import Features
from datamodules.types import AudioInputs, AugmentConfig, Inputs, RawBatch, TextInputs, VideoInputs
from experiments.common.networks.words import WordVectors
from experiments.mcn.clustering import JointClusters
from tests.experiments.narrated_tiny import mcn_stage


@pytest.mark.parametrize(
    "ask", [lambda x: x.sum().item(), lambda x: x[x > 0], lambda x: x.nonzero(), lambda x: x.cpu(), bool]
)
def test_what_asks_for_a_value_is_an_error(ask):
    """These tests are none if the meta device lets these pass."""
    with pytest.raises((RuntimeError, NotImplementedError)):
        ask(torch.ones((), device="meta") if ask is bool else torch.ones(3, device="meta"))


def test_a_refit_does_ask():
    """MCN's every 20th step finds clusters, and waits to know when it is done; the contract's is between two."""
    stage = mcn_stage().to("meta")
    fused, valid = torch.empty(8, 24, device="meta"), torch.ones(8, dtype=torch.bool, device="meta")
    with pytest.raises((RuntimeError, NotImplementedError)):
        stage.joint.update(fused, 2, 0, 0, valid)


def test_the_clusters_of_a_step_between_two_refits_ask_for_no_value():
    joint = JointClusters(clusters=3, dim=4, queue_batches=2, refit_every=2, seed=0)
    fused, valid = torch.randn(8, 4), torch.tensor([True, False] * 4)
    joint.update(fused, 2, 0, 0, valid)
    joint.load_state({name: value.to("meta") for name, value in joint.state().items()})
    label = joint.update(fused.to("meta"), 2, 1, 0, valid.to("meta"))
    assert label.is_meta and label.shape == (8,)


@pytest.mark.parametrize("kind", ["kaldi", "decibel"])
def test_features_and_augmentation_ask_for_no_value(kind):
    """What runs on the device between the loader and the step, with all that can be switched on."""
    inputs = Inputs(
        AudioInputs(kind, frames=64, mel_bins=40, past_end="repeat"),
        VideoInputs(frames=2, size=16, train_size=20, past_end="nothing"),
    )
    augment = AugmentConfig(True, 0.5, 8, 16, 2, 0.1, 4, 0.5, True, 0.5, 0.2, erase=0.5, time_warp=3)
    raw = RawBatch(
        clip_id=["a", "b"],
        key=torch.arange(2),
        audio=torch.zeros(2, 16000),
        audio_length=torch.tensor([16000, 9000]),
        video=torch.zeros(2, 2, 20, 20, 3, dtype=torch.uint8),
        video_length=torch.tensor([2, 1]),
        label=torch.zeros(2, 5),
    )
    raw["partner"], raw["partner_place"] = RawBatch(**raw), torch.tensor([1, 0])
    features = Features(inputs, augment).to("meta")
    batch = features(move_data_to_device(raw, torch.device("meta")), train=True)
    assert batch["audio"].shape == (2, 1, 64, 40) and batch["video"].shape == (2, 3, 2, 16, 16)


def test_words_are_looked_up_on_the_device():
    words = WordVectors(TextInputs("word2vec"), dim=3)
    words._table = (torch.ones(7, 3),)
    assert words(torch.zeros(2, 4, dtype=torch.long, device="meta")).is_meta
    assert words._table[0].is_meta
