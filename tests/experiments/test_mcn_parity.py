"""MCN against the authors' classes, by numbers recorded from them (`tests/golden/mcn.json`)."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from experiments.common.networks.davenet import DAVEnetConfig
from experiments.mcn import method
from experiments.mcn.clustering import JointClusters, cluster_contrast, kmeans
from experiments.mcn.model import MCNConfig
from tests.experiments import narrated_golden
from tests.experiments.narrated_golden import WORD2VEC, close
from tests.experiments.narrated_tiny import spec

RECORDED = narrated_golden.Recording("mcn")
GOLDEN, drawn = RECORDED.values, RECORDED.drawn
CONFIG = GOLDEN["config"]
NETWORK = MCNConfig(
    CONFIG["dim"], DAVEnetConfig(CONFIG["mel_bins"], CONFIG["first"], CONFIG["widths"]),
    CONFIG["video_dims"], CONFIG["word_dim"], CONFIG["reconstruction"],
)  # fmt: skip


def released() -> dict[str, Tensor]:
    """The recorded run's weights as the authors' file would hold them."""
    return RECORDED.weights(GOLDEN["keys"])


def stage(mode: str = "eval") -> method.Train:
    """With the recorded run's weights, centroids and clusters of the clips."""
    made = method.Train(spec(NETWORK, method.TrainOptions(), text=WORD2VEC))
    made.load_parent(released())
    made.joint.centroid_KD = drawn("centroids", 5, 32)
    made.joint.update = lambda *_: torch.tensor(GOLDEN["labels"])
    return made.train(mode == "train")


def inputs() -> dict[str, Tensor]:
    """Log-mels, features (of a single moment), word vectors with padding."""
    words = 2 * drawn("words", 4, 5, 20)
    words[:, 3:] = 0
    return {"a": 4 * drawn("audio", 4, 128, 40), "v": drawn("video", 4, 1, 40) + 0.5, "t": words}


LENGTHS = {"a": GOLDEN["frames"], "v": [1] * 4, "t": [3] * 4}


@torch.no_grad()
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_embeddings_errors_and_losses_are_those_of_the_authors_code(mode):
    made, golden = stage(mode), GOLDEN["outputs"][mode]
    batch = narrated_golden.batch_of(made, inputs(), LENGTHS)
    terms = made.losses_at(batch, 0, 0)
    loss = terms.pop("loss")
    assert close(sum(terms[f"mms_{pair}"] for pair in ("tv", "at", "av")), golden["masked_margin_softmax"])
    assert close(terms["cluster"], sum(golden["cluster_contrast"].values()) / 3)
    assert close(sum(terms[f"reconstruction_{m}"] for m in "avt") / 50, sum(golden["error"]) / 4)
    assert len(terms) == 7 and close(loss, sum(terms.values()).item())
    embedding = made.predict_step(batch, 0)["embedding"]
    assert all(close(embedding[modality], golden[modality]) for modality in "avt")
    if mode == "eval":
        made.state_dict()["net.audio_branch.davenet.stages.3.1.bn2.running_var"].mul_(1.1)
        wrong = made.predict_step(batch, 0)["embedding"]["a"]
        assert not close(wrong, golden["a"], 5e-4), "the numbers would tell if a deep weight were wrong"


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


@pytest.mark.parametrize("autocast", [False, True])
def test_clusters_and_losses_of_two_epochs_are_those_of_the_authors_steps(autocast):
    """From an empty queue over its filling, the steps between two fits, and a new epoch's fresh centroids."""
    golden = GOLDEN["queue"]
    clips, dim = golden["videos"] * golden["clips"], golden["dim"]
    clusters = JointClusters(golden["clusters"], dim, golden["queue_batches"], golden["refit_every"], golden["seed"])
    places = [(epoch, step) for epoch in range(golden["epochs"]) for step in range(5)]
    for (epoch, step), expected in zip(places, golden["steps"], strict=True):
        x = 3 * drawn(f"x {epoch} {step}", clips, dim)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            labels = clusters.update(drawn(f"fused {epoch} {step}", clips, dim), golden["clips"], step, epoch)
            loss = cluster_contrast(x, clusters.centroid_KD, labels, 0.001)
        assert labels.tolist() == expected["labels"]
        assert close(clusters.centroid_KD, expected["centroids"]) and close(loss, expected["loss"])
