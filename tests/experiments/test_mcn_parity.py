"""MCN against the authors' classes, by numbers recorded from them (`tests/golden/mcn.json`).

The weights and inputs of those runs can be drawn again here: each is a function of its name in their layout.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from datamodules import keyed
from experiments.common.losses.contrastive import masked_margin_softmax
from experiments.common.networks.davenet import DAVEnetConfig
from experiments.mcn.checkpoints import load
from experiments.mcn.clustering import JointClusters, cluster_contrast, kmeans
from experiments.mcn.model import MCN, MCNConfig

GOLDEN = json.loads((Path(__file__).parent.parent / "golden" / "mcn.json").read_text())
TOLERANCE = 1e-5
MARGIN = 0.001


def drawn(name: str, *shape: int) -> Tensor:
    """Uniform numbers in [-0.5, 0.5) that depend on the name alone."""
    key = torch.tensor([keyed.stable_hash("mcn parity", name)])
    return keyed.uniform(key, "value", math.prod(shape)).view(shape) - 0.5


def drawn_weight(name: str, *shape: int) -> Tensor:
    """Kernels whose outputs have a deviation of about their inputs'; norms' weights and variances of about 1."""
    if name.endswith("num_batches_tracked"):
        return torch.zeros(shape, dtype=torch.long)
    if name.endswith("running_var"):
        return 1 + drawn(name, *shape)
    if len(shape) > 1:
        return drawn(name, *shape) * (12 / math.prod(shape[1:])) ** 0.5
    return 0.2 * drawn(name, *shape) + float(name.endswith("weight"))


def released() -> dict[str, Tensor]:
    """The recorded run's weights as the authors' file would hold them."""
    return {key: drawn_weight(key, *shape) for key, shape in GOLDEN["keys"].items()}


def config() -> MCNConfig:
    c = GOLDEN["config"]
    audio = DAVEnetConfig(mel_bins=c["mel_bins"], first=c["first"], widths=c["widths"])
    return MCNConfig(c["dim"], audio, c["video_dims"], c["word_dim"], c["reconstruction"])


def network() -> MCN:
    net = MCN(config())
    load(net, released())
    return net


def inputs() -> tuple[Tensor, ...]:
    """Log-mels and their lengths, features (a single moment) and their lengths, word vectors with padding."""
    words = 2 * drawn("words", 4, 5, 20)
    words[:, 3:] = 0
    features = drawn("video", 4, 1, 40) + 0.5
    return 4 * drawn("audio", 4, 128, 40), torch.tensor(GOLDEN["frames"]), features, torch.ones(4).long(), words


def close(ours: Tensor, golden: object) -> bool:
    expected = torch.tensor(golden)
    return ours.shape == expected.shape and (ours - expected).abs().max().item() < TOLERANCE


@torch.no_grad()
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_embeddings_errors_and_losses_are_those_of_the_authors_code(mode):
    golden = GOLDEN["outputs"][mode]
    embedding, error = network().train(mode == "train")(*inputs())
    for modality in "avt":
        assert close(embedding[modality], golden[modality])
    assert close(sum(error.values()), golden["error"])
    pairs = sum(masked_margin_softmax(embedding[x], embedding[y], MARGIN) for x, y in ("tv", "at", "av"))
    assert close(pairs, golden["masked_margin_softmax"])
    centroids, labels = drawn("centroids", 5, 32), torch.tensor(GOLDEN["labels"])
    for modality, x in embedding.items():
        assert close(cluster_contrast(x, centroids, labels, MARGIN), golden["cluster_contrast"][modality])


@torch.no_grad()
@pytest.mark.parametrize("key", ["decoders.v.2.weight", "audio_branch.davenet.stages.3.1.bn2.running_var"])
def test_the_recorded_numbers_would_tell_if_a_weight_were_wrong(key):
    net = network().eval()
    net.state_dict()[key].mul_(1.1)
    assert not close(sum(net(*inputs())[1].values()), GOLDEN["outputs"]["eval"]["error"])


@pytest.mark.parametrize("case", GOLDEN["kmeans"])
def test_k_means_is_that_of_the_package(case):
    golden = GOLDEN["kmeans"][case]
    k, n = golden["clusters"], len(golden["labels"])
    x = drawn(f"{case} vectors", n, 6)
    start = x[:k].clone()
    if case == "with_an_empty_cluster":
        x = x + 0.4
        start = x[:k].clone()
        start[2] = -1
    centroids, labels = kmeans(x, start)
    assert labels.tolist() == golden["labels"]
    assert close(centroids, golden["centroids"])


def test_clusters_and_losses_of_two_epochs_are_those_of_the_authors_steps():
    """From an empty queue over its filling, the steps between two fits, and a new epoch's fresh centroids."""
    golden = GOLDEN["queue"]
    clips, dim = golden["videos"] * golden["clips"], golden["dim"]
    clusters = JointClusters(golden["clusters"], dim, golden["queue_batches"], golden["refit_every"], golden["seed"])
    places = [(epoch, step) for epoch in range(golden["epochs"]) for step in range(5)]
    for (epoch, step), expected in zip(places, golden["steps"], strict=True):
        labels = clusters.update(drawn(f"fused {epoch} {step}", clips, dim), golden["clips"], step, epoch)
        assert labels.tolist() == expected["labels"]
        assert close(clusters.centroid_KD, expected["centroids"])
        x = 3 * drawn(f"x {epoch} {step}", clips, dim)
        assert close(cluster_contrast(x, clusters.centroid_KD, labels, MARGIN), expected["loss"])
