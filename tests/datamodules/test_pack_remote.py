"""Packs behind URLs, tested against a real S3-compatible server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import fsspec
import numpy as np
import pandas as pd
import pytest
import torch

pytest.importorskip("moto.server")
pytest.importorskip("s3fs")

from datamodules.loading.clips import ClipDataset
from datamodules.loading.loader import Loader, collate
from datamodules.loading.samplers import TrainSampler
from datamodules.manifest.build import Manifest, build_manifest
from datamodules.manifest.checks import Checks
from datamodules.media.decode import MediaError
from datamodules.packing import shards
from datamodules.packing.pack import pack
from datamodules.packing.shards import PackedFormat, open_pack
from datamodules.source import DataError
from datamodules.types import AudioInputs, DataConfig, Inputs, VideoInputs
from datamodules.vggsound import VGGSound
from tests.s3_server import S3Server, forget_connections, serving
from tests.sample_data import SampleMaker

INPUTS = Inputs(AudioInputs(frames=128), VideoInputs(frames=4, fps=2.0, size=64, train_size=72))
FORMAT = PackedFormat(sample_rate=16000, fps=2.0, size=72)
URL = "s3://packs/vggsound"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with serving(tmp_path_factory.mktemp("s3") / "log", "packs") as server:
        yield server


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory, make_sample: SampleMaker) -> Manifest:
    root = tmp_path_factory.mktemp("media")
    make_sample(root, ["vggsound"], counts={"vggsound": {"train": 2, "test": 8}})
    return build_manifest(VGGSound(root / "VGGSound"), ["test"], INPUTS, Checks(root / "checks", workers=1))


@pytest.fixture(scope="module")
def local(manifest: Manifest, tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """The same pack on the disk."""
    url = str(tmp_path_factory.mktemp("pack"))
    pack(manifest, "vggsound", "test", url, FORMAT, workers=1, shard_clips=3)
    return open_pack(url, ["test"], INPUTS, "vggsound")


@pytest.fixture(scope="module")
def remote(manifest: Manifest, server: S3Server) -> Manifest:
    pack(manifest, "vggsound", "test", URL, FORMAT, workers=1, shard_clips=3)
    return open_pack(URL, ["test"], INPUTS, "vggsound")


def batches(manifest: Manifest, workers: int = 0) -> list[dict]:
    clips, sampler = ClipDataset(manifest, DataConfig(inputs=INPUTS), seed=0), TrainSampler(len(manifest), 1, 4)
    return list(Loader(clips, batch_sampler=sampler, num_workers=workers, collate_fn=collate))


def assert_same(one: list[dict], other: list[dict]) -> None:
    assert len(one) == len(other) > 0
    for a, b in zip(one, other, strict=True):
        assert a["clip_id"] == b["clip_id"]
        assert all(torch.equal(a[name], b[name]) for name in a.keys() - {"clip_id"})


def test_what_lies_behind_a_url_is_what_lies_on_the_disk(local, remote, manifest):
    files = fsspec.filesystem("s3").find("packs/vggsound")
    shards = [f"packs/vggsound/test/00000{number}.tar" for number in range(3)]
    others = [f"packs/vggsound/test/{name}" for name in ("index.arrow", "left_out.arrow", "pack.json")]
    assert sorted(files) == [*shards, *others]
    for path in files:
        on_disk = Path(local.pack.shards.url) / Path(path).relative_to("packs/vggsound")
        assert fsspec.filesystem("s3").cat_file(path) == on_disk.read_bytes()
    assert remote.fingerprint == manifest.fingerprint
    pd.testing.assert_frame_equal(remote.table, local.table)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_loader_reads_from_there_what_it_reads_from_the_disk(local, remote, workers):
    assert_same(batches(remote, workers), batches(local))


def test_shards_can_be_kept_on_the_disk_while_reading(local, remote):
    cached = open_pack(f"simplecache::{URL}", ["test"], INPUTS, "vggsound")
    assert_same(batches(cached), batches(local))


@pytest.mark.slow
def test_packing_there_goes_on_after_it_was_cut_off(manifest, server):
    url = "s3://packs/cut"
    pack(manifest, "vggsound", "test", url, FORMAT, workers=1, shard_clips=3)
    files = fsspec.filesystem("s3")
    whole = {path: files.cat_file(path) for path in files.find("packs/cut")}
    with pytest.raises(DataError, match="finished pack"):
        pack(manifest, "vggsound", "test", url, FORMAT, workers=1, shard_clips=3)

    def cut_off(shards, title, total):
        yield next(iter(shards))
        raise KeyboardInterrupt

    files.rm("packs/cut", recursive=True)
    with pytest.raises(KeyboardInterrupt):
        pack(manifest, "vggsound", "test", url, FORMAT, workers=1, track=cut_off, shard_clips=3)
    with pytest.raises(DataError, match="no finished pack"):
        open_pack(url, ["test"], INPUTS, "vggsound")
    titles = []

    def note(shards, title, total):
        titles.append(title)
        return shards

    pack(manifest, "vggsound", "test", url, FORMAT, workers=1, track=note, shard_clips=3)
    files.invalidate_cache()
    assert "shards done before" in titles[0]
    assert {path: files.cat_file(path) for path in files.find("packs/cut")} == whole


def test_a_url_that_holds_nothing_is_an_error(server):
    for url in ("s3://packs/nothing", "s3://nobucket/pack"):
        with pytest.raises(DataError, match="no finished pack of the split 'test'"):
            open_pack(url, ["test"], INPUTS, "vggsound")


@pytest.mark.slow
def test_a_server_that_goes_away_is_a_fault_of_the_clip_and_not_a_hang(local, tmp_path, monkeypatch):
    server = S3Server(tmp_path / "log")
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    forget_connections()
    try:
        fsspec.filesystem("s3").mkdir("packs")
        assert shards.READ_SECONDS <= 60
        fsspec.filesystem("s3").put(f"{local.pack.shards.url}/test", f"{URL}/", recursive=True)
        opened = open_pack(URL, ["test"], INPUTS, "vggsound")
        clip = opened.pack.clip(opened.table.iloc[0].to_dict())
        assert np.abs(clip.audio(0.0, 1.0, 16000)).max() > 0
        server.hang()
        with monkeypatch.context() as patch, pytest.raises(MediaError, match="unreadable: FSTimeoutError"):
            patch.setattr(shards, "READ_SECONDS", 1.0)
            clip.frames([0.0], 64)
        server.stop()
        with pytest.raises(MediaError, match="unreadable"):
            clip.frames([0.0], 64)
    finally:
        server.stop()
        forget_connections()
