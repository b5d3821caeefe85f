"""The ideas without which it would not be Everything at Once; each test fails when its idea is broken."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from experiments.common.networks.davenet import DAVEnetConfig
from experiments.everything_at_once.model import EverythingAtOnce, EverythingAtOnceConfig, Tokens
from experiments.everything_at_once.objective import PairWeights, combinatorial_loss, embeddings_of

TINY = EverythingAtOnceConfig(
    dim=32, heads=4, projection=24, audio=DAVEnetConfig(8, 8, [8, 12], [1, 1]), video_dims=[12, 8], word_dim=10
)
CLIPS = 5
EVERYTHING = ["a", "v", "t", "av", "at", "vt"]


def tiny(depth: int = 1) -> EverythingAtOnce:
    """A small network, 4 frames of sound a token, with its biases moved from where they start."""
    torch.manual_seed(0)
    net = EverythingAtOnce(replace(TINY, depth=depth))
    for parameter in net.parameters():
        if parameter.ndim == 1:
            torch.nn.init.normal_(parameter, 1.0, 0.2)
        else:
            torch.nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
    return net.eval()


def inputs(moments: int = 6) -> dict[str, tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    values = {"a": (24, 8), "v": (moments, 20), "t": (5, 10)}
    lengths = {"a": [24, 20, 9, 4, 13], "v": [moments, 4, 3, 2, 1], "t": [5, 1, 2, 4, 3]}
    return {m: (torch.randn(CLIPS, *values[m], generator=generator), torch.tensor(lengths[m])) for m in values}


def embedded(net: EverythingAtOnce, changed: dict[str, tuple[Tensor, Tensor]] | None = None) -> dict[str, Tensor]:
    return net.embed(net.tokens({**inputs(), **(changed or {})}), [*EVERYTHING, "avt"])


def apart(one: Tensor, other: Tensor) -> float:
    return (one - other).abs().max().item()


# --- 1: what is fused has seen each other -------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("together", ["av", "at", "vt", "avt"])
def test_a_fused_embedding_is_no_sum_of_single_ones_but_for_a_network_without_blocks(together):
    for depth, differs in ((0, False), (1, True)):
        found = embedded(tiny(depth))
        single = torch.stack([found[modality] for modality in together]).mean(0)
        assert (apart(found[together], single) > 1e-2) == differs
        assert torch.equal(found[together], single) != differs


# --- 2: what is alone has seen nothing else -----------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("changed", ["a", "v", "t"])
def test_only_embeddings_with_a_modality_depend_on_it(changed):
    net, (values, length) = tiny(), inputs()[changed]
    before, after = embedded(net), embedded(net, {changed: (values.flip(0), length)})
    for together, embedding in before.items():
        if changed in together:
            assert apart(embedding, after[together]) > 1e-2
        else:
            assert torch.equal(embedding, after[together])


# --- 3: no token says where it stands nor what it is of -----------------------------------------------------------


@torch.no_grad()
def test_the_order_of_moments_and_words_does_not_matter():
    net = tiny()
    for modality in ("v", "t"):
        values, length = inputs()[modality]
        back = values.clone()
        for clip, steps in enumerate(length):
            back[clip, :steps] = values[clip, :steps].flip(0)
        before, after = embedded(net), embedded(net, {modality: (back, length)})
        assert all(apart(embedding, after[together]) < 1e-6 for together, embedding in before.items())


@torch.no_grad()
def test_the_order_of_modalities_does_not_matter():
    net = tiny()
    found = net.embed(net.tokens(inputs()), ["avt", "tva", "vat"])
    assert apart(found["avt"], found["tva"]) < 1e-6 and apart(found["avt"], found["vat"]) < 1e-6


@torch.no_grad()
def test_one_network_takes_12_and_72_moments():
    net = tiny()
    for moments in (12, 72):
        found = net.embed(net.tokens(inputs(moments)), ["v", "av"])
        assert all(embedding.shape == (CLIPS, 24) for embedding in found.values())


# --- 4: one transformer for all -----------------------------------------------------------------------------------


def test_all_six_combinations_go_through_the_very_same_blocks():
    net, seen = tiny(depth=2), []
    for block in net.blocks:
        block.register_forward_pre_hook(lambda _, args: seen.append(args[0].shape[1]))
    net.embed(net.tokens(inputs()), EVERYTHING)
    assert seen == [n for n in (6, 6, 5, 12, 11, 11) for _ in range(2)]


# --- 5: six terms, text and video ten times heavier ---------------------------------------------------------------


def losses(net: EverythingAtOnce, tokens: dict[str, Tokens], weights: PairWeights):
    embeddings = net.embed(tokens, EVERYTHING)
    for embedding in embeddings.values():
        embedding.retain_grad()
    nonempty = {modality: own.nonempty_B for modality, own in tokens.items()}
    return embeddings, combinatorial_loss(embeddings, nonempty, weights, 0.05)


def test_the_loss_is_the_mean_of_six_in_which_text_and_video_count_ten_times():
    net = tiny()
    embeddings, terms = losses(net, net.tokens(inputs()), PairWeights())
    six = dict(terms)
    loss = six.pop("loss")
    assert len(six) == 6
    expected = (six["t_v"] + 0.1 * sum(value for name, value in six.items() if name != "t_v")) / 1.5
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert all(embedding.grad.any() for embedding in embeddings.values())


def test_without_the_terms_of_two_against_one_nothing_is_learned_from_joint_passes():
    net, weights = tiny(), PairWeights(t_av=0, v_at=0, a_vt=0)
    embeddings, terms = losses(net, net.tokens(inputs()), weights)
    terms["loss"].backward()
    assert {together for together, embedding in embeddings.items() if embedding.grad is not None} == {"a", "v", "t"}
    assert set(embeddings_of(weights)) == {"a", "v", "t"}  # so that they need not even be run


# --- 6: what is not there is compared with nothing ----------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize(("modality", "pairs"), [("t", ["v_a"]), ("a", ["t_v"]), ("v", ["t_a"])])
def test_a_clip_without_a_modality_is_left_out_of_the_terms_of_it_alone(modality, pairs):
    net, clip = tiny(), 2
    values, length = inputs()[modality]
    length[clip] = 0
    kept = [other for other in range(CLIPS) if other != clip]

    def terms(batch):
        tokens = net.tokens(batch)
        nonempty = {m: own.nonempty_B for m, own in tokens.items()}
        return combinatorial_loss(net.embed(tokens, EVERYTHING), nonempty, PairWeights(), 0.05)

    batch = {**inputs(), modality: (values, length)}
    whole, without = terms(batch), terms({m: (x[kept], n[kept]) for m, (x, n) in batch.items()})
    for name in whole.keys() - {"loss"}:
        assert (abs(whole[name] - without[name]) > 1e-3) == (name in pairs)


@torch.no_grad()
@pytest.mark.parametrize("modality", ["a", "v", "t"])
def test_in_the_place_of_a_missing_modality_stands_the_masking_token(modality):
    net, (values, length) = tiny(), inputs()[modality]
    length[2] = 0
    before, other = (embedded(net, {modality: (x, length)}) for x in (values, -values))
    for together in (modality, "avt"):
        assert torch.equal(before[together][2], other[together][2])
    net.masking_token.neg_()
    after = embedded(net, {modality: (values, length)})
    changed = {together for together in before if apart(before[together][2], after[together][2]) > 1e-2}
    assert changed == {together for together in before if modality in together}
    kept = [0, 1, 3, 4]
    assert all(apart(before[together][kept], after[together][kept]) < 1e-6 for together in before)


# --- 8: padding is neither attended to nor averaged ---------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("modality", ["v", "t"])
def test_what_stands_after_the_end_changes_nothing(modality):
    net, (values, length) = tiny(), inputs()[modality]
    beyond = torch.arange(values.shape[1]) >= length[:, None]
    garbage = torch.where(beyond[:, :, None], 50 * torch.randn_like(values), values)
    before, after = embedded(net), embedded(net, {modality: (garbage, length)})
    assert all(apart(embedding, after[together]) < 1e-6 for together, embedding in before.items())


@torch.no_grad()
@pytest.mark.parametrize("modality", ["a", "v", "t"])
def test_tokens_that_do_not_count_change_nothing(modality):
    net = tiny()
    tokens = net.tokens(inputs())
    own = tokens[modality]
    assert not own.mask_BN.all()
    garbage = torch.where(own.mask_BN[:, :, None], own.x_BND, 50 * torch.randn_like(own.x_BND))
    before = net.embed(tokens, EVERYTHING)
    after = net.embed({**tokens, modality: own._replace(x_BND=garbage)}, EVERYTHING)
    assert all(apart(embedding, after[together]) < 1e-6 for together, embedding in before.items())
