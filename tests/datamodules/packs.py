"""Small packs for the tests."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from datamodules.manifest.build import Manifest, build_manifest
from datamodules.manifest.checks import Checks
from datamodules.packing.pack import pack
from datamodules.packing.shards import WHERE, PackedClip, PackedFormat
from datamodules.source import Source
from datamodules.types import AudioInputs, Inputs, VideoInputs

INPUTS = Inputs(AudioInputs(frames=128), VideoInputs(frames=4, fps=2.0, size=64, train_size=72))
FORMAT = PackedFormat(sample_rate=16000, fps=4.0, size=224)
SHARD_CLIPS = 4


def clips(root: Path, source: type[Source], split: str, inputs: Inputs = INPUTS) -> Manifest:
    found = source(root / source.folders[0])
    return build_manifest(found, [split], inputs, Checks(root / "checks" / source.name, workers=1))


def packed(manifest: Manifest, url: Path | str, split: str = "test", format: PackedFormat = FORMAT) -> str:
    pack(manifest, "vggsound", split, str(url), format, workers=1, shard_clips=SHARD_CLIPS)
    return str(url)


def clip_of(manifest: Manifest, index: int) -> PackedClip:
    assert manifest.pack is not None
    return manifest.pack.clip(manifest.table.iloc[index].to_dict())


def assert_same_manifest(opened: Manifest, manifest: Manifest) -> None:
    assert opened.fingerprint == manifest.fingerprint and opened.coverage == manifest.coverage
    assert (opened.classes, opened.multilabel) == (manifest.classes, manifest.multilabel)
    assert (opened.official, opened.excluded) == (manifest.official, manifest.excluded)
    assert opened.examples == manifest.examples
    paths = ["audio_path", "video_path"]
    pd.testing.assert_frame_equal(opened.table.drop(columns=list(WHERE)), manifest.table.drop(columns=paths))
