"""What is AVLnet's own: it reads no words, its clips are found as they were trained, and its files are of three kinds.

Embeddings and losses are compared with the authors' in `recorded/avlnet.py`; what AVLnet does as MCN and Everything
at Once do stands in `test_narrated_stages.py`.
"""

from __future__ import annotations

from itertools import permutations

import pytest
import torch
import torch.nn.functional as F

from experiments.avlnet.checkpoints import NAMES
from tests.experiments.narrated_tiny import avlnet_stage, batch_of
from tests.experiments.recorded.avlnet import CASES, released, stage


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "query", "gallery"), [("AVLnet", "a", "v"), ("TriSum", "t", "av"), ("Fused", "at", "v")]
)
def test_what_is_measured_is_what_was_trained_among_all_clips_also_of_the_same_video(name, query, gallery):
    """Masked margin softmax of dot products, in which the length of an embedding counts."""
    made, batch = avlnet_stage(name, clips_per_video=4).eval(), batch_of(complete=True)
    embedding = made.predict_step(batch, 0)["embedding"]
    score_BB = embedding[query] @ embedding[gallery].T - 0.001 * torch.eye(len(batch["key"]))
    own_B = torch.arange(len(score_BB))
    expected = F.cross_entropy(score_BB, own_B) + F.cross_entropy(score_BB.T, own_B)
    torch.testing.assert_close(made.losses(batch)["loss"], expected)
    assert made.similarity == "dot"


def test_avlnet_needs_no_words_and_does_not_look_at_them():
    made, batch = avlnet_stage(text=None, modality="av"), batch_of()
    assert made.words is None and not any("text" in key or "word" in key for key in made.state_dict())
    other = {**batch, "text": batch["text"].flip(0), "text_length": batch["text_length"].flip(0)}
    without = {key: value for key, value in batch.items() if not key.startswith("text")}
    losses = [made.losses(x)["loss"] for x in (batch, without, other)]
    assert losses[0] == losses[1] == losses[2]


@pytest.mark.parametrize(("text", "other"), permutations(CASES, 2))
def test_a_file_of_another_kind_is_an_error_that_names_both(text, other):
    made = stage(text)
    for weights in (released(other), stage(other).net.state_dict()):
        with pytest.raises(ValueError, match=rf"{NAMES[other]}, but .* {NAMES[text]}$"):
            made.load_parent(weights)
