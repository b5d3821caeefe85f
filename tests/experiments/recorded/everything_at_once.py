"""Everything at Once's network and losses (small widths)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from experiments.common.networks.davenet import DAVEnetConfig
from experiments.everything_at_once import method
from experiments.everything_at_once.model import EverythingAtOnceConfig
from experiments.everything_at_once.objective import PairWeights
from tests.experiments.golden import Recording, Released, Run
from tests.experiments.narrated_golden import WORD2VEC, batch_of
from tests.experiments.narrated_tiny import spec

RECORDED = Recording("everything_at_once", kernels=24.0)
GOLDEN = RECORDED.values
MODES = GOLDEN["modes"]
_NETWORK, _AUDIO = (
    {key: value for key, value in GOLDEN["config"].items() if (key in vars(DAVEnetConfig())) == of_sound}
    for of_sound in (False, True)
)
NETWORK = EverythingAtOnceConfig(audio=DAVEnetConfig(**_AUDIO), **_NETWORK)


def released() -> dict[str, Tensor]:
    return {f"module.{key}": value for key, value in RECORDED.weights(GOLDEN["keys"]).items()}


def stage(mode: str = "eval", weights: Sequence[float] = (1.0, 0.1, 0.1, 0.1, 0.1, 0.1)) -> method.Train:
    """`weights` are of the pairs."""
    made = method.Train(spec(NETWORK, method.TrainOptions(weights=PairWeights(*weights)), text=WORD2VEC))
    made.load_parent(released())
    return made.train(mode == "train")


def inputs() -> dict[str, Tensor]:
    """Six clips: the second has no words, the third no sound, the fourth no pictures. After an end come no zeros."""
    shapes = {"audio": (6, 256, 40), "video": (6, 5, 20), "text": (6, 7, 10)}
    audio, video, text = (RECORDED.drawn(name, *shape) for name, shape in shapes.items())
    return {"a": 4 * audio, "v": video, "t": 2 * text}


@torch.no_grad()
def measured(made: method.Train) -> dict[str, Any]:
    batch = batch_of(made, inputs(), GOLDEN["lengths"])
    nonempty = {modality: own.nonempty_B.tolist() for modality, own in made.tokens(batch, "avt").items()}
    embeddings = made.predict_step(batch, 0)["embedding"]
    return {"embeddings": {of: embeddings[of] for of in MODES["eval"]["embeddings"]}, "nonempty": nonempty}


def normalised(mode: dict[str, Any]) -> dict[str, Any]:
    """Theirs leaves the embeddings of one modality at any length, for its loss to normalise."""
    embeddings = {
        together: F.normalize(torch.tensor(values), dim=1) if len(together) == 1 else values
        for together, values in mode["embeddings"].items()
    }
    return {"embeddings": embeddings, "nonempty": mode["nonempty"]}


@torch.no_grad()
def losses(made: method.Train) -> dict[str, Tensor]:
    return made.losses(batch_of(made, inputs(), GOLDEN["lengths"]))


RUNS = [
    *(
        Run(f"modes/{mode}", measured, partial(stage, mode), expected=normalised, tolerance=1e-5,
            deep="blocks.1.mlp.fc2.weight")
        for mode in MODES
    ),
    *(
        Run(f"modes/{mode}/losses/{name}/terms", losses, partial(stage, mode, theirs["weights"]), tolerance=3e-5)
        for mode in MODES for name, theirs in MODES[mode]["losses"].items()
    ),
]  # fmt: skip
ELSEWHERE = ("full_size",)
"""In `test_everything_at_once.py`."""
RELEASED = [
    Released(
        "", stage, released, unused=("module.davenet.batchnorm1.", "module.fusion.norm."), missing=missing,
        strange=("fusion.cls_token", "video_pos_embed", "proj.fc.weight"),
    )
    for missing in (
        ("module.fusion.blocks.1.attn.qkv.weight", "blocks.1.attn.qkv.weight"),
        ("module.text_norm_layer.bias", "token_projection.t.1.bias"),
    )
]  # fmt: skip
