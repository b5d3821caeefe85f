"""AVLnet's classes, loss and loader (small widths)."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from experiments.avlnet import method
from experiments.avlnet.model import AVLnetConfig
from experiments.common.losses.contrastive import masked_margin_softmax
from experiments.common.networks.branches import clip_vector
from experiments.common.networks.davenet import DAVEnet, DAVEnetConfig
from tests.experiments.golden import Recording, Released, Run
from tests.experiments.narrated_golden import WORD2VEC, batch_of
from tests.experiments.narrated_tiny import spec

RECORDED = Recording("avlnet", kernels=12.0, vectors=0.4, variances=0.4)
GOLDEN = RECORDED.values
CONFIG, CASES, OF_SOUND = GOLDEN["config"], GOLDEN["cases"], GOLDEN["davenet"]
STAGES = {"none": method.AVLnet, "tri": method.Tri, "fused": method.Fused}
MODALITIES = {"audio": "a", "video": "v", "text": "t", "audio_text": "at"}
NETWORK = AVLnetConfig(
    CONFIG["dim"], CONFIG["dim"], DAVEnetConfig(first=CONFIG["widths"][0], widths=CONFIG["widths"][1:]),
    CONFIG["video_dims"], CONFIG["word_dim"],
)  # fmt: skip
LENGTHS = {"a": CONFIG["lengths"], "v": [1, 4, 12, 0], "t": [5, 3, 0, 5]}


def released(text: str) -> dict[str, Tensor]:
    return RECORDED.weights(OF_SOUND["keys"] | CASES[text]["keys"])


def stage(text: str, mode: str = "eval") -> method.AVLnet:
    """It compares all clips, as theirs does."""
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


def trained_and_measured(made: method.AVLnet) -> dict[str, Tensor]:
    """The loss, its gradient and the embeddings; in training also the statistics of a batch norm."""
    batch, network = batch_of(made, inputs(), LENGTHS), davenet(made)
    loss = made.losses(batch)["loss"]
    loss.backward()
    found = {"loss": loss, "gradient": network.conv1.weight.grad[:, ::8, 0]}
    if made.training:
        found["running_mean"] = network.stages[3][1].bn2.running_mean.clone()
    embedding = made.predict_step(batch, 0)["embedding"]
    return found | {theirs: embedding[ours] for theirs, ours in MODALITIES.items() if ours in embedding}


def of_mode(mode: str, case: dict[str, Any]) -> dict[str, Any]:
    return case[mode] | ({"running_mean": case["running_mean"]} if mode == "train" else {})


def steps_of_sound(made: method.AVLnet) -> Tensor:
    with torch.no_grad():
        return davenet(made)(inputs()["a"])[OF_SOUND["clip"], OF_SOUND["steps"]]


def margin_softmax(_: None) -> dict[str, Any]:
    margin = GOLDEN["mms"]["margin"]
    score_BB = (6 * RECORDED.drawn("scores", 5, 5)).requires_grad_()
    loss = masked_margin_softmax(score_BB, torch.eye(5), margin)
    loss.backward()
    other = masked_margin_softmax(score_BB, torch.eye(5), 0.5)
    return {"margin": margin, "loss": loss, "gradient": score_BB.grad, "loss_of_margin_0.5": other}


RUNS = [
    *(
        Run(
            f"cases/{text}", trained_and_measured, partial(stage, text, mode), mode, partial(of_mode, mode),
            tolerance=1e-5, deep="stages.3.1.bn2.weight",
        )
        for text in CASES for mode in ("train", "eval")
    ),
    *(
        Run(f"davenet/{mode}", steps_of_sound, partial(stage, "none", mode), tolerance=1e-5)
        for mode in ("train", "eval")
    ),
    Run(
        "pooled", lambda _: clip_vector(inputs()["v"], torch.tensor(LENGTHS["v"]), CONFIG["video_dims"]), tolerance=1e-5
    ),
    Run("mms", margin_softmax, tolerance=1e-5),
]  # fmt: skip
ELSEWHERE = ("davenet/clip", "davenet/steps")
"""Which are the steps of sound that are compared."""
SHORTCUT = ("DAVEnet.layer2.0.downsample.1.running_var", "davenet.stages.1.0.shortcut.1.running_var")
RELEASED = [
    Released(text, partial(stage, text), partial(released, text), unused=unused, missing=missing, strange=strange)
    for text, unused, missing, strange in (
        ("none", ("DAVEnet.batchnorm1.",), SHORTCUT, ("GU_speech.fc.weight",)),
        ("tri", ("DAVEnet.batchnorm1.",), ("text_pooling_caption.fc.weight", "text_branch.pool.fc.weight"),
         ("DAVEnet.layer1.0.conv3.weight", "DAVEnet.stages.0.0.conv1.weight")),
        ("fused", ("DAVEnet.batchnorm1.", "GU_audio."), SHORTCUT,
         ("DAVEnet_projection2.weight", "DAVEnet.batchnorm2.weight")),
    )
]  # fmt: skip
