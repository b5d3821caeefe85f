"""A share of the training clips: which they are, and that no others take their places."""

from __future__ import annotations

from collections import Counter

import pandas as pd
import pytest

from datamodules.manifest.build import Manifest
from datamodules.manifest.share import NOT_OF_SHARE, share_of
from datamodules.source import DataError, class_lists


def manifest(labels: list[list[int]], missing: tuple[str, ...] = (), multilabel: bool = False) -> Manifest:
    ids = pd.Series([f"clip{number:03}" for number in range(len(labels))], dtype="str")
    table = pd.DataFrame({"clip_id": ids, "labels": class_lists(labels)})
    gone = table["clip_id"].isin(missing)
    left_out = table[gone].assign(reason="missing").reset_index(drop=True)
    found = table[~gone].reset_index(drop=True)
    return Manifest(found, ["a", "b", "c"], multilabel, len(table), {"missing": len(left_out)}, left_out=left_out)


LABELS = [[0]] * 30 + [[1]] * 11 + [[2]] * 1
"""30, 11 and 1 clip of each class."""


def ids(found: Manifest) -> set[str]:
    return set(found.table["clip_id"])


def test_each_class_keeps_its_share_rounded_up_and_the_others_are_counted():
    found = share_of(manifest(LABELS), 0.1)
    assert Counter(label for (label,) in found.table["labels"]) == {0: 3, 1: 2, 2: 1}
    assert found.excluded == {"missing": 0, NOT_OF_SHARE: 36} and found.official == 42
    assert found.fingerprint != manifest(LABELS).fingerprint


def test_a_smaller_share_is_part_of_a_larger_one_and_one_is_all():
    shares = [ids(share_of(manifest(LABELS), share)) for share in (0.01, 0.1, 0.25, 0.5, 1)]
    assert all(small < large for small, large in zip(shares, shares[1:], strict=False))
    assert len(shares[-1]) == 42 and len(shares[0]) == 3


def test_no_clip_takes_the_place_of_one_that_is_missing():
    chosen = ids(share_of(manifest(LABELS), 0.2))
    gone = sorted(chosen)[:2]
    assert ids(share_of(manifest(LABELS, tuple(gone)), 0.2)) == chosen - set(gone)


def test_clips_of_several_classes_or_of_none_are_chosen_from_all():
    several = [[0, 1], [0], [1], [0, 1, 2]] * 10
    assert len(share_of(manifest(several, multilabel=True), 0.1)) == 4
    assert len(share_of(manifest([[]] * 40), 0.1)) == 4


def test_where_nothing_is_left_is_an_error():
    (only,) = ids(share_of(manifest([[0]] * 4), 0.25))
    with pytest.raises(DataError, match=r"data\.train_share=0\.25: none of the clips"):
        share_of(manifest([[0]] * 4, (only,)), 0.25)
