"""The released weights (deepmind-research `mmv`, Haiku), as `python -m bench weights convert FILE` writes them, and
ours."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from experiments.common.checkpoints.flax import convolution, linear
from experiments.common.checkpoints.haiku import flat, module, norm, resnet_v2, s3d, unshifted
from experiments.common.checkpoints.table import Entry, Table
from experiments.common.weights import load_strict, without_prefix
from experiments.mmv.model import Towers

ROOT = "text_audio_video/"
PARTS = ("video", "audio", "text", "video_fine", "video_coarse", "coarse", "audio_fine", "text_coarse")
"""Modules of `MMV`."""
SEEN = {
    "fac": {"vid2audio_embd": "video_fine", "vis_embd": "coarse"},
    "disjoint": {"vid2audio_embd": "video_fine", "vis_embd": "video_coarse"},
    "shared": {"vis_embd": "video_fine"},
}
"""Graph -> their heads of pictures, and ours."""


def _heads(graph: str) -> list[Entry]:
    theirs, found = f"{ROOT}~_get_pair_embedding_heads", []
    for name, ours in SEEN[graph].items():
        if ours == "coarse":
            found += [*module(f"{theirs}/{name}/final_projection", "coarse.1"), *norm(f"{theirs}/{name}", "coarse.2")]
            continue
        found += module(f"{theirs}/{name}/final_projection_inner", f"{ours}.0")
        found += module(f"{theirs}/{name}/final_projection", f"{ours}.3")
        found += [*norm(f"{theirs}/{name}", f"{ours}.1"), *norm(f"{theirs}/{name}", f"{ours}.4", 1)]
    found += module(f"{theirs}/audio_embd/final_projection", "audio_fine")
    found += module(f"{theirs}/txt_embd/final_projection", "text_coarse")
    return [*found, (rf"{theirs}/(?:audio2txt|txt2audio)_embd/.+", None)]


def table(graph: str) -> Table:
    """How their weights of a graph become ours."""
    visual = f"{ROOT}visual_module/~"
    names = [
        *s3d(f"{visual}/S3D", "video"),
        *resnet_v2(f"{visual}/TSMResNetV2", "tsm_resnet_unit", "video.frames"),
        *resnet_v2(f"{ROOT}audio_module/~/res_net_v2", "block_group", "audio"),
        *module(f"{ROOT}text_module/~/text_conv1", "text.fc"),
        (f"{ROOT}text_module/~/embed/embeddings", None),  # word2vec's, without the words that they belong to
        *_heads(graph),
    ]
    shapes = (
        (r"video\.frames\.stages\..*conv0\.weight", unshifted),
        (r"(?:.*(?:norm\w*|norms\.\d|_fine\.[14]|_coarse\.[14])|coarse\.2)\.(?!num)\w+", flat),
        (r"(?:.*gate|text\.fc|\w+_(?:fine|coarse)(?:\.[03])?|coarse\.1)\.weight", linear),
        (r"(?:video|audio)\..*weight", convolution),
    )
    return Table(tuple(names), shapes)


def load(net: Towers, weights: Mapping[str, Tensor], graph: str) -> None:
    """Loads the released weights or our own into `net`, which may lack parts that these have.

    Raises:
        ValueError: naming every key that does not fit.
    """
    if any(key.startswith(ROOT) for key in weights):
        weights = table(graph).renamed(weights)
    lacking = tuple(part for part in PARTS if not hasattr(net, part))
    load_strict(net, without_prefix(weights, "net."), unused=(*lacking, "words"))
