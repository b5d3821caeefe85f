"""Everything at Once against the authors' classes, by numbers recorded from them (`everything_at_once.json`)."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from experiments.common.networks.davenet import DAVEnetConfig
from experiments.everything_at_once import method
from experiments.everything_at_once.model import EverythingAtOnceConfig
from experiments.everything_at_once.objective import PairWeights
from tests.experiments import narrated_golden
from tests.experiments.narrated_golden import WORD2VEC, close
from tests.experiments.narrated_tiny import spec

RECORDED = narrated_golden.Recording("everything_at_once", kernels=24.0)
GOLDEN = RECORDED.values
MODES = GOLDEN["modes"]
_NETWORK, _AUDIO = (
    {key: value for key, value in GOLDEN["config"].items() if (key in vars(DAVEnetConfig())) == of_sound}
    for of_sound in (False, True)
)
NETWORK = EverythingAtOnceConfig(audio=DAVEnetConfig(**_AUDIO), **_NETWORK)


def released() -> dict[str, Tensor]:
    """The recorded run's weights as the authors' file would hold them."""
    return {f"module.{key}": value for key, value in RECORDED.weights(GOLDEN["keys"]).items()}


def stage(mode: str = "eval", weights: Sequence[float] = (1.0, 0.1, 0.1, 0.1, 0.1, 0.1)) -> method.Train:
    """With the recorded run's weights; `weights` are of the pairs."""
    made = method.Train(spec(NETWORK, method.TrainOptions(weights=PairWeights(*weights)), text=WORD2VEC))
    made.load_parent(released())
    return made.train(mode == "train")


def inputs() -> dict[str, Tensor]:
    """Six clips: the second has no words, the third no sound, the fourth no pictures. After an end come no zeros."""
    shapes = {"audio": (6, 256, 40), "video": (6, 5, 20), "text": (6, 7, 10)}
    audio, video, text = (RECORDED.drawn(name, *shape) for name, shape in shapes.items())
    return {"a": 4 * audio, "v": video, "t": 2 * text}


@torch.no_grad()
@pytest.mark.parametrize("mode", MODES)
def test_embeddings_are_those_of_the_authors_class(mode):
    made, golden = stage(mode), MODES[mode]
    batch = narrated_golden.batch_of(made, inputs(), GOLDEN["lengths"])
    found = made.predict_step(batch, 0)["embedding"]
    for together, theirs in golden["embeddings"].items():
        if len(together) == 1:  # which theirs leaves at any length, for its loss to normalise
            theirs = F.normalize(torch.tensor(theirs), dim=1).tolist()
        assert close(found[together], theirs), together
    tokens = made.tokens(batch, "avt")
    assert {modality: own.nonempty_B.tolist() for modality, own in tokens.items()} == golden["nonempty"]
    made.net.blocks[1].mlp.fc2.weight.mul_(1.01)
    wrong = made.predict_step(batch, 0)["embedding"]["av"]
    assert not close(wrong, golden["embeddings"]["av"], 2e-4), "the numbers would tell if a deep weight were wrong"


@torch.no_grad()
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", MODES["eval"]["losses"])
def test_losses_are_those_of_the_authors_class(mode, name):
    theirs = MODES[mode]["losses"][name]
    made = stage(mode, theirs["weights"])
    terms = made.losses(narrated_golden.batch_of(made, inputs(), GOLDEN["lengths"]))
    assert {key: value.item() for key, value in terms.items()} == pytest.approx(theirs["terms"], abs=3e-5)
