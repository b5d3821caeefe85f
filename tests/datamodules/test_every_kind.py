"""What must hold of every kind of stream; tests of their own are for what each reads."""

from __future__ import annotations

import logging
import shutil
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import Tensor

from datamodules.errors import DataError
from datamodules.loading.loader import Loader, collate
from datamodules.loading.samplers import EVALUATION, ClipRef, EvalSampler
from datamodules.packing.shards import PackedFormat
from datamodules.source.spans import span_lists
from datamodules.streams.kind import LENGTH, named
from datamodules.streams.known import kind, kinds, streams_of
from datamodules.streams.pseudo_label import write_pseudo_labels
from datamodules.types import AugmentConfig, RowsConfig, WindowConfig
from tests.datamodules.made_dataset import Made, batch_of, clips_of, inputs_of, manifest_of
from tests.media_files import film, noise, write_media

SECONDS, CLIPS = 4.0, ["a", "b", "c"]
SMALL = {"size": 16, "train_size": 20}
SETTINGS: dict[str, dict[str, Any]] = {
    "log_mel": {"frames": 96},
    "frames": {"frames": 4, **SMALL},
    "image": SMALL,
    "vectors": {"dims": [5, 6], "frames": 3},
    "timed_vectors": {"dim": 5, "length": 4},
    "flow": {"frames": 3, **SMALL},
    "mask": SMALL,
    "labels_by_second": {"classes": 3, "seconds": 2.0},
    "question": {"answers": ["yes", "no"]},
    "pseudo_label": {"file": "ROOT/labels.parquet", "classes": 4},
}
"""What a kind needs beside its defaults to read the clips here, or is slow without."""
FILES = {
    "log_mel": "b.mp4",
    "waveform": "b.mp4",
    "frames": "b.mp4",
    "image": "b.mp4",
    "vectors": "b_3d.npy",
    "timed_vectors": "b_speech.npz",
    "flow": "b_flow.npy",
    "spoken_caption": "b said.wav",
    "mask": "b mask.png",
}
"""Kind -> the file of the clip `b` that it reads; the others read none."""

every_kind = pytest.mark.parametrize("name", kinds())
"""Those of other packages that are installed here, too."""
every_kind_with_files = pytest.mark.parametrize("name", FILES)


def write(root: Path) -> Made:
    """Clips that have what any kind reads."""
    draw = np.random.default_rng(0)
    for number, name in enumerate(CLIPS):
        write_media(root / f"{name}.mp4", frames=film(40), sound=noise(SECONDS, 16000, seed=number))
        write_media(root / f"{name} said.wav", sound=noise(2.0, 16000, seed=9 + number), audio_codec="pcm_s16le")
        np.save(root / f"{name}_2d.npy", draw.random((8, 5), np.float32))
        np.save(root / f"{name}_3d.npy", draw.random((8, 6), np.float32))
        np.savez(root / f"{name}_speech.npz", features=draw.random((8, 5), np.float32), times=np.arange(8) / 2)
        np.save(root / f"{name}_flow.npy", draw.random((100, 6, 6, 2), np.float32))
        Image.fromarray(draw.integers(0, 3, (24, 24), np.uint8)).save(root / f"{name} mask.png")
    write_pseudo_labels(root / "labels.parquet", CLIPS, {"label": [1, 2, 3]})
    columns = {
        "text": ["the red square", "a blue square", "the square"],
        "spans": span_lists([[(0, 1, 0)], [(1, 3.5, 1), (0.5, 2, 2)], []]),
        "question": ["the red square", "a blue square", "the square"],
        "answer": ["yes", "no", "no"],
        "spoken_path": [f"{name} said.wav" for name in CLIPS],
        "mask_path": [f"{name} mask.png" for name in CLIPS],
    }
    return Made(root, {"clip_id": CLIPS, **columns}, SECONDS)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Nobody may write into its folder."""
    return write(tmp_path_factory.mktemp("made"))


def settings_of(name: str, source: Made) -> dict[str, Any]:
    settings = {key: str(said).replace("ROOT", str(source.root)) if key == "file" else said
                for key, said in SETTINGS.get(name, {}).items()}  # fmt: skip
    return {"kind": name, **settings}


def of_stream(batch: dict[str, Any], name: str) -> dict[str, Tensor]:
    """The stream and its parts."""
    return {key: value for key, value in batch.items() if key == name or key.startswith(f"{name}_")}


def shaped(values: dict[str, Tensor]) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
    return {key: (value.dtype, tuple(value.shape)) for key, value in values.items()}


@every_kind
def test_its_settings_have_defaults_and_it_says_what_it_is(name):
    found = kind(name)
    assert is_dataclass(found.options_type) and found.__doc__ and found.options_type.__doc__
    for field in fields(found.options_type):
        assert field.default is not MISSING or field.default_factory is not MISSING, field.name
    stream = found("x", found.options_type())
    assert stream.modality in ("", *"avti") and hash(stream.wants()) is not None


@every_kind
def test_what_it_reads_of_the_dataset_s_table_is_in_the_fingerprint_of_the_clips(name, source, tmp_path):
    """And nothing of where the files lie, nor what is not read."""
    read, nothing = inputs_of(x=settings_of(name, source)), inputs_of()
    assert set(streams_of(read)["x"].columns) <= source.clips.keys()
    fingerprint = manifest_of(source, read).fingerprint
    for column in streams_of(read)["x"].columns:
        turned = pd.Series(source.clips[column]).iloc[::-1].reset_index(drop=True)
        other = Made(source.root, {**source.clips, column: turned}, SECONDS)
        assert manifest_of(other, read).fingerprint != fingerprint
        assert manifest_of(other, nothing).fingerprint == manifest_of(source, nothing).fingerprint
    moved = Made(tmp_path / "moved", source.clips, SECONDS)
    shutil.copytree(source.root, moved.root)
    assert manifest_of(moved, read).fingerprint == fingerprint


@every_kind
@pytest.mark.parametrize("epoch", [EVALUATION, 0])
def test_a_batch_is_what_its_example_and_what_is_made_up_are_like(name, epoch, source):
    inputs = inputs_of(x=settings_of(name, source))
    seen = of_stream(batch_of(source, inputs, epoch), "x")
    stream = streams_of(inputs)["x"]
    made_up = named(stream.made_up(len(CLIPS), torch.Generator().manual_seed(0)), "x")
    length = f"x_{LENGTH}"
    expected = shaped(named(stream.example(len(CLIPS), "cpu"), "x"))
    assert shaped(seen) == expected and shaped(made_up) == expected
    assert set(seen) <= {"x", *(f"x_{part}" for part in stream.part_names)}
    if length in seen:
        most = seen["x"].shape[stream.time_axis]
        assert (seen[length] > 0).all() and (seen[length] <= most).all() and (made_up[length] <= most).all()
    assert all(value.isfinite().all() for value in seen.values())


@every_kind
def test_it_is_read_in_several_windows_and_of_other_clips(name, source):
    """In evaluation windows that lie the same are read as the clip's own, and another clip as when it is its turn."""
    settings = settings_of(name, source)
    windows, rows = {"same": WindowConfig(lies="same", count=2)}, {"other": RowsConfig("other_video", count=2)}
    streams = {"x": settings, "w": {**settings, "window": "same"}, "r": {**settings, "row": "other"}}
    batch = batch_of(source, inputs_of(windows, rows, **streams))
    places = torch.tensor([[CLIPS.index(clip) for clip in others] for others in batch["other_id"]])
    assert batch["other_there"].all()
    for key, value in of_stream(batch, "x").items():
        part = key[1:]
        assert torch.equal(batch[f"w{part}"], torch.stack([value, value], 1)), key
        assert torch.equal(batch[f"r{part}"], value[places]), key
    train = batch_of(source, inputs_of(windows, rows, **streams), 0)
    for key in ("x", "w", "r"):
        assert shaped(of_stream(train, key)).keys() == of_stream(batch, key).keys()
        assert train[key].shape[:2] == batch[key].shape[:2] and train[key].dtype == batch[key].dtype


@every_kind
def test_what_is_drawn_is_drawn_from_the_clips_keys(name, source):
    """The same again, whoever is beside it in the batch."""
    inputs = inputs_of(x=settings_of(name, source))
    augment = AugmentConfig(roll_gain=True, freq_mask=8, time_mask=8, crop_scale=0.4, flip=True, color_jitter=0.8)
    together = of_stream(batch_of(source, inputs, 3, augment), "x")
    alone = of_stream(batch_of(source, inputs, 3, augment, rows=[1]), "x")
    for key, value in alone.items():
        torch.testing.assert_close(value[0], together[key][1], rtol=0, atol=1e-5)


@every_kind_with_files
def test_a_clip_without_its_file_is_counted(name, tmp_path):
    source = write(tmp_path)
    (tmp_path / FILES[name]).unlink()
    manifest = manifest_of(source, inputs_of(x=settings_of(name, source)))
    assert manifest.table["clip_id"].tolist() == ["a", "c"]
    assert sum(manifest.excluded.values()) == 1 == len(manifest.left_out) and manifest.official == 3


@every_kind_with_files
def test_a_file_that_fails_later_is_left_out_or_replaced_and_named(name, tmp_path, caplog):
    source = write(tmp_path)
    inputs = inputs_of(x=settings_of(name, source))
    clips = clips_of(manifest_of(source, inputs), inputs)
    file = tmp_path / FILES[name]
    content = file.read_bytes()
    for spoil in (lambda: file.write_bytes(content[: len(content) // 10]), file.unlink):
        spoil()
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            scored = list(Loader(clips, batch_sampler=EvalSampler(3, 3), collate_fn=collate))
            trained = collate([clips[ClipRef(row, 0)] for row in range(3)])
        assert [batch["clip_id"] for batch in scored] == [["a", "c"]]
        assert trained["clip_id"] == ["a", "c", "c"] and trained["label"].argmax(1).tolist() == [0, 2, 2]
        assert caplog.text.count(str(file)) >= 2


@every_kind
def test_of_a_pack_it_is_read_or_the_cure_is_named(name, source):
    stream = streams_of(inputs_of(x=settings_of(name, source)))["x"]
    for format in (PackedFormat(16000, 50.0, 256), PackedFormat(0, 0.0, 0)):
        try:
            stream.require_packed(format, "some/pack")
        except DataError as error:
            assert "some/pack" in str(error) and ("data.root" in str(error) or "pack the dataset again" in str(error))
