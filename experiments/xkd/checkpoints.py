"""Weights from elsewhere: the authors' checkpoints of pretraining, and the encoders that they released by themselves.

Their classes and ours compute the same, only the names differ:

    vid_student.backbone.*, aud_teacher.backbone.*, ...  ->  student.encoder.v.*, net.encoder.a.*, ...
      cuboid_embed.proj, patch_embed.proj                ->    patch_embed
      enc_pos_embed; encoder.blocks; encoder_norm        ->    positions; blocks; norm
    vid_student.head.mlp.{0, 3, 6}                       ->  student.head.v.{first, second, third}
      mlp.1, which is mlp.4, too; last_layer.weight_v    ->    norm; prototypes.weight
    vid_ae.{mid_proj, decoder.blocks, out_proj, ...}     ->  decoder.v.{embed, blocks, predict, ...}
    vt2as_ce_loss.center, at2vs_ce_loss.center           ->  target.{v, a}.centre

Left out is what they hold twice (`vid_ae.encoder`, `mlp.4`), and the gain of the prototypes, which is 1.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from experiments.common.checkpoints.table import Entry, Table, bare
from experiments.common.weights import without_prefix

_NETWORK = r"([va])(?:id|ud)_(student|teacher)\."
_DECODER = r"([va])(?:id|ud)_ae\."


def _encoder(theirs: str, ours: str, groups: int) -> tuple[Entry, ...]:
    """Of an encoder's weights under a prefix of `groups` groups."""
    rest = rf"\{groups + 1}"
    return (
        (theirs + "cls_token", ours + "cls_token"),
        (theirs + "enc_pos_embed", ours + "positions"),
        (theirs + r"(?:cuboid|patch)_embed\.proj\.(.+)", ours + "patch_embed." + rest),
        (theirs + r"encoder\.(blocks\..+)", ours + rest),
        (theirs + r"encoder_norm\.(.+)", ours + "norm." + rest),
    )


PRETRAINED = Table(
    (
        *_encoder(_NETWORK + r"backbone\.", r"\2.encoder.\1.", 2),
        (_NETWORK + r"head\.mlp\.0\.(.+)", r"\2.head.\1.first.\3"),
        (_NETWORK + r"head\.mlp\.1\.(.+)", r"\2.head.\1.norm.\3"),
        (_NETWORK + r"head\.mlp\.3\.(.+)", r"\2.head.\1.second.\3"),
        (_NETWORK + r"head\.mlp\.6\.(.+)", r"\2.head.\1.third.\3"),
        (_NETWORK + r"head\.last_layer\.weight_v", r"\2.head.\1.prototypes.weight"),
        (_NETWORK + r"head\.(?:mlp\.4\..+|last_layer\.weight_g)", None),
        (_DECODER + r"encoder\..+", None),
        (_DECODER + r"mid_proj\.(.+)", r"decoder.\1.embed.\2"),
        (_DECODER + r"out_proj\.(.+)", r"decoder.\1.predict.\2"),
        (_DECODER + r"dec_pos_embed", r"decoder.\1.positions"),
        (_DECODER + r"mask_token", r"decoder.\1.mask_token"),
        (_DECODER + r"decoder\.(blocks\..+)", r"decoder.\1.\2"),
        (r"([va])t2[va]s_ce_loss\.center", r"target.\1.centre"),
    )
)


def pretrained(weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Those of `Pretrain`, ours or the authors', under our names.

    Raises:
        ValueError: naming the keys of theirs that have no place here.
    """
    if not any(key.startswith("vid_student.") for key in bare(weights)):
        return weights
    ours = PRETRAINED.renamed(weights)
    return {re.sub("^teacher", "net", key): value for key, value in ours.items()}


def encoder_weights(weights: Mapping[str, Tensor], network: str) -> Mapping[str, Tensor]:
    """Those of `Encoding`, and what there is beside them.

    Args:
        weights: of a pretraining, ours or the authors'; or an encoder that they released.
        network: whose encoders are meant, `student` or `teacher`, where there are both.

    Raises:
        ValueError: naming the keys of theirs that have no place here.
    """
    if "encoder_norm.weight" in (theirs := bare(weights)):
        modality = "v" if "cuboid_embed.proj.weight" in theirs else "a"
        return Table(_encoder("", f"encoder.{modality}.", 0)).renamed(theirs)
    ours = without_prefix(pretrained(weights), "net.")
    students = {key.removeprefix("student."): value for key, value in ours.items() if key.startswith("student.")}
    return {**ours, **students} if network == "student" else ours
