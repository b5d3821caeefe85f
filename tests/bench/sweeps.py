"""The sweep that tests run: two methods on VGGSound's sound, small enough for a second of training."""

from __future__ import annotations

from pathlib import Path

from bench.records import archive

# The baseline has no stage on VGGSound of its own.
BASELINE = [
    *(f"baseline_cnn.stages.train_fsd50k.{s}" for s in ("dataset=vggsound", "board=vggsound", "train=[train]")),
    *(f"baseline_cnn.stages.train_fsd50k.{s}" for s in ("epochs=2", "batch_size=16", "data.inputs.audio.frames=100")),
    "baseline_cnn.data.loader.workers=0",
    "baseline_cnn.stages.train_esc10=null",
]
METHODS = ["gated", "baseline_cnn", *BASELINE]


def places(sample_root: Path, folder: Path) -> list[str]:
    return [f"sample_root={sample_root}", f"runs={folder / 'runs'}", f"leaderboards={folder / 'leaderboards'}"]


def scores(folder: Path) -> dict[tuple[str, str, int], tuple]:
    """(method, stage, seed) -> what its record says of the result."""
    found, errors = archive.read_all(folder / "leaderboards" / "sample" / "results")
    assert not errors
    scored = {(r.method, r.stage, r.seed): (r.identity, r.n, r.metrics, r.config_hash) for r in found}
    assert len(scored) == len(found), "a stage was measured twice"
    return scored
