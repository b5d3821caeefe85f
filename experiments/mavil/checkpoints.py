"""Weights from elsewhere: the layout of the authors' checkpoints (as AV-SUPERB's class reads them), and image MAEs.

Their class and ours compute the same, only the names differ:

    cls_token, patch_embed.proj.*, blocks.*          ->  trunk.audio.{cls_token, patch_embed.*, blocks.*}
    the same with the suffix _v                      ->  trunk.video.*
    blocks_av.*                                      ->  trunk.fusion.blocks.*
    fc_norm_av.*, fc_norm_a.*, fc_norm_v.*; head_*.* ->  norm.*; head.*

The position tables (`pos_embed`, `pos_embed_v`) are fixed, so they are compared with ours instead of loaded; a file of
longer or shorter clips has the table of their length. The parts that only pretraining uses (`norm`, `decoder_*`,
`mask_token`) are left out: their code was never released.

An image MAE goes into the video encoder, the fusion blocks and, where the file has it, the video decoder:

    norm, mask_token, decoder_{embed, blocks, norm}  ->  video_decoder.{norm_in, mask_token, embed, blocks, norm}
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from datamodules.types import Modality
from experiments.common.checkpoints.table import Table
from experiments.common.weights import matches
from experiments.mavil.model import Encoder, Trunk

OFFICIAL = (
    (r"cls_token", "trunk.audio.cls_token"),
    (r"cls_token_v", "trunk.video.cls_token"),
    (r"patch_embed\.proj\.(weight|bias)", r"trunk.audio.patch_embed.\1"),
    (r"patch_embed_v\.proj\.(weight|bias)", r"trunk.video.patch_embed.\1"),
    (r"blocks\.(.+)", r"trunk.audio.blocks.\1"),
    (r"blocks_v\.(.+)", r"trunk.video.blocks.\1"),
    (r"blocks_av\.(.+)", r"trunk.fusion.blocks.\1"),
    (r"pos_embed(_v)?", None),
    (r"(norm|norm_v|mask_token|mask_token_v|decoder_.+)(\..+)?", None),
)
POSITIONS = {"pos_embed": "audio", "pos_embed_v": "video"}
IMAGE_MAE = (
    (r"cls_token", "trunk.video.cls_token"),
    (r"patch_embed\.proj\.(weight|bias)", r"trunk.video.patch_embed.\1"),
    (r"norm\.(.+)", r"video_decoder.norm_in.\1"),
    (r"mask_token", "video_decoder.mask_token"),
    (r"decoder_(embed|blocks|norm)\.(.+)", r"video_decoder.\1.\2"),
    (r"(pos_embed|decoder_pos_embed|decoder_pred|fc_norm|head)(\..+)?", None),
)
FLAT = (r".+\.(cls|mask)_token", torch.flatten)
"""Their CLS and mask tokens are [1, 1, D], ours [D]."""


def is_official(weights: Mapping[str, Tensor]) -> bool:
    """Whether the keys are those of the authors' checkpoints."""
    return any(key.startswith("blocks_v.") for key in weights)


def is_image_mae(weights: Mapping[str, Tensor]) -> bool:
    """Whether the keys are those of an image MAE (facebookresearch/mae `mae_pretrain_vit_base.pth`)."""
    return "blocks.0.attn.qkv.weight" in weights and not is_official(weights)


def translated(weights: Mapping[str, Tensor], trunk: Trunk, modality: Modality = "av") -> Mapping[str, Tensor]:
    """Weights under our names, whether they are ours or the authors'; see `from_official`."""
    if not is_official(weights):
        return weights
    positions = {name: part.positions_of for name, part in trunk.named_children() if isinstance(part, Encoder)}
    return from_official(weights, modality, positions)


def from_official(
    weights: Mapping[str, Tensor], modality: Modality, positions: Mapping[str, Callable[[int], Tensor]]
) -> dict[str, Tensor]:
    """The authors' keys -> ours.

    Args:
        weights: the dict under `model` of a checkpoint file.
        modality: whose classifier is meant, where the file has several; the others are left out.
        positions: of the `audio` and `video` that are in use, what makes our [1 + L, D] table of L patches.

    Raises:
        ValueError: naming the keys that have no place here, or a position table that differs from ours.
    """
    for key in POSITIONS.keys() & weights.keys():
        _check_positions(key, weights[key], positions.get(POSITIONS[key]))
    classifier = (
        (rf"fc_norm_{modality}\.(weight|bias)", r"norm.\1"),
        (rf"head_{modality}\.(weight|bias)", r"head.\1"),
        (r"(fc_norm|head)_(a|v|av)\.(weight|bias)", None),
    )
    return Table((*OFFICIAL, *classifier), (FLAT,)).renamed(weights)


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
    """An image MAE -> our video encoder and its decoder; its last block -> every fusion block (av-superb `load_mae`).

    The patch kernel is repeated over the frames of a tubelet and, as there, not divided by their number. Left out are
    the tables of positions (`model.video_positions=tiled` has those that belong to it), the decoder's last layer, as it
    predicts a patch of one frame, and what a fine-tuned file classifies with.

    Raises:
        ValueError: naming the keys that an image MAE does not have.
    """
    last = max(int(key.split(".")[1]) for key in weights if key.startswith("blocks."))
    fusion = tuple(rf"trunk.fusion.blocks.{block}.\1" for block in range(fusion_depth))
    blocks = (
        (rf"blocks\.{last}\.(.+)", (rf"trunk.video.blocks.{last}.\1", *fusion)),
        (r"blocks\.(.+)", r"trunk.video.blocks.\1"),
    )
    kernel = (r".+\.patch_embed\.weight", lambda picture: picture[:, :, None].repeat(1, 1, tubelet, 1, 1))
    return Table((*blocks, *IMAGE_MAE), (FLAT, kernel)).renamed(weights)


def fresh_after_image_mae(weights: Mapping[str, Tensor]) -> tuple[str, ...]:
    """The parts of stage 1 that an image MAE's file says nothing of."""
    decoder = "video_decoder.predict" if matches("decoder_embed.weight", tuple(weights)) else "video_decoder"
    return "trunk.audio", "audio_decoder", decoder


def _check_positions(key: str, theirs: Tensor, ours: Callable[[int], Tensor] | None) -> None:
    """Fixed tables must agree; a table of zeros says nothing (an untrained shell)."""
    if ours is None or not theirs.any():
        return
    table_SD = ours(theirs.shape[1] - 1).to(theirs)
    if theirs.shape[1:] != table_SD.shape:
        raise ValueError(f"{key}: shape {list(theirs.shape[1:])}, but the inputs make {list(table_SD.shape)}")
    difference = (theirs[0] - table_SD).abs().max().item()
    if difference > 1e-4:
        option = "audio_positions" if key == "pos_embed" else "video_positions"
        raise ValueError(f"{key}: differs from our table by up to {difference:.3g}; try another model.{option}")
