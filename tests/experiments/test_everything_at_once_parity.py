"""Everything at Once against the authors' classes, by numbers recorded from them (`everything_at_once.json`).

The weights and inputs of those runs can be drawn again here: each is a function of its name in their layout.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from datamodules import keyed
from experiments.common.networks.davenet import DAVEnetConfig
from experiments.everything_at_once.checkpoints import load
from experiments.everything_at_once.model import EverythingAtOnce, EverythingAtOnceConfig
from experiments.everything_at_once.objective import PairWeights, combinatorial_loss

GOLDEN = json.loads((Path(__file__).parent.parent / "golden" / "everything_at_once.json").read_text())
MODES = GOLDEN["modes"]
TOLERANCE = 1e-5


def drawn(name: str, shape: tuple[int, ...]) -> Tensor:
    """Uniform numbers in [-0.5, 0.5) that depend on the name alone."""
    key = torch.tensor([keyed.stable_hash("everything at once parity", name)])
    return keyed.uniform(key, "value", math.prod(shape)).view(shape) - 0.5


def drawn_weight(name: str, shape: tuple[int, ...]) -> Tensor:
    """Of a size at which signals neither die nor explode; weights of norms are about 1."""
    if name.endswith("num_batches_tracked"):
        return torch.zeros(shape, dtype=torch.long)
    if name.endswith("running_var"):
        return 1 + drawn(name, shape)
    if len(shape) == 1:
        return 0.2 * drawn(name, shape) + float(name.endswith("weight"))
    return drawn(name, shape) * (24 / math.prod(shape[1:])) ** 0.5


def released() -> dict[str, Tensor]:
    """The recorded run's weights as the authors' file would hold them."""
    return {f"module.{key}": drawn_weight(key, tuple(shape)) for key, shape in GOLDEN["keys"].items()}


def network() -> EverythingAtOnce:
    own = dict(GOLDEN["config"])
    audio = DAVEnetConfig(**{key: own.pop(key) for key in ("first", "widths", "blocks")})
    net = EverythingAtOnce(EverythingAtOnceConfig(audio=audio, **own))
    load(net, released())
    return net.eval()


def inputs() -> dict[str, tuple[Tensor, Tensor]]:
    """Six clips: the second has no words, the third no sound, the fourth no pictures. After an end come no zeros."""
    audio, video, text = drawn("audio", (6, 256, 40)), drawn("video", (6, 5, 20)), drawn("text", (6, 7, 10))
    values = {"a": 4 * audio, "v": video, "t": 2 * text}
    return {modality: (value, torch.tensor(GOLDEN["lengths"][modality])) for modality, value in values.items()}


@cache
@torch.no_grad()
def outputs(mode: str) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor]]:
    net = network().train(mode == "train")
    tokens = net.tokens(inputs())
    return net.embed(tokens, MODES[mode]["embeddings"]), {m: own.nonempty_B for m, own in tokens.items()}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("together", MODES["eval"]["embeddings"])
def test_embeddings_are_those_of_the_authors_class(mode, together):
    theirs = torch.tensor(MODES[mode]["embeddings"][together])
    if len(together) == 1:  # which theirs leaves at any length, for its loss to normalise
        theirs = F.normalize(theirs, dim=1)
    ours = outputs(mode)[0][together]
    assert ours.shape == (6, 16) and (ours - theirs).abs().max() < TOLERANCE


@pytest.mark.parametrize("mode", MODES)
def test_the_same_clips_are_without_a_modality(mode):
    assert {m: nonempty.tolist() for m, nonempty in outputs(mode)[1].items()} == MODES[mode]["nonempty"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", MODES["eval"]["losses"])
def test_losses_are_those_of_the_authors_class(mode, name):
    theirs = MODES[mode]["losses"][name]
    terms = combinatorial_loss(*outputs(mode), PairWeights(*theirs["weights"]), 0.05)
    assert {key: value.item() for key, value in terms.items()} == pytest.approx(theirs["terms"], abs=3e-5)


@torch.no_grad()
@pytest.mark.parametrize("part", ["blocks.1.mlp.fc2", "audio_encoder.stages.5.0.conv2", "token_projection.v.0.gate.fc"])
def test_the_recorded_numbers_would_tell_if_a_deep_weight_were_wrong(part):
    net = network()
    net.get_submodule(part).weight *= 1.01
    ours = net.embed(net.tokens(inputs()), ["av"])["av"]
    assert (ours - torch.tensor(MODES["eval"]["embeddings"]["av"])).abs().max() > 20 * TOLERANCE
