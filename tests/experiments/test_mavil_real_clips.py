"""MAViL's evaluation stages on real clips, from the file to the logits, against the authors' class fed with its own
preprocessing (`tests/golden/mavil_real_clips.json`)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from bench.config.compose import compose
from datamodules.base import Features
from datamodules.loading.clips import ClipDataset
from datamodules.loading.loader import collate
from datamodules.loading.samplers import EVALUATION, ClipRef
from datamodules.manifest.build import build_manifest
from datamodules.manifest.checks import Checks
from datamodules.types import Batch
from datamodules.vggsound import VGGSound
from tests.experiments.test_mavil_parity import finetuned

REAL = Path(__file__).parents[3] / "shared" / "data" / "VGGSound"
CLIPS = json.loads((Path(__file__).parent.parent / "golden" / "mavil_real_clips.json").read_text())["clips"]

pytestmark = pytest.mark.skipif(not REAL.is_dir(), reason="the real clips of VGGSound are not here")


def read(folder: Path) -> Batch:
    """The nine clips as `evaluate_vggsound_av` reads them."""
    data = compose("mavil", ["preset=paper"]).stages["evaluate_vggsound_av"].data
    manifest = build_manifest(VGGSound(REAL), ("test",), data.inputs, Checks(folder))
    assert set(manifest.table["clip_id"]) == set(CLIPS)
    clips = ClipDataset(manifest, data, seed=0)
    raw = collate([clips[ClipRef(index, EVALUATION)] for index in range(len(clips))])
    return Features(data.inputs, data.augment)(raw, train=False)


@pytest.fixture(scope="module")
def batch(tmp_path_factory: pytest.TempPathFactory) -> Batch:
    return read(tmp_path_factory.mktemp("checks"))


@torch.no_grad()
def differences(batch: Batch, kind: str) -> dict[str, float]:
    """Clip -> the largest difference of a logit from the authors'."""
    ours = finetuned(kind.split("_")[0]).eval().logits(batch)[:, ::31]
    pairs = [(clip, logits, CLIPS[clip][kind]) for clip, logits in zip(batch["clip_id"], ours, strict=True)]
    return {clip: (own - torch.tensor(theirs)).abs().max().item() for clip, own, theirs in pairs}


@pytest.mark.parametrize("kind", ["a", "v_swscale", "av_swscale"])
def test_logits_of_real_files_are_those_of_the_authors_class_but_for_the_picture_scaler(batch, kind):
    found = differences(batch, kind)
    assert found.keys() == CLIPS.keys() and max(found.values()) < 1e-4


@pytest.mark.parametrize(("modality", "most"), [("v", 0.07), ("av", 0.07)])
def test_the_scaler_s_part_is_what_the_readme_says(batch, modality, most):
    """Theirs is torchvision's bilinear `Resize` with antialiasing, ours swscale's bicubic."""
    found = differences(batch, modality)
    assert 0.9 * most < max(found.values()) < most
