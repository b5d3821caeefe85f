"""What is Everything at Once's own beyond its embeddings and losses, which `recorded/everything_at_once.py` compares
with the authors', and what it does as AVLnet and MCN do (`test_narrated_stages.py`)."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from experiments.everything_at_once.checkpoints import load
from experiments.everything_at_once.model import EverythingAtOnce, EverythingAtOnceConfig
from experiments.everything_at_once.objective import PairWeights, combinatorial_loss, embeddings_of
from tests.experiments.narrated_tiny import EVERYTHING, batch_of, everything_stage
from tests.experiments.recorded.everything_at_once import GOLDEN


@torch.no_grad()
@pytest.mark.parametrize("depth", [0, 1])
def test_late_fusion_is_the_mean_of_two_and_what_a_network_without_blocks_does(depth):
    model, batch = replace(EVERYTHING, depth=depth), batch_of(complete=True)
    late = everything_stage("LateFusion", model).eval().predict_step(batch, 0)["embedding"]
    fused = everything_stage("Train", model).eval().predict_step(batch, 0)["embedding"]
    for name, embedding in late.items():
        torch.testing.assert_close(embedding, torch.stack([fused[modality] for modality in name]).mean(0))
        apart = (embedding - fused[name]).abs().max()
        assert apart > 1e-3 if depth and len(name) == 2 else apart < 1e-6


@torch.no_grad()
@pytest.mark.parametrize("modality", "avt")
def test_zeros_are_tokens_like_others_where_the_length_says_so(modality):
    net = everything_stage().net.eval()
    values = {"a": torch.zeros(2, 16, 40), "v": torch.zeros(2, 3, 20), "t": torch.zeros(2, 4, 10)}[modality]
    own = net.tokens({modality: (values, torch.tensor([values.shape[1], 0]))})[modality]
    assert own.nonempty_B.tolist() == [True, False] and own.mask_BN.sum(1).tolist() == [own.mask_BN.shape[1], 1]
    assert torch.equal(own.x_BND[1, 0], net.masking_token) and not torch.equal(own.x_BND[0, 0], net.masking_token)


@torch.no_grad()
def test_embeddings_are_float32_under_autocast():
    stage, batch = everything_stage().eval(), batch_of(complete=True)
    with torch.autocast("cpu", torch.bfloat16):
        found = stage.predict_step(batch, 0)["embedding"]
    for together, embedding in stage.predict_step(batch, 0)["embedding"].items():
        apart = (found[together] - embedding).abs().max()
        assert found[together].dtype == torch.float32 and 0 < apart < 0.1


def test_blocks_start_as_those_of_vit_and_the_rest_as_pytorch_has_it():
    torch.manual_seed(0)
    net = EverythingAtOnce(replace(EVERYTHING, dim=128))
    for linear in (net.blocks[0].attn.qkv, net.blocks[0].attn.proj, net.blocks[0].mlp.fc1, net.blocks[0].mlp.fc2):
        assert linear.weight.std().item() == pytest.approx(0.02, rel=0.05) and not linear.bias.any()
    assert net.masking_token.std().item() == pytest.approx(0.02, rel=0.2)
    gate = net.projection["v"].gate.fc
    assert gate.bias.any() and gate.weight.std().item() == pytest.approx((3 * EVERYTHING.projection) ** -0.5, rel=0.1)


# --- pairs --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("weights", "needed"),
    [
        (PairWeights(), ["a", "at", "av", "t", "v", "vt"]),
        (PairWeights(t_av=0, v_at=0, a_vt=0), ["a", "t", "v"]),
        (PairWeights(0, 0, 0, 1, 0, 0), ["av", "t"]),
    ],
)
def test_only_what_the_pairs_that_count_compare_goes_through_the_blocks(weights, needed):
    assert sorted(embeddings_of(weights)) == needed


def test_without_any_pair_there_is_nothing_to_minimise():
    none = PairWeights(0, 0, 0, 0, 0, 0)
    for function in (embeddings_of, lambda weights: combinatorial_loss({}, {}, weights, 0.05)):
        with pytest.raises(ValueError, match="t_v, t_a, v_a, t_av, v_at, a_vt"):
            function(none)


# --- the released files -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "theirs"),
    [({}, {}), ({"video_dims": [1024]}, {"video_token_proj.fc.weight": (4096, 1024)})],  # the second one's are S3D's
)
def test_a_released_file_fills_the_paper_s_network(changes, theirs):
    shapes = GOLDEN["full_size"]["keys"] | theirs
    weights = {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}
    with torch.device("meta"):
        net = EverythingAtOnce(EverythingAtOnceConfig(**changes))
    load(net, weights)
    assert len(weights) == 188
    with pytest.raises(ValueError, match=r"token_projection\.v\.0\.fc\.weight: shape"):
        load(net, weights | {"video_token_proj.fc.weight": torch.empty(4096, 512, device="meta")})
