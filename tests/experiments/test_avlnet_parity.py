"""AVLnet against the authors' classes, by numbers recorded from them (`tests/golden/avlnet.json`).

The weights and inputs of those runs can be drawn again here: each is a function of its name in their layout.
"""

from __future__ import annotations

import json
import math
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from datamodules import keyed
from experiments.avlnet.checkpoints import load
from experiments.avlnet.model import AVLnet, AVLnetConfig
from experiments.common.losses.contrastive import masked_margin_softmax
from experiments.common.networks.branches import clip_vector
from experiments.common.networks.davenet import DAVEnet, DAVEnetConfig

GOLDEN = json.loads((Path(__file__).parent.parent / "golden" / "avlnet.json").read_text())
CONFIG, CASES = GOLDEN["config"], GOLDEN["cases"]
TOLERANCE = 1e-5


def drawn(name: str, shape: tuple[int, ...]) -> Tensor:
    """Uniform numbers in [-0.5, 0.5) that depend on the name alone."""
    key = torch.tensor([keyed.stable_hash("avlnet parity", name)])
    return keyed.uniform(key, "value", math.prod(shape)).view(shape) - 0.5


def drawn_weight(key: str, shape: tuple[int, ...]) -> Tensor:
    """At which every layer's output has about its input's deviation; those of batch norms are about 1."""
    if key.endswith("num_batches_tracked"):
        return torch.zeros(shape, dtype=torch.long)
    if len(shape) == 1:
        return 0.4 * drawn(key, shape) + float(key.endswith(("weight", "running_var")))
    return drawn(key, shape) * (12 / math.prod(shape[1:])) ** 0.5


def released(text: str) -> dict[str, Tensor]:
    """The recorded run's weights as the authors' file would hold them."""
    keys = GOLDEN["davenet"]["keys"] | CASES[text]["keys"]
    return {key: drawn_weight(key, tuple(shape)) for key, shape in keys.items()}


def small(text: str) -> AVLnet:
    first, *widths = CONFIG["widths"]
    sizes = {key: CONFIG[key] for key in ("dim", "video_dims", "word_dim")}
    return AVLnet(AVLnetConfig(audio=DAVEnetConfig(first=first, widths=widths), tri_dim=sizes["dim"], **sizes), text)


def network(text: str, mode: str) -> AVLnet:
    net = small(text)
    load(net, released(text))
    return net.train(mode == "train")


def davenet(net: AVLnet) -> DAVEnet:
    return next(module for module in net.modules() if isinstance(module, DAVEnet))


@cache
def clips() -> dict[str, tuple[Tensor, ...]]:
    """Four clips: sound of less and less length; one moment (a pooled vector), 4, 12 and none; 5, 3, 0 and 5 words."""
    words = 2 * drawn("words", (4, 5, CONFIG["word_dim"]))
    words[1, 3:] = words[2] = 0
    whole = torch.cat(
        [drawn(f"features {kind}", (12, dim)) for kind, dim in zip(("2d", "3d"), CONFIG["video_dims"], strict=True)], 1
    )
    moments = [whole[start : end + 1] for start, end in CONFIG["clips"]]
    features = nn.utils.rnn.pad_sequence(moments, batch_first=True)
    return {
        "audio": (4 * drawn("audio", (4, 250, 40)), torch.tensor(CONFIG["lengths"])),
        "video": (features, torch.tensor([len(part) for part in moments])),
        "text": (words,),
    }


def embeddings(net: AVLnet) -> dict[str, Tensor]:
    inputs = clips() | {"audio_text": (*clips()["audio"], *clips()["text"])}
    names = {"none": ("audio", "video"), "tri": ("audio", "video", "text"), "fused": ("audio_text", "video")}
    return {name: getattr(net, name)(*inputs[name]) for name in names[net.words]}


def difference(ours: Tensor, golden: list) -> float:
    assert ours.shape == torch.tensor(golden).shape
    return (ours - torch.tensor(golden)).abs().max().item()


def test_pooled_vectors_are_those_of_the_authors_loader():
    assert clips()["video"][1].tolist() == [1, 4, 12, 0]
    assert difference(clip_vector(*clips()["video"], CONFIG["video_dims"]), GOLDEN["pooled"]) < TOLERANCE


@torch.no_grad()
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_the_audio_encoder_is_the_authors(mode):
    golden = GOLDEN["davenet"]
    steps_BTD = davenet(network("none", mode))(clips()["audio"][0])
    assert difference(steps_BTD[golden["clip"], golden["steps"]], golden[mode]) < TOLERANCE


@torch.no_grad()
@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("text", CASES)
def test_embeddings_are_those_of_the_authors_class(text, mode):
    ours = embeddings(network(text, mode))
    assert len(ours) == (3 if text == "tri" else 2)
    for name, value in ours.items():
        assert difference(value, CASES[text][mode][name]) < TOLERANCE, name


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("text", CASES)
def test_the_loss_and_what_reaches_the_first_convolution_are_those_of_the_authors_classes(text, mode):
    net, golden = network(text, mode), CASES[text][mode]
    ours = embeddings(net)
    pairs = {"tri": (("audio", "video"), ("audio", "text"), ("text", "video")), "fused": (("audio_text", "video"),)}
    loss = sum(
        masked_margin_softmax(ours[x], ours[y], GOLDEN["mms"]["margin"])
        for x, y in pairs.get(text, (("audio", "video"),))
    )
    loss.backward()
    assert loss.item() == pytest.approx(golden["loss"], abs=TOLERANCE)
    assert difference(davenet(net).conv1.weight.grad[:, ::8, 0], golden["gradient"]) < TOLERANCE


@torch.no_grad()
def test_training_moves_the_running_statistics_as_theirs():
    net = network("none", "train")
    embeddings(net)
    ours = net.audio_branch.davenet.stages[3][1].bn2.running_mean
    assert difference(ours, CASES["none"]["running_mean"]) < TOLERANCE


def test_masked_margin_softmax_is_the_authors_on_given_scores():
    golden = GOLDEN["mms"]
    score_BB = (6 * drawn("scores", (5, 5))).requires_grad_()
    loss = masked_margin_softmax(score_BB, torch.eye(5), golden["margin"])
    loss.backward()
    assert loss.item() == pytest.approx(golden["loss"], abs=TOLERANCE)
    assert difference(score_BB.grad, golden["gradient"]) < TOLERANCE
    wide = masked_margin_softmax(score_BB, torch.eye(5), 0.5)
    assert wide.item() == pytest.approx(golden["loss_of_margin_0.5"], abs=TOLERANCE)
    assert wide.item() > loss.item() + 0.1


@torch.no_grad()
@pytest.mark.parametrize("part", ["audio_branch.davenet.stages.3.1.conv2", "audio_branch.gated.gate.fc"])
def test_the_recorded_numbers_would_tell_if_a_deep_weight_were_wrong(part):
    net = network("none", "eval")
    net.get_submodule(part).weight.mul_(1.1)
    assert difference(embeddings(net)["audio"], CASES["none"]["eval"]["audio"]) > 50 * TOLERANCE


@pytest.mark.parametrize(
    ("text", "parameters", "unused"),
    [("none", 84_531_202, 2), ("tri", 193_353_730, 2), ("fused", 116_615_170, 2 + 2_099_200)],
)
def test_the_released_sizes_have_the_authors_parameters_without_those_never_used(text, parameters, unused):
    """Unused are the 2 of DAVEnet's `batchnorm1` and, in Fused, `GU_audio` of 1024 -> 1024."""
    with torch.device("meta"):
        net = AVLnet(AVLnetConfig(), text)
    assert sum(parameter.numel() for parameter in net.parameters()) == parameters - unused
