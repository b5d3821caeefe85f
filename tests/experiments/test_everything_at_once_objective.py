from __future__ import annotations

import math

import pytest
import torch
import torch.distributed as dist

from bench.contract.ranks import RANKS, on_two_ranks
from experiments.everything_at_once.objective import PairWeights, combinatorial_loss, embeddings_of
from tests.experiments.test_everything_at_once_parity import inputs, network

PAIRS = [("t", "v"), ("t", "a"), ("v", "a"), ("t", "av"), ("v", "at"), ("a", "vt")]
CLIPS = 6
EMPTY = {"t": [1, 4], "v": [], "a": [2]}
"""Clips without the modality."""


def batch():
    generator = torch.Generator().manual_seed(0)
    embeddings = {
        side: torch.randn(CLIPS, 5, generator=generator, requires_grad=True) for pair in PAIRS for side in pair
    }
    return embeddings, {m: torch.tensor([clip not in clips for clip in range(CLIPS)]) for m, clips in EMPTY.items()}


def written_out(x, y, clips, tau):
    """Both directions of InfoNCE over some of the clips, term by term."""
    total = 0.0
    for i in clips:
        for one, other in ((x, y), (y, x)):
            scores = {j: math.exp(torch.cosine_similarity(one[i], other[j], dim=0).item() / tau) for j in clips}
            total -= math.log(scores[i] / sum(scores.values()))
    return total / len(clips)


@pytest.mark.parametrize("tau", [0.05, 0.5])
def test_every_pair_is_compared_among_the_clips_that_have_its_modalities(tau):
    embeddings, nonempty = batch()
    terms = combinatorial_loss(embeddings, nonempty, PairWeights(), tau)
    assert terms.keys() == {f"{x}_{y}" for x, y in PAIRS} | {"loss"}
    for x, y in PAIRS:
        clips = [clip for clip in range(CLIPS) if not any(clip in EMPTY[modality] for modality in x + y)]
        expected = written_out(embeddings[x], embeddings[y], clips, tau)
        assert terms[f"{x}_{y}"].item() == pytest.approx(expected, rel=1e-4)


def test_the_loss_is_the_weighted_mean_of_the_pairs():
    embeddings, nonempty = batch()
    weights = PairWeights(t_v=3, t_a=0, v_a=0.5, t_av=2, v_at=0, a_vt=1)
    terms = combinatorial_loss(embeddings, nonempty, weights, 0.05)
    assert terms.keys() == {"t_v", "v_a", "t_av", "a_vt", "loss"}  # what does not count is not computed
    expected = (3 * terms["t_v"] + 0.5 * terms["v_a"] + 2 * terms["t_av"] + terms["a_vt"]) / 6.5
    torch.testing.assert_close(terms["loss"], expected)


@pytest.mark.parametrize(
    ("weights", "needed"),
    [
        (PairWeights(), {"a", "v", "t", "av", "at", "vt"}),
        (PairWeights(t_av=0, v_at=0, a_vt=0), {"a", "v", "t"}),
        (PairWeights(1, 0, 0, 0, 0, 0), {"t", "v"}),
        (PairWeights(0, 0, 0, 1, 0, 0), {"t", "av"}),
    ],
)
def test_only_what_the_pairs_compare_must_be_embedded(weights, needed):
    names = embeddings_of(weights)
    assert set(names) == needed and len(names) == len(needed)
    embeddings, nonempty = batch()
    combinatorial_loss({name: embeddings[name] for name in names}, nonempty, weights, 0.05)


def test_without_any_pair_there_is_nothing_to_minimise():
    for function in (embeddings_of, lambda weights: combinatorial_loss(*batch(), weights, 0.05)):
        with pytest.raises(ValueError, match="t_v, t_a, v_a, t_av, v_at, a_vt"):
            function(PairWeights(0, 0, 0, 0, 0, 0))


def test_a_batch_in_which_nothing_is_said_has_a_loss_and_gradients_all_the_same():
    embeddings, nonempty = batch()
    terms = combinatorial_loss(embeddings, nonempty | {"t": torch.zeros(CLIPS, dtype=torch.bool)}, PairWeights(), 0.05)
    assert terms["t_v"] == 0 and terms["a_vt"] == 0 and terms["v_a"] > 0
    terms["loss"].backward()
    assert all(embedding.grad.isfinite().all() for embedding in embeddings.values())


# --- two processes ------------------------------------------------------------------------------------------------

LENGTHS = {"t": [7, 3, 2, 0, 5, 0], "v": [5, 2, 4, 1, 3, 2], "a": [256, 0, 200, 64, 65, 100]}


def loss_and_gradients(clips):
    """Of the whole network, whose batch norms are frozen as in fine-tuning."""
    net = network()
    tokens = net.tokens({m: (x[clips], torch.tensor(LENGTHS[m])[clips]) for m, (x, _) in inputs().items()})
    weights = PairWeights()
    nonempty = {modality: own.nonempty_B for modality, own in tokens.items()}
    loss = combinatorial_loss(net.embed(tokens, embeddings_of(weights)), nonempty, weights, 0.5)["loss"]
    loss.backward()
    return {"loss": loss.detach(), **{name: p.grad for name, p in net.named_parameters()}}


def on_a_rank(rank):
    """Two of three captions of rank 1 are empty, and none of rank 0's."""
    results = loss_and_gradients(slice(rank * CLIPS // RANKS, (rank + 1) * CLIPS // RANKS))
    for value in results.values():
        dist.all_reduce(value)
    return {name: value / RANKS for name, value in results.items()}


def test_two_processes_give_the_loss_and_gradients_of_one_with_the_whole_batch(tmp_path):
    ours, expected = on_two_ranks(on_a_rank, tmp_path), loss_and_gradients(slice(None))
    # The masking token's is zero: a clip is compared by no embedding that its masking token has a part in.
    assert {name for name, value in expected.items() if not value.any()} == {"masking_token"}
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)
