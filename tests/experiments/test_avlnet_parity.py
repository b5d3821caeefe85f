"""AVLnet against the authors' classes, by numbers recorded from them (`tests/golden/avlnet.json`)."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from experiments.avlnet import method
from experiments.avlnet.model import AVLnetConfig
from experiments.common.losses.contrastive import masked_margin_softmax
from experiments.common.networks.branches import clip_vector
from experiments.common.networks.davenet import DAVEnet, DAVEnetConfig
from tests.experiments import narrated_golden
from tests.experiments.narrated_golden import WORD2VEC, close
from tests.experiments.narrated_tiny import spec

RECORDED = narrated_golden.Recording("avlnet", vectors=0.4, variances=0.4)
GOLDEN = RECORDED.values
CONFIG, CASES = GOLDEN["config"], GOLDEN["cases"]
STAGES = {"none": method.AVLnet, "tri": method.Tri, "fused": method.Fused}
MODALITIES = {"audio": "a", "video": "v", "text": "t", "audio_text": "at"}
NETWORK = AVLnetConfig(
    CONFIG["dim"], CONFIG["dim"], DAVEnetConfig(first=CONFIG["widths"][0], widths=CONFIG["widths"][1:]),
    CONFIG["video_dims"], CONFIG["word_dim"],
)  # fmt: skip


def released(text: str) -> dict[str, Tensor]:
    """The recorded run's weights as the authors' file would hold them."""
    return RECORDED.weights(GOLDEN["davenet"]["keys"] | CASES[text]["keys"])


def stage(text: str, mode: str = "eval") -> method.AVLnet:
    """With the recorded run's weights; it compares all clips, as theirs does."""
    made = STAGES[text](spec(NETWORK, method.Options(), text=WORD2VEC, modality="av" if text == "none" else "avt"))
    made.load_parent(released(text))
    made.present = lambda *_: None
    return made.train(mode == "train")


def davenet(made: method.AVLnet) -> DAVEnet:
    return next(module for module in made.modules() if isinstance(module, DAVEnet))


def inputs() -> dict[str, Tensor]:
    """Four clips: sound of less and less length; one moment (a pooled vector), 4, 12 and none; 5, 3, 0 and 5 words."""
    words = 2 * RECORDED.drawn("words", 4, 5, CONFIG["word_dim"])
    words[1, 3:] = words[2] = 0
    kinds = zip(("2d", "3d"), CONFIG["video_dims"], strict=True)
    whole = torch.cat([RECORDED.drawn(f"features {kind}", 12, dim) for kind, dim in kinds], 1)
    moments = nn.utils.rnn.pad_sequence([whole[start : end + 1] for start, end in CONFIG["clips"]], batch_first=True)
    return {"a": 4 * RECORDED.drawn("audio", 4, 250, 40), "v": moments, "t": words}


LENGTHS = {"a": CONFIG["lengths"], "v": [1, 4, 12, 0], "t": [5, 3, 0, 5]}


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("text", CASES)
def test_embeddings_the_loss_and_what_reaches_the_first_convolution_are_those_of_the_authors_classes(text, mode):
    made, golden = stage(text, mode), CASES[text][mode]
    batch = narrated_golden.batch_of(made, inputs(), LENGTHS)
    loss = made.losses(batch)["loss"]
    loss.backward()
    assert close(loss, golden["loss"])
    assert close(davenet(made).conv1.weight.grad[:, ::8, 0], golden["gradient"])
    if mode == "train":
        assert close(davenet(made).stages[3][1].bn2.running_mean, CASES[text]["running_mean"])
    found = made.predict_step(batch, 0)["embedding"]
    for theirs, modality in MODALITIES.items():
        assert (theirs in golden) == (modality in found)
        assert theirs not in golden or close(found[modality], golden[theirs]), theirs
    davenet(made).stages[3][1].bn2.weight.data.mul_(1.1)
    wrong = made.losses(batch)["loss"]
    assert not close(wrong, golden["loss"], 5e-4), "the numbers would tell if a deep weight were wrong"


@torch.no_grad()
def test_pooled_vectors_and_steps_of_sound_are_those_of_the_authors_loader_and_encoder():
    values, golden = inputs(), GOLDEN["davenet"]
    assert close(clip_vector(values["v"], torch.tensor(LENGTHS["v"]), CONFIG["video_dims"]), GOLDEN["pooled"])
    for mode in ("train", "eval"):
        steps_BTD = davenet(stage("none", mode))(values["a"])
        assert close(steps_BTD[golden["clip"], golden["steps"]], golden[mode])


def test_masked_margin_softmax_is_the_authors_on_given_scores():
    golden = GOLDEN["mms"]
    score_BB = (6 * RECORDED.drawn("scores", 5, 5)).requires_grad_()
    loss = masked_margin_softmax(score_BB, torch.eye(5), golden["margin"])
    loss.backward()
    assert close(loss, golden["loss"]) and close(score_BB.grad, golden["gradient"])
    assert close(masked_margin_softmax(score_BB, torch.eye(5), 0.5), golden["loss_of_margin_0.5"])
