"""MCN's network, losses and clusters (small widths)."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from experiments.common.networks.davenet import DAVEnetConfig
from experiments.mcn import method
from experiments.mcn.clustering import JointClusters, cluster_contrast, kmeans
from experiments.mcn.model import MCNConfig
from tests.experiments.golden import Recording, Released, Run
from tests.experiments.narrated_golden import WORD2VEC, batch_of
from tests.experiments.narrated_tiny import spec

RECORDED = Recording("mcn", kernels=12.0)
GOLDEN, drawn = RECORDED.values, RECORDED.drawn
CONFIG = GOLDEN["config"]
NETWORK = MCNConfig(
    CONFIG["dim"], DAVEnetConfig(CONFIG["mel_bins"], CONFIG["first"], CONFIG["widths"]),
    CONFIG["video_dims"], CONFIG["word_dim"], CONFIG["reconstruction"],
)  # fmt: skip
LENGTHS = {"a": GOLDEN["frames"], "v": [1] * 4, "t": [3] * 4}


def released() -> dict[str, Tensor]:
    return RECORDED.weights(GOLDEN["keys"])


def stage(mode: str = "eval") -> method.Train:
    """With the recorded run's centroids and clusters of the clips, too."""
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


@torch.no_grad()
def losses_and_embeddings(made: method.Train) -> dict[str, Any]:
    batch = batch_of(made, inputs(), LENGTHS)
    terms = made.losses_at(batch, 0, 0)
    loss = terms.pop("loss")
    assert len(terms) == 7 and (loss - sum(terms.values())).abs() < 1e-5
    embedding = made.predict_step(batch, 0)["embedding"]
    return {
        "masked_margin_softmax": sum(terms[f"mms_{pair}"] for pair in ("tv", "at", "av")),
        "cluster_contrast": terms["cluster"],
        "error": sum(terms[f"reconstruction_{m}"] for m in "avt") / 50,
        **{modality: embedding[modality] for modality in "avt"},
    }


def terms_of(outputs: dict[str, Any]) -> dict[str, Any]:
    """Their losses as ours are put together."""
    means = {"cluster_contrast": sum(outputs["cluster_contrast"].values()) / 3, "error": sum(outputs["error"]) / 4}
    return outputs | means


def clustered(case: str, _: None) -> dict[str, Any]:
    golden = GOLDEN["kmeans"][case]
    x = drawn(f"{case} vectors", len(golden["labels"]), 6)
    start = x[: golden["clusters"]].clone()
    if case == "with_an_empty_cluster":
        x = x + 0.4
        start = x[: golden["clusters"]].clone()
        start[2] = -1
    centroids, labels = kmeans(x, start)
    return {"clusters": len(centroids), "labels": labels, "centroids": centroids}


def two_epochs(autocast: bool, _: None) -> list[dict[str, Any]]:
    """From an empty queue over its filling, the steps between two fits, and a new epoch's fresh centroids."""
    golden, found = GOLDEN["queue"], []
    clips, dim = golden["videos"] * golden["clips"], golden["dim"]
    clusters = JointClusters(golden["clusters"], dim, golden["queue_batches"], golden["refit_every"], golden["seed"])
    for epoch, step in ((epoch, step) for epoch in range(golden["epochs"]) for step in range(5)):
        x = 3 * drawn(f"x {epoch} {step}", clips, dim)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            labels = clusters.update(drawn(f"fused {epoch} {step}", clips, dim), golden["clips"], step, epoch)
            loss = cluster_contrast(x, clusters.centroid_KD, labels, 0.001)
        found.append({"labels": labels, "centroids": clusters.centroid_KD, "loss": loss})
    return found


def of_steps(queue: dict[str, Any]) -> list[dict[str, Any]]:
    return [{key: step[key] for key in ("labels", "centroids", "loss")} for step in queue["steps"]]


RUNS = [
    Run(
        "outputs/train", losses_and_embeddings, partial(stage, "train"), expected=terms_of, tolerance=1e-5,
        deep="audio_branch.davenet.stages.3.1.bn2.weight",
    ),
    Run(
        "outputs/eval", losses_and_embeddings, stage, expected=terms_of, tolerance=1e-5,
        deep="audio_branch.davenet.stages.3.1.bn2.running_var",
    ),
    *(Run(f"kmeans/{case}", partial(clustered, case), tolerance=1e-5) for case in GOLDEN["kmeans"]),
    *(
        Run("queue", partial(two_epochs, autocast), name=name, expected=of_steps, tolerance=1e-5)
        for name, autocast in (("float32", False), ("autocast", True))
    ),
]  # fmt: skip
ELSEWHERE = ("schedule", "labels")
"""Compared in `test_narrated_recipes.py`; and what a run was made with."""
RELEASED = [
    Released(
        "", stage, released, unused=("DAVEnet.batchnorm1.",), missing=("recon_t.2.bias", "decoders.t.2.bias"),
        strange=("GU_audio_text.fc_text.weight", "recon_x.0.bias"),
    )
]  # fmt: skip
