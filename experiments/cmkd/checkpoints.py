"""Weights from elsewhere: the authors' released AST and PSLA files, and what their networks start from on ImageNet.

Only names and a few shapes differ from ours (`module.` before a name is left out):

    AST   v.{cls_token, dist_token, patch_embed.proj.*, blocks.*, norm.*}  ->  the same without `v.` and `proj.`
          v.pos_embed                                                      ->  positions, adapted to the input's size
          mlp_head.{0, 1}.*                                                ->  head.{0, 1}.*
    PSLA  effnet.*                                                         ->  features.*, in torchvision's names
          attention.{head_weight, att.*, cla.*}                            ->  head.{weight_H, att.*, cla.*}

Left out knowingly are the heads for ImageNet's classes, which both files may still hold.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

import timm
import torch
from torch import Tensor

from experiments.cmkd.model import AST, CNN, PSLA, TORCHVISION, adapt_positions, patch_grid
from experiments.common.checkpoints.efficientnet import efficientnet_pytorch_names
from experiments.common.checkpoints.heads import HEAD, without_other_head
from experiments.common.checkpoints.library import offered
from experiments.common.checkpoints.table import Table, bare
from experiments.common.networks.convolutions import one_channel
from experiments.common.weights import load_strict

DEIT = {
    192: "deit_tiny_distilled_patch16_224",
    384: "deit_small_distilled_patch16_224",
    768: "deit_base_distilled_patch16_384",
}
"""What AST starts from, by its channels (`ast_models.py`); names of timm."""
EFFICIENTNET_B2 = "https://github.com/lukemelas/EfficientNet-PyTorch/releases/download/1.0/efficientnet-b2-8bb594d6.pth"
"""What PSLA starts from: efficientnet_pytorch's own file (its `utils.py`)."""

WEIGHTS = "ImageNet's weights"
_OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|conv))\.(\d)")
"""torchvision's file of DenseNet is older than its code, and has a dot too many."""
_AUDIOSET_MEL_BINS, _AUDIOSET_FRAMES = 128, 1024
_STRIDES = "another model.ast.stride and time_stride, or options.strides of the stage?"
_STEMS = {"patch_embed.weight", "features.0.0.weight", "features.conv0.weight"}
"""Kernels that see the input; of AST, of EfficientNets and of DenseNet."""
_CLASSIFIERS = ("head.weight", "head.1.weight", "head.cla.0.weight")
"""Weights as long as there are classes; of mean pooling, of AST and of attention pooling."""
_SHAPES = (
    (r"(cls|dist)_token", torch.flatten),
    (r"positions", lambda positions_1SD: positions_1SD.flatten(0, 1)),
    (r"head\..+", lambda value: value[..., 0] if value.ndim == 4 else value),  # their heads are convolutions
)


def is_official_ast(weights: Mapping[str, Tensor]) -> bool:
    """Whether the keys are those of AST's released files."""
    return "v.patch_embed.proj.weight" in bare(weights)


def is_official_psla(weights: Mapping[str, Tensor]) -> bool:
    """Whether the keys are those of PSLA's released files."""
    return "effnet._conv_stem.weight" in bare(weights)


def is_imagenet(weights: Mapping[str, Tensor]) -> bool:
    """Whether they are a picture network's: timm's distilled DeiT, torchvision's CNNs or efficientnet_pytorch."""
    stems = ("patch_embed.proj.weight", "features.0.0.weight", "features.conv0.weight", "_conv_stem.weight")
    return any(weights[stem].shape[1] == 3 for stem in stems if stem in weights)


def load(net: AST | CNN | PSLA, weights: Mapping[str, Tensor]) -> None:
    """Starts `net` from the authors' weights, from ImageNet's, or from another network of ours.

    Positions are adapted to the size of the input. The head is new where the weights' is for other classes: for another
    number of them, or for ImageNet's.

    Raises:
        ValueError: naming every key that should have matched and did not. Nothing is loaded then.
    """
    if is_imagenet(weights):
        stem = ("features.0.0",) if isinstance(net, PSLA) else ()
        load_strict(net, from_imagenet(weights, net), new=(*HEAD, *stem))
        return
    ours: Mapping[str, Tensor]
    if is_official_ast(weights) or is_official_psla(weights):
        ours = from_official(weights, net)
    else:
        ours = _resized(weights, net, net.grid[0]) if isinstance(net, AST) else dict(weights)
    ours, new = without_other_head(ours, net.state_dict(), _CLASSIFIERS)
    load_strict(net, ours, new=new)


# --- the authors' files ---------------------------------------------------------------------------------------


def from_official(weights: Mapping[str, Tensor], net: AST | CNN | PSLA) -> dict[str, Tensor]:
    """The keys of AST's and PSLA's files -> those of `net`, with positions for its input's size.

    Raises:
        ValueError: naming the keys that have no place in `net`.
    """
    names = {theirs: ours for ours, theirs in _official_names(net).items()}
    heads = (r"(v\.head|v\.head_dist|effnet\._fc)\..+", None)
    ours = Table((heads,), _SHAPES, names).renamed(weights)
    if isinstance(net, AST):
        rows = patch_grid(net.config, net.config.patch, _AUDIOSET_MEL_BINS)[0]
        _check_stride(ours, net, rows)
        return _resized(ours, net, rows)
    return ours


def _check_stride(ours: Mapping[str, Tensor], net: AST, rows: int) -> None:
    """Positions of another stride in time would pass for those of a shorter or longer input."""
    have, stride = (len(ours["positions"]) - 2) // rows if "positions" in ours else 0, net.config.strides[1]
    columns = {s: (_AUDIOSET_FRAMES - net.config.patch) // s + 1 for s in range(1, net.config.patch + 1)}
    if have in columns.values() and have != columns.get(stride):
        theirs = next(s for s, count in columns.items() if count == have)
        raise ValueError(
            f"positions: {have} columns are those of a stride of {theirs} frames, not of {stride}; {_STRIDES}"
        )


def to_official(net: AST | PSLA) -> dict[str, Tensor]:
    """Our weights in the authors' keys and shapes, for their classes; ImageNet's heads are left out."""
    weights, theirs = net.state_dict(), {}
    for key, name in _official_names(net).items():
        value = weights[key]
        if key in ("cls_token", "dist_token", "positions"):
            value = value.reshape(1, -1, value.shape[-1])
        elif name.startswith("attention.") and value.ndim == 3:
            value = value[..., None]
        theirs[name] = value
    return theirs


def _official_names(net: AST | CNN | PSLA) -> dict[str, str]:
    """Our keys -> the authors'."""
    if isinstance(net, AST):
        return {key: _ast_name(key) for key in net.state_dict()}
    if not isinstance(net, PSLA):
        raise ValueError("the authors' files are of AST and PSLA; CMKD's CNN was never released")
    heads = {key: "attention." + key.removeprefix("head.") for key in net.state_dict() if key.startswith("head.")}
    heads["head.weight_H"] = "attention.head_weight"
    return {**{key: f"effnet.{name}" for key, name in efficientnet_pytorch_names(net).items()}, **heads}


def _ast_name(key: str) -> str:
    part, _, rest = key.partition(".")
    special = {"positions": "v.pos_embed", "patch_embed": f"v.patch_embed.proj.{rest}", "head": f"mlp_head.{rest}"}
    return special.get(part, f"v.{key}")


def _resized(ours: Mapping[str, Tensor], net: AST, rows: int) -> dict[str, Tensor]:
    """With positions for `net`'s input, from a grid of `rows` mel rows."""
    if "positions" not in ours:
        return dict(ours)
    patches = len(ours["positions"]) - 2
    if patches % rows:
        raise ValueError(f"positions: {patches} patches do not make {rows} rows; {_STRIDES}")
    return {**ours, "positions": adapt_positions(ours["positions"], (rows, patches // rows), net.grid)}


# --- ImageNet -------------------------------------------------------------------------------------------------


def imagenet(net: AST | CNN | PSLA) -> Mapping[str, Tensor]:
    """What the authors start such a network from, from the libraries' servers; for `load`.

    Raises:
        ValueError: there is none for this size, or it could not be downloaded.
    """
    if isinstance(net, AST):
        if net.config.dim not in DEIT:
            raise ValueError(f"ImageNet has no AST of model.ast.dim={net.config.dim}, only of {sorted(DEIT)}")
        name = DEIT[net.config.dim]
        return offered(lambda: timm.create_model(name, pretrained=True).state_dict(), WEIGHTS, f"timm's {name}")
    if isinstance(net, PSLA):
        get = torch.hub.load_state_dict_from_url
        return offered(lambda: get(EFFICIENTNET_B2, map_location="cpu", weights_only=True), WEIGHTS, EFFICIENTNET_B2)
    name = net.config.backbone
    if name not in TORCHVISION:
        raise ValueError(f"ImageNet has no model.cnn.backbone={name}, only {', '.join(TORCHVISION)}")
    return offered(lambda: TORCHVISION[name](weights="DEFAULT").state_dict(), WEIGHTS, f"torchvision's {name}")


def from_imagenet(weights: Mapping[str, Tensor], net: AST | CNN | PSLA) -> dict[str, Tensor]:
    """timm's distilled DeiT, torchvision's CNNs or efficientnet_pytorch -> the keys of `net`, without a head.

    The first kernel becomes one of a single channel: summed or averaged for AST (`model.ast.mono`), averaged for CNNs
    (CMKD's text); PSLA's is left out, as efficientnet_pytorch draws it anew where there is one channel.

    Raises:
        ValueError: naming the keys that have no place in `net`.
    """
    names = {theirs: ours for ours, theirs in _imagenet_names(net).items()}
    heads = (r"(head|head_dist|classifier|_fc)\..+", None)
    theirs = {_OLD_DENSENET.sub(r"\1\2", key): value for key, value in weights.items()}
    ours = Table((heads,), _SHAPES, names).renamed(theirs)
    for key, value in net.state_dict().items():
        if key.endswith("num_batches_tracked"):  # which batch norm of old files did not count
            ours.setdefault(key, torch.zeros_like(value))
    for stem in _STEMS & ours.keys():
        ours[stem] = one_channel(ours[stem], net.config.mono if isinstance(net, AST) else "mean")
    if isinstance(net, PSLA):
        ours.pop("features.0.0.weight", None)
    if isinstance(net, AST) and "positions" in ours:
        return _resized(ours, net, math.isqrt(len(ours["positions"]) - 2))  # pictures are square
    return ours


def _imagenet_names(net: AST | CNN | PSLA) -> dict[str, str]:
    """Our keys but the head's -> the picture network's."""
    if isinstance(net, PSLA):
        return efficientnet_pytorch_names(net)
    own = [key for key in net.state_dict() if not key.startswith("head.")]
    if isinstance(net, AST):
        return {key: _ast_name(key).removeprefix("v.") for key in own}
    return {key: key for key in own}
