"""Weights from elsewhere: state dicts of kyuyeonpooh/objects-that-sound (`AVENet`, `AVOLNet`, `L3Net`).

    icn.*, acn.*                 ->  image.*, sound.*
    img_fc1, img_fc2             ->  image_head.0, .2
    im_conv5, im_conv6           ->  image_head.0, .2
    aud_fc1, aud_fc2             ->  sound_head.0, .2
    fc3, fus_conv7               ->  fc3, conv7
    fc1, fc2                     ->  fusion.0, .2

Both logits mean the same as theirs: the first one that picture and sound belong together. Their AVOL-Net is trained
with the label 1 for pairs that do not, so that its maximum is of what speaks against a pair.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from experiments.avenet.model import Correspondence
from experiments.common.checkpoints.table import Table
from experiments.common.weights import load_strict

TABLE = Table(
    (
        (r"icn\.(.+)", r"image.\1"),
        (r"acn\.(.+)", r"sound.\1"),
        (r"(?:img_fc1|im_conv5)\.(.+)", r"image_head.0.\1"),
        (r"(?:img_fc2|im_conv6)\.(.+)", r"image_head.2.\1"),
        (r"aud_fc1\.(.+)", r"sound_head.0.\1"),
        (r"aud_fc2\.(.+)", r"sound_head.2.\1"),
        (r"fus_(conv7\..+)", r"\1"),
        (r"(fc3\..+)", r"\1"),
        (r"fc1\.(.+)", r"fusion.0.\1"),
        (r"fc2\.(.+)", r"fusion.2.\1"),
    )
)


def load(net: Correspondence, weights: Mapping[str, Tensor]) -> None:
    """Fills the network with its own weights or the reproduction's.

    Raises:
        ValueError: naming every key that is missing, unknown or of another shape.
    """
    theirs = any(key.removeprefix("module.").startswith(("icn.", "acn.")) for key in weights)
    load_strict(net, TABLE.renamed(weights) if theirs else weights)
