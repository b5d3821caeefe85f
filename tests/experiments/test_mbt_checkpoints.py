"""MBT from an image ViT and from the authors' files, beyond what the contract compares (`recorded/mbt.py`)."""

from __future__ import annotations

import pytest
import torch

from experiments.common.weights import load_strict
from experiments.mbt.checkpoints import from_scenic, load
from tests.experiments.recorded.mbt import START, image_vit, network, released, small, started


def test_an_encoder_of_both_streams_starts_from_the_image_vit_as_well():
    assert (started(share_encoder=True).blocks["shared"][1].norm1.weight == 2).all()


def test_positions_of_pictures_are_those_of_the_image_at_each_time():
    positions = started().tokens["v"].positions
    assert torch.equal(positions[1:197], positions[197:])


def test_bottlenecks_that_make_no_grid_are_an_error_as_in_the_authors_code():
    assert START["bottleneck_5"] == "AssertionError"
    with pytest.raises(ValueError, match="floor.sqrt.B.* rows, which 5 has not"):
        started(bottlenecks=5)


def test_what_an_image_vit_does_not_have_or_lacks_is_named():
    weights = {key: value for key, value in image_vit().items() if key != "norm.bias"}
    with pytest.raises(ValueError, match=r"norm.bias: missing"):
        load(small(), weights)
    del weights["pos_embed"]
    with pytest.raises(ValueError, match=r"pos_embed: missing(.|\n)*fc_norm.weight: unknown"):
        load(small(), weights | {"fc_norm.weight": torch.ones(8)})


def test_a_scenic_checkpoint_of_arrays_of_both_modalities_starts_the_model_of_one():
    model, both = network("audio"), network("bottleneck_2").state_dict()
    arrays = {key: value.numpy() for key, value in released("bottleneck_2").items()}
    load_strict(model, from_scenic(arrays, model), unused=("tokens.v", "blocks.v"))
    assert all(torch.equal(value, both[key]) for key, value in model.state_dict().items())


def test_a_query_without_its_key_and_blocks_of_another_kind_are_named():
    model, weights = network("bottleneck_2"), released("bottleneck_2")
    lone = "Transformer/encoderblock_1_spectrogram/MultiHeadDotProductAttention_0/key/kernel"
    wrong = {key: value for key, value in weights.items() if key != lone} | {"pre_logits/kernel": torch.ones(2)}
    with pytest.raises(ValueError, match=r"pre_logits/kernel: unknown(.|\n)*blocks.a.1.attn.k.weight: missing"):
        load(model, wrong)
    with pytest.raises(ValueError, match="blocks.a.0.norm1.weight: missing"):  # theirs has shared blocks
        load(model, released("bottleneck_2_shared"))
