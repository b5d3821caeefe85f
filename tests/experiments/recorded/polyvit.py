"""PolyViT's Flax class: logits, losses and gradients of a picture's, a sound's and a video's dataset, with all blocks
shared and with the first one of each modality."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from datamodules.parts import PartSpec
from datamodules.types import AudioInputs, Inputs, VideoInputs
from experiments.common.stage import StageSpec
from experiments.polyvit.checkpoints import from_scenic, load
from experiments.polyvit.method import TaskOptions, Train, TrainOptions
from experiments.polyvit.model import PolyViTConfig
from tests.experiments.golden import Recording, Released, Run

RECORDED = Recording("polyvit")
NETWORK, drawn = RECORDED.values["network"], RECORDED.drawn
PARTS = {"image": ("pets", "i"), "audio": ("vggsound", "a"), "video": ("kinetics400", "v")}
INPUTS = {
    "i": Inputs(None, None, streams={"image": {"kind": "image", "size": 64}}),
    "a": Inputs(AudioInputs(frames=96, mel_bins=64), None),
    "v": Inputs(None, VideoInputs(frames=8, size=64)),
}
CLIPS = {"image": (2, 3, 64, 64), "audio": (2, 1, 96, 64), "video": (2, 3, 8, 64, 64)}
KEYS = {"image": "image", "audio": "audio", "video": "video"}


def released(run: str) -> dict[str, Tensor]:
    """A flattened Flax tree."""
    layout = NETWORK[run]["layout"]
    return {key: 0.2 * drawn(key, *shape) + float(key.endswith("scale")) for key, shape in layout.items()}


def stage(run: str) -> Train:
    """Of three datasets, one a step."""
    config = PolyViTConfig(**NETWORK["config"], own_layers=int(run[-1]))
    parts = [PartSpec(name, INPUTS[m], m, NETWORK["classes"][name], False, "label", 2) for name, m in PARTS.values()]
    options = TrainOptions({"pets": TaskOptions(sigmoid=True)})
    made = Train(StageSpec(config, options, modality="i", parts=parts)).eval()
    load(made.net, released(run))
    return made


def batch(modality: str) -> dict[str, Any]:
    name, _ = PARTS[modality]
    label = torch.eye(NETWORK["classes"][name])[[1, 3]]
    return {KEYS[modality]: 4 * drawn(modality, *CLIPS[modality]), "label": label, "part_name": name}


@torch.no_grad()
def logits(made: Train) -> dict[str, Tensor]:
    return {m: made.net(*PARTS[m], batch(m)[KEYS[m]]) for m in PARTS}


def losses(made: Train) -> dict[str, Tensor]:
    return {m: made.losses(batch(m))["loss"] for m in PARTS}


def gradients(modality: str, run: str, made: Train) -> dict[str, list[Tensor]]:
    """Of theirs, the kernel of sound sees three channels that are all alike."""
    made.zero_grad()
    made.losses(batch(modality))["loss"].backward()
    named, found = dict(made.net.named_parameters()), {}
    for key in NETWORK[run]["gradients"][modality]:
        (ours,) = from_scenic({key: torch.zeros(NETWORK[run]["layout"][key])}, made.net)
        gradient = named[ours].grad
        channels = 3 if key == "tokenizer/tokenizer_spec/embedding/kernel" else 1
        found[key] = [channels * gradient.abs().sum(), channels**0.5 * gradient.norm()]
    return found


OWN = ("own_0", "own_1")
RUNS = [
    *(Run(f"network/{run}/logits", logits, partial(stage, run), tolerance=2e-5) for run in OWN),
    *(Run(f"network/{run}/loss", losses, partial(stage, run), tolerance=1e-5) for run in OWN),
    *(
        Run(
            f"network/{run}/gradients/{m}",
            partial(gradients, m, run),
            partial(stage, run),
            tolerance=1e-4,
            relative=1e-4,
        )
        for run in OWN
        for m in PARTS
    ),
]
RELEASED = [
    Released(
        run,
        lambda run=run: stage(run).net,
        partial(released, run),
        load,
        missing=("vit_encoder/encoder_norm/scale", "norm.weight"),
        strange=("pre_logits/kernel",),
        summed=("tokenizer/tokenizer_spec/embedding/kernel",),
        parallel=False,
    )
    for run in OWN
]
