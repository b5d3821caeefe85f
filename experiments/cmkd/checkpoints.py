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
from torchvision.models.efficientnet import MBConv

from experiments.cmkd.model import AST, CNN, PSLA, TORCHVISION, adapt_positions, mono_kernel, patch_grid
from experiments.common.weights import load_strict, matches

DEIT = {
    192: "deit_tiny_distilled_patch16_224",
    384: "deit_small_distilled_patch16_224",
    768: "deit_base_distilled_patch16_384",
}
"""What AST starts from, by its channels (`ast_models.py`); names of timm."""
EFFICIENTNET_B2 = "https://github.com/lukemelas/EfficientNet-PyTorch/releases/download/1.0/efficientnet-b2-8bb594d6.pth"
"""What PSLA starts from: efficientnet_pytorch's own file (its `utils.py`)."""

_OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|conv))\.(\d)")
"""torchvision's file of DenseNet is older than its code, and has a dot too many."""
_IMAGENET_HEADS = ("head", "head_dist", "classifier", "_fc")
_AUDIOSET_MEL_BINS, _AUDIOSET_FRAMES = 128, 1024
_STRIDES = "another model.ast.stride and time_stride, or options.strides of the stage?"
_STEMS = {"patch_embed.weight", "features.0.0.weight", "features.conv0.weight"}
"""Kernels that see the input; of AST, of EfficientNets and of DenseNet."""
_CLASSIFIERS = ("head.weight", "head.1.weight", "head.cla.0.weight")
"""Weights as long as there are classes; of mean pooling, of AST and of attention pooling."""
_MODULES = (
    ("_expand_conv", "_bn0"),
    ("_depthwise_conv", "_bn1"),
    ("_se_reduce", "_se_expand"),
    ("_project_conv", "_bn2"),
)
"""efficientnet_pytorch's names of the two modules in each layer of a block; some blocks lack the first."""


def is_official_ast(weights: Mapping[str, Tensor]) -> bool:
    """Whether the keys are those of AST's released files."""
    return "v.patch_embed.proj.weight" in _bare(weights)


def is_official_psla(weights: Mapping[str, Tensor]) -> bool:
    """Whether the keys are those of PSLA's released files."""
    return "effnet._conv_stem.weight" in _bare(weights)


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
    new: tuple[str, ...] = ()
    if is_official_ast(weights) or is_official_psla(weights):
        ours = from_official(weights, net)
    elif is_imagenet(weights):
        ours = from_imagenet(weights, net)
        new = ("head", "features.0.0") if isinstance(net, PSLA) else ("head",)
    else:
        ours = _resized(weights, net, net.grid[0]) if isinstance(net, AST) else dict(weights)
    if _classes(ours) not in (None, _classes(net.state_dict())):
        ours = {key: value for key, value in ours.items() if not matches(key, ("head",))}
        new = ("head",)
    load_strict(net, ours, new=new)


# --- the authors' files ---------------------------------------------------------------------------------------


def from_official(weights: Mapping[str, Tensor], net: AST | PSLA) -> dict[str, Tensor]:
    """The keys of AST's and PSLA's files -> those of `net`, with positions for its input's size.

    Raises:
        ValueError: naming the keys that have no place in `net`.
    """
    names = {theirs: ours for ours, theirs in _official_names(net).items()}
    ours: dict[str, Tensor] = {}
    unknown: list[str] = []
    for key, value in _bare(weights).items():
        if key in names:
            ours[names[key]] = _flat(names[key], value)
        elif not matches(key, ("v.head", "v.head_dist", "effnet._fc")):
            unknown.append(key)
    if unknown:
        raise ValueError(f"keys of the checkpoint that {type(net).__name__} does not have: " + ", ".join(unknown))
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


def _bare(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without the `module.` of DataParallel."""
    return {key.removeprefix("module."): value for key, value in weights.items()}


def _official_names(net: AST | PSLA) -> dict[str, str]:
    """Our keys -> the authors'."""
    if isinstance(net, AST):
        return {key: _ast_name(key) for key in net.state_dict()}
    if not isinstance(net, PSLA):
        raise ValueError("the authors' files are of AST and PSLA; CMKD's CNN was never released")
    heads = {key: "attention." + key.removeprefix("head.") for key in net.state_dict() if key.startswith("head.")}
    heads["head.weight_H"] = "attention.head_weight"
    return {**{key: f"effnet.{name}" for key, name in _efficientnet_names(net).items()}, **heads}


def _ast_name(key: str) -> str:
    part, _, rest = key.partition(".")
    special = {"positions": "v.pos_embed", "patch_embed": f"v.patch_embed.proj.{rest}", "head": f"mlp_head.{rest}"}
    return special.get(part, f"v.{key}")


def _efficientnet_names(net: PSLA) -> dict[str, str]:
    """Our keys of the features -> efficientnet_pytorch's."""
    modules = {
        "features.0.0": "_conv_stem",
        "features.0.1": "_bn0",
        "features.8.0": "_conv_head",
        "features.8.1": "_bn1",
    }
    blocks = [(name, module.block) for name, module in net.named_modules() if isinstance(module, MBConv)]
    for index, (name, layers) in enumerate(blocks):
        for layer, (first, second) in enumerate(_MODULES[-len(layers) :]):
            pair = ("fc1", "fc2") if first == "_se_reduce" else ("0", "1")
            modules[f"{name}.block.{layer}.{pair[0]}"] = f"_blocks.{index}.{first}"
            modules[f"{name}.block.{layer}.{pair[1]}"] = f"_blocks.{index}.{second}"
    names = {}
    for key in net.state_dict():
        module, _, parameter = key.rpartition(".")
        if module in modules:
            names[key] = f"{modules[module]}.{parameter}"
    return names


def _flat(key: str, value: Tensor) -> Tensor:
    """Their tokens are [1, 1, D], their positions [1, S, D], their heads' convolutions [C, D, 1, 1]."""
    if key in ("cls_token", "dist_token"):
        return value.flatten()
    if key == "positions":
        return value.flatten(0, 1)
    return value[..., 0] if value.ndim == 4 and key.startswith("head.") else value


def _classes(weights: Mapping[str, Tensor]) -> int | None:
    """How many classes our head is for; None where there is no head."""
    return next((len(weights[key]) for key in _CLASSIFIERS if key in weights), None)


def _resized(ours: Mapping[str, Tensor], net: AST, rows: int) -> dict[str, Tensor]:
    """With positions for `net`'s input, from a grid of `rows` mel rows."""
    if "positions" not in ours:
        return dict(ours)
    patches = len(ours["positions"]) - 2
    if patches % rows:
        raise ValueError(f"positions: {patches} patches do not make {rows} rows; {_STRIDES}")
    return {**ours, "positions": adapt_positions(ours["positions"], (rows, patches // rows), net.grid)}


# --- ImageNet -------------------------------------------------------------------------------------------------


def imagenet(net: AST | CNN | PSLA) -> dict[str, Tensor]:
    """What the authors start such a network from, from the libraries' servers; for `load`.

    Raises:
        ValueError: there is none for this size, or it could not be downloaded.
    """
    try:
        if isinstance(net, AST):
            if net.config.dim not in DEIT:
                raise ValueError(f"ImageNet has no AST of model.ast.dim={net.config.dim}, only of {sorted(DEIT)}")
            return timm.create_model(DEIT[net.config.dim], pretrained=True).state_dict()
        if isinstance(net, PSLA):
            return torch.hub.load_state_dict_from_url(EFFICIENTNET_B2, map_location="cpu", weights_only=True)
        if net.config.backbone not in TORCHVISION:
            raise ValueError(f"ImageNet has no model.cnn.backbone={net.config.backbone}, only {', '.join(TORCHVISION)}")
        return TORCHVISION[net.config.backbone](weights="DEFAULT").state_dict()
    except OSError as error:  # URLError is one
        raise ValueError(f"ImageNet's weights could not be downloaded ({error}); set init=FILE to a copy") from error


def from_imagenet(weights: Mapping[str, Tensor], net: AST | CNN | PSLA) -> dict[str, Tensor]:
    """timm's distilled DeiT, torchvision's CNNs or efficientnet_pytorch -> the keys of `net`, without a head.

    The first kernel becomes one of a single channel: summed or averaged for AST (`model.ast.mono`), averaged for CNNs
    (CMKD's text); PSLA's is left out, as efficientnet_pytorch draws it anew where there is one channel.

    Raises:
        ValueError: naming the keys that have no place in `net`.
    """
    names = {theirs: ours for ours, theirs in _imagenet_names(net).items()}
    ours: dict[str, Tensor] = {}
    unknown: list[str] = []
    for key, value in weights.items():
        key = _OLD_DENSENET.sub(r"\1\2", key)
        if key in names:
            ours[names[key]] = _flat(names[key], value)
        elif not matches(key, _IMAGENET_HEADS):
            unknown.append(key)
    if unknown:
        raise ValueError(f"keys of the checkpoint that {type(net).__name__} does not have: " + ", ".join(unknown))
    for key, value in net.state_dict().items():
        if key.endswith("num_batches_tracked"):  # which batch norm of old files did not count
            ours.setdefault(key, torch.zeros_like(value))
    for stem in _STEMS & ours.keys():
        ours[stem] = mono_kernel(ours[stem], net.config.mono if isinstance(net, AST) else "mean")
    if isinstance(net, PSLA):
        ours.pop("features.0.0.weight", None)
    if isinstance(net, AST) and "positions" in ours:
        return _resized(ours, net, math.isqrt(len(ours["positions"]) - 2))  # pictures are square
    return ours


def _imagenet_names(net: AST | CNN | PSLA) -> dict[str, str]:
    """Our keys but the head's -> the picture network's."""
    if isinstance(net, PSLA):
        return _efficientnet_names(net)
    own = [key for key in net.state_dict() if not key.startswith("head.")]
    if isinstance(net, AST):
        return {key: _ast_name(key).removeprefix("v.") for key in own}
    return {key: key for key in own}
