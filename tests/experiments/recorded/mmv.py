"""MMV's towers and graphs, narrow and on small clips, and its two losses with gradients."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor

from datamodules.types import TextInputs
from experiments.common.losses.contrastive import mil_nce
from experiments.common.networks.resnet_v2 import ResNetV2Config
from experiments.common.networks.s3d import S3DConfig
from experiments.common.stage import StageSpec
from experiments.mmv.checkpoints import load, table
from experiments.mmv.method import Train, TrainOptions
from experiments.mmv.model import MMV, MMVConfig
from tests.experiments.golden import Recording, Released, Run

RECORDED = Recording("mmv", kernels=12.0)
GOLDEN, drawn = RECORDED.values, RECORDED.drawn
CLIPS, TEXTS, VOCABULARY, WORD_DIM = 3, 2, 50, 12
KINDS: dict[str, dict[str, Any]] = {
    "tsm": {},
    "s3d": {"backbone": "s3d", "s3d": S3DConfig(8)},
    "s3d_stem7": {"backbone": "s3d", "s3d": S3DConfig(8, space_to_depth=False)},
    "disjoint": {"graph": "disjoint"},
    "shared": {"graph": "shared"},
}


def config(kind: str) -> MMVConfig:
    size = ResNetV2Config(8, [32, 64, 128, 256], [1, 2, 1, 1])
    sizes = {"fine": 48, "coarse": 24, "sentence": 40, "word_dim": WORD_DIM}
    return MMVConfig(tsm=size, audio=size, **{**sizes, **KINDS[kind]})


def released(kind: str) -> dict[str, Tensor]:
    return {name: _weight(name, shape) for name, shape in GOLDEN["keys"][kind].items()}


def _weight(name: str, shape: list[int]) -> Tensor:
    leaf = name.rpartition("/")[2]
    if leaf == "counter":
        return torch.tensor(7, dtype=torch.int32)
    if leaf == "w":
        return drawn(name, *shape) * (12 / math.prod(shape[:-1])) ** 0.5
    around = 1.0 if leaf == "scale" or name.endswith("var_ema/average") else 0.0
    return around + (1.0 if leaf == "embeddings" else 0.2) * drawn(name, *shape)


def inputs() -> dict[str, Tensor]:
    words = (torch.arange(CLIPS * TEXTS * 6).view(-1, 6) * 7) % VOCABULARY
    return {
        "video": drawn("video", CLIPS, 3, 4, 20, 20) + 0.5,
        "audio": 4 * drawn("audio", CLIPS, 1, 30, 20),
        "words": words,
    }


def made(kind: str) -> MMV:
    net = MMV(config(kind), "vat").eval()
    load(net, released(kind), net.graph)
    return net


def embeddings(kind: str, net: MMV) -> dict[str, Tensor]:
    """By their names."""
    given = inputs()
    fine, coarse = net.see(given["video"])
    vectors = released(kind)["text_audio_video/text_module/~/embed/embeddings"]
    found = {"vid_embd_toaud": fine, "vid_embd_totxt": coarse, "aud_embd_tovid": net.hear(given["audio"])}
    return {**found, "txt_embd_tovid": net.read(vectors[given["words"]])}


@torch.no_grad()
def evaluated(kind: str, net: MMV) -> dict[str, Tensor]:
    given, found = inputs(), embeddings(kind, net)
    found |= {"vid_repr": net.video(given["video"]), "aud_repr": net.audio(given["audio"])}
    if net.graph == "fac":
        found["aud_embd_totxt"] = net.hear_as_text(given["audio"])
    return {name: found[name].flatten()[::5] for name in GOLDEN[kind]["eval"]}


def trained(kind: str, net: MMV) -> dict[str, Tensor]:
    found = embeddings(kind, net.train())
    return {name: found[name].flatten()[::5] for name in GOLDEN[kind]["train"]}


def losses(kind: str, net: MMV) -> dict[str, Tensor]:
    found = embeddings(kind, net)
    va = mil_nce(found["vid_embd_toaud"], found["aud_embd_tovid"][:, None], 0.07)
    vt = mil_nce(found["vid_embd_totxt"], found["txt_embd_tovid"].unflatten(0, (CLIPS, TEXTS)), 0.07)
    return {"va": va, "vt": vt, "loss": va + vt}


def gradients(kind: str, net: MMV) -> dict[str, list[Tensor]]:
    net.zero_grad()
    losses(kind, net)["loss"].backward()
    named = dict(net.named_parameters())
    found = {}
    for key in GOLDEN[kind]["gradients"]:
        (name,) = table(net.graph).renamed({key: torch.zeros(GOLDEN["keys"][kind][key])})
        found[key] = [named[name].grad.abs().sum(), named[name].grad.norm()]
    return found


def pretrained(kind: str) -> Train:
    spec = StageSpec(config(kind), TrainOptions(), modality="avt", text=TextInputs("word2vec"), batch_size=CLIPS)
    stage = Train(spec).eval()
    stage.load_parent(released(kind))
    return stage


TOWERS = ("tsm", "s3d")
RUNS = [
    *(Run(f"{kind}/eval", partial(evaluated, kind), partial(made, kind), deep="video_fine.3.weight") for kind in KINDS),
    # Of norms over three clips: the same in JAX, compiled in another way, differs by 3e-4.
    Run("tsm/train", partial(trained, "tsm"), partial(made, "tsm"), tolerance=1e-3),
    *(Run(f"{kind}/loss", partial(losses, kind), partial(made, kind), tolerance=1e-5) for kind in TOWERS),
    *(
        Run(f"{kind}/gradients", partial(gradients, kind), partial(made, kind), tolerance=1e-4, relative=1e-4)
        for kind in TOWERS
    ),
]


def never_used(kind: str) -> tuple[str, ...]:
    """Word vectors, of which the words are not known; heads of sound and text; sums that averages are made of."""
    words = "text_audio_video/text_module/~/embed/"
    unused = ("hidden", "var_ema/counter")
    return tuple(
        key
        for key in GOLDEN["keys"][kind]
        if key.startswith(words) or key.endswith(unused) or "audio2txt" in key or "txt2audio" in key
    )


RELEASED = [
    Released(
        kind,
        partial(pretrained, kind),
        partial(released, kind),
        unused=never_used(kind),
        missing=(
            "text_audio_video/audio_module/~/res_net_v2/~/block_group_1/block_1/~/conv_1/w",
            "audio.stages.1.1.conv1.weight",
        ),
        strange=("text_audio_video/nobody/w",),
        parallel=False,
    )
    for kind in TOWERS
]
