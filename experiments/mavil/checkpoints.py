"""Weights from elsewhere: the layout of the authors' checkpoints (as AV-SUPERB's class reads them), and image MAEs.

Their class and ours compute the same, only the names differ:

    cls_token, patch_embed.proj.*, blocks.*          ->  trunk.audio.{cls_token, patch_embed.*, blocks.*}
    the same with the suffix _v                      ->  trunk.video.*
    blocks_av.*                                      ->  trunk.fusion.blocks.*
    fc_norm_av.*, fc_norm_a.*, fc_norm_v.*; head_*.* ->  norm.*; head.*

The position tables (`pos_embed`, `pos_embed_v`) are fixed, so they are compared with ours instead of loaded. The
parts that only pretraining uses (`norm`, `decoder_*`, `mask_token`) are left out: their code was never released.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from datamodules.types import Modality

_OFFICIAL = (
    (r"cls_token", "trunk.audio.cls_token"),
    (r"cls_token_v", "trunk.video.cls_token"),
    (r"patch_embed\.proj\.(weight|bias)", r"trunk.audio.patch_embed.\1"),
    (r"patch_embed_v\.proj\.(weight|bias)", r"trunk.video.patch_embed.\1"),
    (r"blocks\.(.+)", r"trunk.audio.blocks.\1"),
    (r"blocks_v\.(.+)", r"trunk.video.blocks.\1"),
    (r"blocks_av\.(.+)", r"trunk.fusion.blocks.\1"),
)
_CLASSIFIER = re.compile(r"(?P<part>fc_norm|head)_(?P<modality>a|v|av)\.(?P<rest>weight|bias)")
_PRETRAINING_ONLY = re.compile(r"(norm|norm_v|mask_token|mask_token_v|decoder_.+)(\..+)?")
_POSITIONS = {"pos_embed": "audio", "pos_embed_v": "video"}


def is_official(weights: Mapping[str, Tensor]) -> bool:
    """Whether the keys are those of the authors' checkpoints."""
    return any(key.startswith("blocks_v.") for key in weights)


def is_image_mae(weights: Mapping[str, Tensor]) -> bool:
    """Whether the keys are those of an image MAE (facebookresearch/mae `mae_pretrain_vit_base.pth`)."""
    return "blocks.0.attn.qkv.weight" in weights and not is_official(weights)


def from_official(
    weights: Mapping[str, Tensor], modality: Modality, positions: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The authors' keys -> ours.

    Args:
        weights: the dict under `model` of a checkpoint file.
        modality: whose classifier is meant, where the file has several; the others are left out.
        positions: our [1 + L, D] position tables of the `audio` and `video` that are in use.

    Raises:
        ValueError: naming the keys that have no place here, or a position table that differs from ours.
    """
    ours: dict[str, Tensor] = {}
    unknown: list[str] = []
    for key, value in weights.items():
        if key in _POSITIONS:
            _check_positions(key, value, positions.get(_POSITIONS[key]))
        elif match := _CLASSIFIER.fullmatch(key):
            if match["modality"] == modality:
                ours[f"{'norm' if match['part'] == 'fc_norm' else 'head'}.{match['rest']}"] = value
        elif (name := _rename(key)) is not None:
            ours[name] = _reshape(key, value)
        elif not _PRETRAINING_ONLY.fullmatch(key):
            unknown.append(key)
    if unknown:
        raise ValueError("keys of the checkpoint that MAViL does not have: " + ", ".join(unknown))
    return ours


def to_official(weights: Mapping[str, Tensor], modality: Modality) -> dict[str, Tensor]:
    """Our keys of a stage that looks at `modality` -> the authors', for their class; decoders are left out."""
    places = (("trunk.audio.", ""), ("trunk.video.", "_v"), ("trunk.fusion.", "_av"))
    theirs: dict[str, Tensor] = {}
    for key, value in weights.items():
        for prefix, suffix in places:
            if key.startswith(prefix):
                part, _, rest = key.removeprefix(prefix).partition(".")
                if part == "cls_token":
                    theirs[f"{part}{suffix}"] = value.view(1, 1, -1)
                else:
                    theirs[f"{part}{suffix}.{'proj.' if part == 'patch_embed' else ''}{rest}"] = value
        if key.startswith("norm."):
            theirs[f"fc_norm_{modality}.{key.removeprefix('norm.')}"] = value
        if key.startswith("head."):
            theirs[f"head_{modality}.{key.removeprefix('head.')}"] = value
    return theirs


def from_image_mae(weights: Mapping[str, Tensor], fusion_depth: int, tubelet: int) -> dict[str, Tensor]:
    """An image MAE -> our video encoder, and its last block -> every fusion block (av-superb `load_mae`).

    The patch kernel is repeated over the frames of a tubelet and, as there, not divided by their number.
    `model.video_positions=tiled` is the position table that belongs to it.
    """
    encoder = {key: value for key, value in weights.items() if _rename(key) is not None}
    last = max(int(key.split(".")[1]) for key in encoder if key.startswith("blocks."))
    ours: dict[str, Tensor] = {}
    for key, value in encoder.items():
        value = _reshape(key, value)
        if key == "patch_embed.proj.weight":
            value = value[:, :, None].repeat(1, 1, tubelet, 1, 1)
        ours[_rename(key).replace("trunk.audio.", "trunk.video.")] = value
        if key.startswith(f"blocks.{last}."):
            for block in range(fusion_depth):
                ours[f"trunk.fusion.blocks.{block}.{key.split('.', 2)[2]}"] = value
    return ours


def _rename(key: str) -> str | None:
    for pattern, name in _OFFICIAL:
        if match := re.fullmatch(pattern, key):
            return match.expand(name)
    return None


def _reshape(key: str, value: Tensor) -> Tensor:
    """Their CLS tokens are [1, 1, D], ours [D]."""
    return value.flatten() if key.startswith("cls_token") else value


def _check_positions(key: str, theirs: Tensor, ours_SD: Tensor | None) -> None:
    """Fixed tables must agree where both have a token; a table of zeros says nothing (an untrained shell)."""
    if ours_SD is None or not theirs.any():
        return
    if theirs.shape[1:] != ours_SD.shape:
        raise ValueError(f"{key}: shape {list(theirs.shape[1:])}, but the inputs make {list(ours_SD.shape)}")
    difference = (theirs[0] - ours_SD.to(theirs)).abs().max().item()
    if difference > 1e-4:
        option = "audio_positions" if key == "pos_embed" else "video_positions"
        raise ValueError(f"{key}: differs from our table by up to {difference:.3g}; try another model.{option}")
