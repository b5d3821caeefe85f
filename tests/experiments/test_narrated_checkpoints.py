"""Whose word vectors go with the weights of AVLnet, MCN and Everything at Once.

How their trainers save them stands in `tests/bench/test_weights.py`; what is in the authors' files, in `recorded/`.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.experiments.narrated_tiny import tiny, word2vec


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
