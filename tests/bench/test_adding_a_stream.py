"""`docs/adding_a_stream.md`, followed: the file and the package that stand there, on the sample data."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
import yaml
from omegaconf import OmegaConf

from bench.cli import main
from datamodules.base import Features
from datamodules.loading.clips import ClipDataset
from datamodules.loading.loader import collate
from datamodules.loading.samplers import EVALUATION, ClipRef
from datamodules.manifest.build import build_manifest
from datamodules.manifest.checks import Checks
from datamodules.media.decode import read_audio
from datamodules.types import AugmentConfig, DataConfig, Inputs
from datamodules.vggsound import VGGSound
from tests.conftest import REPOSITORY
from tests.installed import forget, install

GUIDE = (REPOSITORY / "docs" / "adding_a_stream.md").read_text(encoding="utf-8")


@pytest.fixture
def followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The guide's package, as if installed."""
    for name, content in re.findall(r"`(\S+)`:\n\n```\w+\n(.*?)```", GUIDE, re.S):
        (tmp_path / name).write_text(content)
    install(tmp_path, (tmp_path / "pyproject.toml").read_text())
    monkeypatch.syspath_prepend(str(tmp_path))
    forget("their_loudness")
    yield
    monkeypatch.undo()
    forget("their_loudness")


@pytest.mark.slow
def test_the_guide_leads_to_a_stream_that_is_listed_and_read_in_any_window(followed, sample_root, tmp_path, capsys):
    assert main(["data", "streams"]) == 0
    listed = capsys.readouterr().out
    assert "loudness (their_loudness)" in listed and "waveform" in listed and "moments" in listed
    said = yaml.safe_load(re.search(r"any stage reads it:\n\n```yaml\n(.*?)```", GUIDE, re.S)[1])["data"]["inputs"]
    merged = OmegaConf.merge(OmegaConf.structured(Inputs), {"audio": None, "video": None}, said)
    inputs = OmegaConf.to_object(merged)
    manifest = build_manifest(VGGSound(sample_root / "VGGSound"), ["test"], inputs, Checks(tmp_path / "checks"))
    clips = ClipDataset(manifest, DataConfig(inputs=inputs), seed=0)
    batch = Features(inputs, AugmentConfig())(collate([clips[ClipRef(row, EVALUATION)] for row in (0, 1)]), train=False)
    for row in (0, 1):
        place = manifest.table.iloc[row]
        sound = torch.from_numpy(read_audio(place["audio_path"], place["audio_offset"], 1.0, 16000))
        loudness = sound.view(10, 1600).square().mean(1).sqrt()
        torch.testing.assert_close(batch["level"][row], loudness[:5])
        torch.testing.assert_close(batch["level_later"][row], loudness[5:])
    assert batch["level_length"].tolist() == batch["level_later_length"].tolist() == [5, 5]
