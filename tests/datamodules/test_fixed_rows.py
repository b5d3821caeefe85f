"""Clips that stand beside others, the same for everybody."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from datamodules.audioset_instruments import AudioSetInstruments
from datamodules.errors import DataError
from datamodules.loading.clips import ClipDataset
from datamodules.loading.rows import Companions, check_rows
from datamodules.loading.samplers import EVALUATION, ClipRef
from datamodules.source import class_lists
from datamodules.types import DataConfig, Inputs, RowsConfig
from tests.datamodules.packs import clips

FIXED = RowsConfig(which="fixed")
TABLE = pd.DataFrame(
    {
        "clip_id": [f"clip{i}" for i in range(40)],
        "video_id": [f"video{i // 2}" for i in range(40)],
        "start": np.arange(40) % 2,
        "labels": class_lists([[0]] * 40),
    }
)


def beside(table: pd.DataFrame, key: int = 0, config: RowsConfig = FIXED) -> dict[str, list[str]]:
    """Clip -> who stands in each of its places."""
    companions, ids = Companions("other", config, table), table["clip_id"].tolist()
    return {
        ids[row]: [ids[next(rows)] for _, rows in companions.of(row, key)] for row in range(len(table))
    }  # fmt: skip


def test_they_are_of_another_video_and_depend_on_neither_key_nor_order_of_the_table():
    found = beside(TABLE)
    video = dict(zip(TABLE["clip_id"], TABLE["video_id"], strict=True))
    assert all(video[clip] != video[other] for clip, (other,) in found.items())
    assert len({other for (other,) in found.values()}) > 30, "each is beside about one"
    assert beside(TABLE, key=7) == found
    assert beside(TABLE.sample(frac=1, random_state=0).reset_index(drop=True)) == found


def test_a_clip_that_is_missing_changes_no_more_than_its_own_places():
    found = beside(TABLE)
    for gone in ("clip3", "clip17"):
        left = beside(TABLE[TABLE["clip_id"] != gone].reset_index(drop=True))
        assert {clip for clip in left if left[clip] != found[clip]} == {
            clip for clip, (other,) in found.items() if other == gone and clip != gone
        }


def test_several_places_have_several_clips_and_one_that_cannot_be_read_is_followed_by_the_next():
    found = beside(TABLE, config=RowsConfig(which="fixed", count=3))
    assert all(len(set(others)) == 3 for others in found.values())
    ids = TABLE["clip_id"].tolist()
    for row, (_, rows) in ((row, next(Companions("other", FIXED, TABLE).of(row, 0))) for row in range(3)):
        assert [ids[other] for other in islice(rows, 3)] == found[ids[row]]
        assert len(list(rows)) == 38 - 3, "all of other videos"


def test_in_the_places_of_a_share_nobody_could_be_fixed():
    with pytest.raises(DataError, match=r"data.inputs.rows.other.share=0.5: .* is drawn, not fixed"):
        check_rows({"other": RowsConfig(which="fixed", share=0.5)})


def test_evaluation_reads_the_same_sound_beside_a_clip_whatever_the_seed(tmp_path: Path, make_sample):
    counts = {"audioset_instruments": {"unbalanced_train": 1, "balanced_train": 1, "eval": 6}}
    make_sample(tmp_path, list(counts), counts)
    wave = {"kind": "waveform", "sample_rate": 16000, "seconds": 1.0}
    streams = {"sound": wave, "theirs": {**wave, "row": "other"}}
    inputs = Inputs(audio=None, video=None, streams=streams, rows={"other": FIXED})
    manifest = clips(tmp_path, AudioSetInstruments, "eval", inputs)
    read = [
        [ClipDataset(manifest, DataConfig(inputs=inputs), seed)[ClipRef(row, EVALUATION)][0] for row in range(6)]
        for seed in (0, 1)
    ]
    own = {clip["clip_id"]: np.asarray(clip["sound"]) for clip in read[0]}
    for first, second in zip(*read, strict=True):
        assert first["other_id"] == second["other_id"]
        (other,) = first["other_id"]
        assert other != first["clip_id"]
        np.testing.assert_array_equal(np.asarray(first["theirs"]), own[other])
