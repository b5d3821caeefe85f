"""A share of the training clips, for methods that are to learn from few labels."""

from __future__ import annotations

import math
from dataclasses import replace

import pandas as pd

from datamodules.keyed import stable_hash
from datamodules.manifest.build import Manifest
from datamodules.manifest.exclusions import EXAMPLES
from datamodules.source import DataError

NOT_OF_SHARE = "not of data.train_share"
"""The reason for which a clip is left out."""


def share_of(manifest: Manifest, share: float) -> Manifest:
    """The clips that are among the first of their class by a hash of their ids, up to the share, rounded up, of all
    that are listed; where a clip may have several classes or has none, among the first of all.

    They are chosen whether they can be used or not, so that no clip takes the place of one that is missing.

    Args:
        manifest: of the training clips.
        share: above 0; 1 = all.

    Raises:
        DataError: its rows are no clips, or none of the chosen clips can be used.
    """
    if share == 1:
        return manifest
    if manifest.steps:
        raise DataError(f"data.train_share={share:g}: each second is a row here, and no clip; leave it out")
    listed = pd.concat([manifest.table[["clip_id", "labels"]], manifest.left_out[["clip_id", "labels"]]])
    single = not manifest.multilabel
    labels = [each[0] if single and len(each) else -1 for each in listed["labels"]]
    about = pd.DataFrame(
        {"label": labels, "order": [stable_hash("share", clip_id) for clip_id in listed["clip_id"]]},
        index=listed["clip_id"],
    ).sort_values("order")
    classes = about.groupby("label")["order"]
    first = classes.cumcount() < (classes.transform("size") * share).map(_rounded_up)
    kept = manifest.table["clip_id"].isin(about.index[first])
    if not kept.any():
        raise DataError(f"data.train_share={share:g}: none of the clips that it chooses can be used")
    others = manifest.table["clip_id"][~kept]
    return replace(
        manifest,
        table=manifest.table[kept].reset_index(drop=True),
        excluded=manifest.excluded | ({NOT_OF_SHARE: len(others)} if len(others) else {}),
        examples=manifest.examples | {NOT_OF_SHARE: others.head(EXAMPLES).tolist()},
    )


def _rounded_up(count: float) -> int:
    """0.1 * 30 is 3.0000000000000004."""
    return math.ceil(count - 1e-9)
