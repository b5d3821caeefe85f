"""Clips that can no longer be read when they are measured: all others are, and these are counted."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from bench.cli import main
from datamodules import sample
from datamodules.loading.samplers import EvalSampler
from tests.bench.runs import TWO_PROCESSES, environment
from tests.bench.stages import arguments, planned
from tests.conftest import REPOSITORY

STAGE, BATCH, SCORED = "train_fsd50k", 4, 12
SMALL = [
    *("model.widths=[8,8,16,16]", f"stage={STAGE}", "trainer.accelerator=cpu", "data.loader.cache_gb=0"),
    *(f"stages.{STAGE}.{x}" for x in ("epochs=1", f"batch_size={BATCH}", "data.inputs.audio.frames=64")),
]


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("unreadable")
    sample.make(root, ["fsd50k"], counts={"fsd50k": {"train": 8, "val": 2, "eval": SCORED}}, workers=1)
    return root


def measured(clips: Path, folder: Path, *settings: str) -> tuple[dict, pd.DataFrame]:
    """The record and the predictions of a run; one of several processes is in those of its own."""
    given = ["run", *arguments(clips, folder, "baseline_cnn", *SMALL, *settings)]
    command = [sys.executable, "-m", "bench", *given]
    assert (subprocess.call(command, cwd=REPOSITORY, env=environment()) if settings else main(given)) == 0
    (record,) = folder.glob(f"runs/baseline_cnn/{STAGE}-*/record.json")
    return json.loads(record.read_text()), pd.read_parquet(record.parent / "predictions.parquet").set_index("clip_id")


def damage(path: Path) -> None:
    """So that nobody notices who does not read it: its size and time stay."""
    stat = path.stat()
    path.write_bytes(bytes(stat.st_size))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


@pytest.mark.slow
@pytest.mark.parametrize("settings", [[], TWO_PROCESSES], ids=["one", "two"])
def test_where_a_batch_has_no_clip_that_can_be_read_all_others_are_measured(
    clips: Path, tmp_path: Path, settings: list[str]
):
    whole, expected = measured(clips, tmp_path, *settings)
    assert whole["n"] == SCORED and "unreadable_while_scoring" not in whole["notes"]

    scored = planned(clips, tmp_path, "baseline_cnn", *SMALL, *settings)[STAGE].scored.table
    ranks = 2 if settings else 1
    first, *_ = EvalSampler(SCORED, BATCH // ranks, rank=ranks - 1, ranks=ranks)
    lost = scored.iloc[[ref.index for ref in first]]
    shutil.copytree(clips, tmp_path / "damaged", copy_function=shutil.copy2)
    for path in lost["audio_path"]:
        damage(tmp_path / "damaged" / Path(path).relative_to(clips))
    shutil.move(clips, tmp_path / "whole")
    shutil.move(tmp_path / "damaged", clips)  # where the files were judged
    try:
        shutil.rmtree(tmp_path / "runs" / "baseline_cnn")
        record, found = measured(clips, tmp_path, *settings)
    finally:
        shutil.rmtree(clips)
        shutil.move(tmp_path / "whole", clips)
    assert record["n"] == SCORED - len(lost) and record["notes"]["unreadable_while_scoring"] == len(lost)
    assert set(found.index) == set(expected.index) - set(lost["clip_id"])
    same = expected.loc[found.index]
    assert all(one == pytest.approx(other, abs=1e-5) for one, other in zip(found["a"], same["a"], strict=True))
