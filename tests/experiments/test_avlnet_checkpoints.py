from __future__ import annotations

from itertools import permutations

import pytest
import torch

from experiments.avlnet.checkpoints import NAMES, from_official, is_official, load, variant
from tests.experiments.test_avlnet_parity import CASES, network, released, small

UNUSED = {f"DAVEnet.batchnorm1.{x}" for x in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")}
GATED = {f"GU_audio.{layer}.{x}" for layer in ("fc", "cg.fc") for x in ("weight", "bias")}


@pytest.mark.parametrize("text", CASES)
def test_released_files_and_their_variants_are_told_by_their_keys_and_fill_everything(text):
    weights, ours = released(text), small(text).state_dict()
    assert is_official(weights) and variant(weights) == text
    assert not is_official(ours) and variant(ours) == text
    renamed = from_official(weights)
    assert {key: value.shape for key, value in renamed.items()} == {key: value.shape for key, value in ours.items()}


@pytest.mark.parametrize("text", CASES)
def test_only_what_the_authors_class_never_uses_is_left_out(text):
    weights = released(text)
    taken = {value.data_ptr() for value in from_official(weights).values()}
    left_out = {key for key, value in weights.items() if value.data_ptr() not in taken}
    assert left_out == (UNUSED | GATED if text == "fused" else UNUSED)


def test_the_first_convolution_has_the_mel_bins_where_theirs_has_them():
    theirs = released("none")["DAVEnet.conv1.weight"]
    ours = small("none")
    load(ours, released("none"))
    assert theirs.shape == (8, 1, 40, 1)
    assert torch.equal(ours.audio_branch.davenet.conv1.weight[3, 7], theirs[3, 0, 7])


@pytest.mark.parametrize("text", CASES)
def test_own_weights_and_those_saved_out_of_data_parallel_are_loaded_too(text):
    expected = network(text, "eval").state_dict()
    for weights in (expected, {f"module.{key}": value for key, value in released(text).items()}):
        net = small(text)
        load(net, weights)
        assert all(torch.equal(value, expected[key]) for key, value in net.state_dict().items())


@pytest.mark.parametrize("text", CASES)
@pytest.mark.parametrize(
    "key",
    [
        "DAVEnet.layer5.0.conv1.weight",
        "DAVEnet.layer1.0.conv3.weight",
        "DAVEnet.stages.0.0.conv1.weight",
        "DAVEnet.batchnorm2.weight",
        "DAVEnet_projection2.weight",
        "GU_speech.fc.weight",
    ],
)
def test_a_key_that_has_no_place_is_named(text, key):
    net, weights = small(text), released(text)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with pytest.raises(ValueError, match=rf"{key.split('.')[0]}.*unknown|stages\.4\.0\.conv1\.weight: unknown"):
        load(net, {**weights, key: torch.zeros(1)})
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("DAVEnet.layer2.0.downsample.1.running_var", r"audio_branch\.davenet\.stages\.1\.0\.shortcut\.1\.running_var"),
        ("GU_audio.cg.fc.bias", r"audio_branch\.gated\.gate\.fc\.bias"),
        ("text_pooling_caption.fc.weight", r"text_branch\.pool\.fc\.weight"),
    ],
)
def test_a_key_that_is_missing_is_named(key, name):
    weights = released("tri")
    del weights[key]
    with pytest.raises(ValueError, match=rf"{name}: missing"):
        load(small("tri"), weights)


def test_a_network_of_another_size_is_an_error():
    weights = released("none") | {"DAVEnet_projection.bias": torch.zeros(21)}
    with pytest.raises(ValueError, match=r"audio_branch\.projection\.bias: shape \[21\], not \[20\]"):
        load(small("none"), weights)


@pytest.mark.parametrize(("text", "other"), permutations(CASES, 2))
def test_a_file_of_another_variant_is_an_error_that_names_both(text, other):
    for weights in (released(other), small(other).state_dict()):
        with pytest.raises(ValueError, match=rf"{NAMES[other]}, but .* {NAMES[text]}$"):
            load(small(text), weights)
