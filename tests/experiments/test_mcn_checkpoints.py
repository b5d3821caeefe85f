from __future__ import annotations

import dataclasses

import pytest
import torch

from experiments.mcn.checkpoints import from_official, is_official, load
from experiments.mcn.model import MCN
from tests.experiments.test_mcn_parity import config, network, released


def test_released_weights_are_told_by_their_keys_and_fill_every_parameter():
    ours = MCN(config()).state_dict()
    assert is_official(released()) and not is_official(ours)
    assert set(from_official(released())) == set(ours)


def test_only_what_the_authors_class_never_uses_is_left_out():
    weights = released()
    taken = {value.data_ptr() for value in from_official(weights).values()}
    left_out = {key for key, value in weights.items() if value.data_ptr() not in taken}
    names = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    assert left_out == {f"DAVEnet.batchnorm1.{name}" for name in names}


def test_own_weights_are_loaded_as_they_are():
    net, other = network(), MCN(config())
    load(other, net.state_dict())
    assert all(torch.equal(value, net.state_dict()[key]) for key, value in other.state_dict().items())


@pytest.mark.parametrize("key", ["GU_audio_text.fc_text.weight", "DAVEnet.conv9.weight", "recon_x.0.bias"])
def test_a_key_that_has_no_place_is_named(key):
    with pytest.raises(ValueError, match=key.replace(".", r"\.") + ": unknown"):
        load(MCN(config()), {**released(), key: torch.zeros(1)})


def test_a_key_that_is_missing_is_named():
    weights = released()
    del weights["recon_t.2.bias"]
    with pytest.raises(ValueError, match=r"decoders\.t\.2\.bias: missing"):
        load(MCN(config()), weights)


@pytest.mark.parametrize("key", ["projection_head.0.weight", "classification.weight", "classification2.weight"])
def test_a_variant_with_a_cluster_head_is_an_error_that_says_so(key):
    with pytest.raises(ValueError, match=f"cluster head.*{key}"):
        load(MCN(config()), {**released(), key: torch.zeros(1)})


def test_a_network_without_decoders_names_those_that_the_file_has():
    with pytest.raises(ValueError, match=r"decoders\.a\.0\.weight: unknown"):
        load(MCN(dataclasses.replace(config(), reconstruction=0)), released())
