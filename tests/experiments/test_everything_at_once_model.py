from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.common.networks.davenet import DAVEnetConfig
from experiments.everything_at_once.model import EverythingAtOnce, EverythingAtOnceConfig
from tests.experiments.test_everything_at_once_heart import CLIPS, EVERYTHING, TINY, apart, embedded, inputs, tiny
from tests.experiments.test_everything_at_once_parity import GOLDEN

NET = tiny()
STRIDE = NET.audio_encoder.stride


def on_meta(**changes) -> EverythingAtOnce:
    with torch.device("meta"):
        return EverythingAtOnce(EverythingAtOnceConfig(**changes))


# --- tokens -------------------------------------------------------------------------------------------------------


@torch.no_grad()
@given(st.integers(1, 6), st.lists(st.integers(0, 24), min_size=1, max_size=4))
@settings(max_examples=30, deadline=None)
def test_a_token_of_sound_counts_where_one_of_its_frames_does(tokens, lengths):
    frames = tokens * STRIDE
    length_B = torch.tensor(lengths).clamp(max=frames)
    own = NET.tokens({"a": (torch.randn(len(lengths), frames, 8), length_B)})["a"]
    frame_BF = (torch.arange(frames) < length_B[:, None]).float()
    expected_BN = torch.nn.functional.max_pool1d(frame_BF[None], STRIDE)[0] > 0  # the authors' rule
    assert torch.equal(own.nonempty_B, expected_BN.any(1))
    expected_BN[~own.nonempty_B, 0] = True
    assert torch.equal(own.mask_BN, expected_BN)


@pytest.mark.parametrize(("frames", "tokens"), [(768, 12), (800, 13), (3072, 48), (4608, 72)])
def test_64_frames_of_sound_are_a_token(frames, tokens):
    net = on_meta()
    assert net.audio_encoder.stride == 64
    assert net.audio_encoder(torch.empty(2, frames, 40, device="meta")).shape == (2, tokens, 4096)


@torch.no_grad()
def test_kinds_of_features_count_alike_whatever_their_size():
    features, length = inputs()["v"]
    louder = torch.cat([1000 * features[..., :12], 0.01 * features[..., 12:]], dim=2)
    before, after = embedded(NET), embedded(NET, {"v": (louder, length)})
    assert apart(before["v"], after["v"]) < 1e-6
    mixed = torch.cat([1000 * features[..., :6], features[..., 6:]], dim=2)
    assert apart(before["v"], embedded(NET, {"v": (mixed, length)})["v"]) > 1e-2


@torch.no_grad()
@pytest.mark.parametrize("modality", ["a", "v", "t"])
def test_zeros_are_tokens_like_others_where_the_length_says_so(modality):
    values, length = inputs()[modality]
    own = NET.tokens({modality: (torch.zeros_like(values), length)})[modality]
    assert own.nonempty_B.all() and torch.equal(own.mask_BN, NET.tokens(inputs())[modality].mask_BN)
    assert not torch.equal(own.x_BND[0, 0], NET.masking_token)


# --- embeddings ---------------------------------------------------------------------------------------------------


@torch.no_grad()
@given(st.integers(0, 6), st.integers(0, 5), st.sampled_from(["v", "t", "vt", "av", "at", "avt"]))
@settings(max_examples=30, deadline=None)
def test_a_clip_s_embedding_is_that_of_the_clip_without_padding(moments, words, together):
    batch = inputs()
    lengths = {"a": 24, "v": moments, "t": words}
    padded = {m: (x[:1], torch.tensor([lengths[m]])) for m, (x, _) in batch.items()}
    cut = {m: (x[:1, : max(lengths[m], 1)], torch.tensor([lengths[m]])) for m, (x, _) in batch.items()}
    one, other = (NET.embed(NET.tokens(values), [together])[together] for values in (padded, cut))
    assert apart(one, other) < 1e-6


@torch.no_grad()
def test_embeddings_of_one_have_length_1_and_those_of_several_are_shorter():
    for together, embedding in embedded(NET).items():
        norm = embedding.norm(dim=1)
        assert embedding.shape == (CLIPS, 24) and (norm < 1 + 1e-6).all()
        assert ((norm - 1).abs() < 1e-6).all() == (len(together) == 1)


@torch.no_grad()
def test_modalities_that_are_not_asked_for_need_not_be_there():
    batch = inputs()
    found = NET.embed(NET.tokens({m: batch[m] for m in "vt"}), ["t", "vt"])
    everything = embedded(NET)
    assert all(torch.equal(embedding, everything[together]) for together, embedding in found.items())


@torch.no_grad()
def test_embeddings_are_float32_under_autocast():
    with torch.autocast("cpu", torch.bfloat16):
        found = embedded(NET)
    for together, embedding in embedded(NET).items():
        assert found[together].dtype == torch.float32 and 0 < apart(found[together], embedding) < 0.1


# --- sizes --------------------------------------------------------------------------------------------------------


def test_parameters_are_those_of_the_authors_class_but_for_the_unused():
    full = GOLDEN["full_size"]
    assert full["parameters"] == 689_371_138 and full["unused"] == 2 * 4096 + 2
    assert sum(p.numel() for p in on_meta().parameters()) == full["parameters"] - full["unused"] == 689_362_944


@pytest.mark.parametrize("empty", [False, True])
@pytest.mark.parametrize("depth", [0, 2])
def test_a_gradient_reaches_every_parameter(depth, empty):
    net, batch = tiny(depth), inputs()
    for _, length in batch.values():
        length[1] *= not empty
    direction = torch.randn(24)
    sum((embedding @ direction).sum() for embedding in net.embed(net.tokens(batch), EVERYTHING).values()).backward()
    idle = {name for name, p in net.named_parameters() if not p.grad.any()}  # even then it is there, for DDP's sake
    assert idle == (set() if empty else {"masking_token"})


def test_other_features_and_the_smaller_encoder_of_sound_need_only_other_settings():
    clip = on_meta(video_dims=[512], word_dim=512)
    tokens = clip.tokens(
        {m: (torch.empty(2, 3, 512, device="meta"), torch.ones(2, dtype=int, device="meta")) for m in "vt"}
    )
    assert clip.embed(tokens, ["vt"])["vt"].shape == (2, 6144)
    assert on_meta(audio=DAVEnetConfig()).audio_encoder.dim == 1024
    with pytest.raises(RuntimeError):
        clip.tokens({"v": (torch.empty(2, 3, 1024, device="meta"), torch.ones(2, dtype=int, device="meta"))})


def test_blocks_start_as_those_of_vit_and_the_rest_as_pytorch_has_it():
    torch.manual_seed(0)
    net = EverythingAtOnce(replace(TINY, dim=128))
    for linear in (net.blocks[0].attn.qkv, net.blocks[0].attn.proj, net.blocks[0].mlp.fc1, net.blocks[0].mlp.fc2):
        assert linear.weight.std().item() == pytest.approx(0.02, rel=0.05) and not linear.bias.any()
    assert net.masking_token.std().item() == pytest.approx(0.02, rel=0.2)
    gate = net.projection["v"].gate.fc
    assert gate.bias.any() and gate.weight.std().item() == pytest.approx((3 * 24) ** -0.5, rel=0.1)
