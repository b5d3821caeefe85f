"""The authors' weights of AVLnet, MCN and Everything at Once in our stages, and whose word vectors go with them.

How their trainers save them stands in `tests/bench/test_weights.py`.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch

from experiments.avlnet import checkpoints as avlnet_checkpoints
from experiments.everything_at_once import checkpoints as everything_checkpoints
from experiments.mcn import checkpoints as mcn_checkpoints
from tests.experiments import test_avlnet_parity as avlnet
from tests.experiments import test_everything_at_once_parity as everything
from tests.experiments import test_mcn_parity as mcn
from tests.experiments.narrated_tiny import tiny, word2vec

RELEASED = {
    **{f"avlnet {text}": (avlnet_checkpoints, partial(avlnet.stage, text), partial(avlnet.released, text))
       for text in avlnet.CASES},
    "mcn": (mcn_checkpoints, mcn.stage, mcn.released),
    "everything_at_once": (everything_checkpoints, everything.stage, everything.released),
}  # fmt: skip
UNUSED = {
    "avlnet fused": ("DAVEnet.batchnorm1.", "GU_audio."),
    "everything_at_once": ("davenet.batchnorm1.", "fusion.norm."),
}
"""What the authors' class never uses, where it is more than one batch norm."""


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("name", RELEASED)
def test_released_weights_out_of_data_parallel_or_not_fill_everything_and_only_what_is_never_used_is_left_out(
    name, prefix
):
    code, stage, released = RELEASED[name]
    made, weights = stage(), {key.removeprefix("module."): value for key, value in released().items()}
    expected = {key: value.clone() for key, value in made.state_dict().items()}
    for value in made.state_dict().values():
        value.zero_()
    made.load_parent({prefix + key: value for key, value in weights.items()})
    assert all(torch.equal(value, expected[key]) for key, value in made.state_dict().items())
    taken = {value.data_ptr() for value in code.from_official(weights).values()}
    unused = UNUSED.get(name, ("DAVEnet.batchnorm1.",))
    left_out = {key for key, value in weights.items() if value.data_ptr() not in taken}
    assert left_out == {key for key in weights if key.startswith(unused)}


@pytest.mark.parametrize(
    ("name", "strange"),
    [
        ("avlnet none", "GU_speech.fc.weight"),
        ("avlnet tri", "DAVEnet.layer1.0.conv3.weight"),
        ("avlnet tri", "DAVEnet.stages.0.0.conv1.weight"),
        ("avlnet fused", "DAVEnet_projection2.weight"),
        ("avlnet fused", "DAVEnet.batchnorm2.weight"),
        ("mcn", "GU_audio_text.fc_text.weight"),
        ("mcn", "recon_x.0.bias"),
        ("everything_at_once", "fusion.cls_token"),
        ("everything_at_once", "video_pos_embed"),
        ("everything_at_once", "proj.fc.weight"),
    ],
)
def test_a_key_of_theirs_that_has_no_place_is_named(name, strange):
    _, stage, released = RELEASED[name]
    with pytest.raises(ValueError, match=strange.replace(".", r"\.") + ": unknown"):
        stage().load_parent({**released(), strange: torch.zeros(1)})


@pytest.mark.parametrize(
    ("name", "theirs", "ours"),
    [
        ("avlnet tri", "DAVEnet.layer2.0.downsample.1.running_var", "davenet.stages.1.0.shortcut.1.running_var"),
        ("avlnet tri", "text_pooling_caption.fc.weight", "text_branch.pool.fc.weight"),
        ("mcn", "recon_t.2.bias", "decoders.t.2.bias"),
        ("everything_at_once", "module.fusion.blocks.1.attn.qkv.weight", "blocks.1.attn.qkv.weight"),
        ("everything_at_once", "module.text_norm_layer.bias", "token_projection.t.1.bias"),
    ],
)
def test_a_weight_that_is_missing_of_theirs_is_named_as_ours(name, theirs, ours):
    _, stage, released = RELEASED[name]
    weights = released()
    del weights[theirs]
    with pytest.raises(ValueError, match=ours.replace(".", r"\.") + ": missing"):
        stage().load_parent(weights)


# --- words --------------------------------------------------------------------------------------------------------


def test_learned_words_have_no_place_in_a_stage_with_word2vec_s_and_the_other_way_round(tmp_path):
    learned = tiny("avlnet Tri")
    frozen = type(learned)(replace(learned.spec, text=word2vec(tmp_path)))
    vectors_BLD = frozen.word_vectors({"text": torch.tensor([[2, 4, 0]])})
    assert vectors_BLD[0, :, :2].tolist() == [[2.0, 3.0], [4.0, 5.0], [0.0, 0.0]]
    assert vectors_BLD.shape[2] == frozen.spec.model.word_dim
    with pytest.raises(ValueError, match=r"learned\.weight: unknown"):
        frozen.load_parent(learned.state_dict())
    with pytest.raises(ValueError, match=r"learned\.weight: missing"):
        learned.load_parent(frozen.state_dict())


@pytest.mark.parametrize("name", ["avlnet Tri", "mcn Train", "everything_at_once Train"])
def test_a_stage_that_reads_words_says_which_setting_names_its_tokenizer(name):
    with pytest.raises(ValueError, match=r"data\.inputs\.text"):
        tiny(name, text=None)
