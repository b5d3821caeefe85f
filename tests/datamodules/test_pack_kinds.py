"""Packs hold what kinds of stream read of tables and files of their own, and give it as the disk does, to the bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import wavfile

from datamodules.errors import DataError
from datamodules.loading.samplers import EVALUATION, ClipRef
from datamodules.packing.pack import pack
from datamodules.packing.shards import PackedFormat, files_to_pack, open_pack
from datamodules.source.spans import span_lists
from datamodules.streams.pseudo_label import write_pseudo_labels
from datamodules.types import AugmentConfig, Inputs, WindowConfig
from tests.datamodules.made_dataset import Made, batch_from, clips_of, inputs_of, manifest_of
from tests.media_files import noise

RATE, NAMES = 8000, ["a", "b", "c", "d", "e"]
LATER = {"later": WindowConfig(lies="shifted", by=[0.5, 1.0])}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Sounds of 4 s, each with a mask, a picture, a spoken caption, spans and a question; the last clip has no mask."""
    root = tmp_path_factory.mktemp("made")
    for number, name in enumerate(NAMES):
        wavfile.write(root / f"{name}.wav", RATE, noise(4.0, RATE, seed=number)[0])
        wavfile.write(root / f"{name}_said.wav", RATE, noise(1.0 + number / 4, RATE, seed=10 + number)[0])
        pixels = np.random.default_rng(number).integers(0, 3, (20, 24), np.uint8)
        Image.fromarray(pixels).save(root / f"{name}_mask.png")
        Image.fromarray(pixels[..., None].repeat(3, 2) * 100).save(root / f"{name}.jpg")
    write_pseudo_labels(root / "clusters.parquet", NAMES, {"label": range(5)})
    table = {
        "clip_id": NAMES,
        "mask_path": [*(f"{name}_mask.png" for name in NAMES[:-1]), None],
        "image": [f"{name}.jpg" for name in NAMES],
        "spoken_path": [f"{name}_said.wav" for name in NAMES],
        "spans": span_lists([[(0.5, 2.0, 1)], [(0.0, 4.0, 2)], [], [(1.0, 1.5, 0), (2.0, 3.0, 1)], []]),
        "question": ["is the red square loud"] * 5,
        "answer": ["yes", "no", "no", "yes", "yes"],
    }
    return Made(root, table, seconds=4.0)


def everything(made: Made) -> Inputs:
    """Streams of all kinds that packs hold, but for pictures of videos."""
    small = {"size": 16, "train_size": 18}
    return inputs_of(
        LATER,
        sound={"kind": "waveform", "sample_rate": RATE, "seconds": 2.0},
        later={"kind": "waveform", "sample_rate": RATE, "seconds": 2.0, "window": "later"},
        shift={"kind": "offset", "of": "later"},
        where={"kind": "mask", **small},
        picture={"kind": "image", "column": "image", **small},
        said={"kind": "spoken_caption", "log_mel": {"sample_rate": RATE, "frames": 60, "mel_bins": 20}},
        when={"kind": "labels_by_second", "classes": 3, "seconds": 2.0, "cell": 0.5, "window": "later"},
        asked={"kind": "question", "length": 6, "answers": ["no", "yes"]},
        cluster={"kind": "pseudo_label", "file": str(made.root / "clusters.parquet"), "classes": 5},
    )


def packed(made: Made, inputs: Inputs, to: Path, rate: int = RATE) -> str:
    files = files_to_pack(inputs)
    pack(manifest_of(made, inputs), "made", "all", str(to), PackedFormat(rate, 0.0, 0, tuple(files)), files, 1)
    return str(to)


@pytest.fixture(scope="module")
def url(made: Made) -> str:
    return packed(made, everything(made), made.root / "pack")


@pytest.mark.parametrize("epoch", [EVALUATION, 3])
def test_all_that_a_pack_holds_is_read_as_from_the_disk(made, url, epoch):
    inputs, augment = everything(made), AugmentConfig(crop_scale=0.5, flip=True, roll_gain=True)
    manifest, opened = manifest_of(made, inputs), open_pack(url, ["all"], inputs, "made")
    assert (opened.excluded, opened.fingerprint) == (manifest.excluded, manifest.fingerprint)
    assert manifest.excluded == {"no mask": 1}
    own, theirs = (batch_from(each, inputs, epoch, augment) for each in (manifest, opened))
    assert own.keys() == theirs.keys() and own["clip_id"] == theirs["clip_id"] == NAMES[:-1]
    for name, value in own.items():
        assert name == "clip_id" or torch.equal(value, theirs[name]), name
    assert own["where"].any() and own["when"].any() and own["said"].std() > 0.1 and own["asked_answer"].any()


def test_what_a_table_says_is_found_in_a_pack_as_in_the_table(made, url, tmp_path):
    """Labels that a stage gives after the dataset was packed are read; clips without are counted."""
    write_pseudo_labels(tmp_path / "newer.parquet", ["d", "a"], {"label": [2, 1]})
    inputs = inputs_of(cluster={"kind": "pseudo_label", "file": str(tmp_path / "newer.parquet"), "classes": 3})
    opened = open_pack(url, ["all"], inputs, "made")
    assert list(opened.excluded.values()) == [1, 2] and opened.official == 5 and len(opened.left_out) == 3
    batch = batch_from(opened, inputs)
    assert batch["clip_id"] == ["a", "d"] and batch["cluster"].tolist() == [1, 2]
    with pytest.raises(
        DataError, match=r"streams\.q\.column=riddle: the pack .* has no such column; it has .*question"
    ):
        open_pack(url, ["all"], inputs_of(q={"kind": "question", "column": "riddle"}), "made")


def test_a_damaged_file_in_a_pack_is_left_out_and_in_training_another_clip_stands_in_its_place(made, tmp_path):
    inputs = inputs_of(where={"kind": "mask", "size": 16, "train_size": 16})
    opened = open_pack(packed(made, inputs, tmp_path / "pack", rate=0), ["all"], inputs, "made")
    row = opened.table.iloc[1]
    with (tmp_path / "pack" / row["shard"]).open("r+b") as shard:
        shard.seek(row["mask_path_at"] + row["mask_path_size"] // 2)
        shard.write(b"damaged")
    clips = clips_of(opened, inputs)
    assert clips[ClipRef(1, EVALUATION)] == [] and clips[ClipRef(1, 0)][0]["clip_id"] == "c"
    assert clips[ClipRef(0, EVALUATION)][0]["clip_id"] == "a"


def test_what_a_pack_does_not_hold_has_a_cure(made, url):
    for settings, why in (
        ({"kind": "mask", "column": "other"}, r"no files of the column other, which data\.inputs\.streams\.x reads"),
        ({"kind": "flow"}, "packs hold no flow; read it with data.root instead"),
        ({"kind": "timed_vectors"}, "packs hold no timed_vectors; read it with data.root instead"),
    ):
        with pytest.raises(DataError, match=why):
            open_pack(url, ["all"], inputs_of(x=settings), "made")
