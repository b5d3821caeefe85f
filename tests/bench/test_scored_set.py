"""Which clips a board scores is fixed by the official list, before a disk is looked at; and whose data they are."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bench import registry
from bench.config.compose import compose
from bench.errors import UserError
from bench.plan.graph import Plan, make_plan
from bench.plan.row_settings import row_settings
from datamodules.manifest.build import build_manifest
from datamodules.manifest.checks import Checks
from datamodules.packing.pack import pack
from datamodules.packing.shards import LEFT_OUT, PackedFormat
from datamodules.types import AudioInputs, Inputs, VideoInputs
from datamodules.vggsound import VGGSound

STAGE = "retrieval_vggsound_a2v"
RETRIEVAL = ["preset=tiny", f"stage={STAGE}", f"stages.{STAGE}.after=null"]
FORMAT = PackedFormat(16000, 4.0, 64)


@pytest.fixture
def vggsound(sample_root: Path, tmp_path: Path) -> Path:
    shutil.copytree(sample_root / "VGGSound", tmp_path / "data" / "VGGSound")
    return tmp_path / "data" / "VGGSound"


@pytest.fixture
def first_of_each(monkeypatch) -> None:
    """The board scores one clip of each class: the small sample has two."""
    board = registry.board
    monkeypatch.setattr(registry, "board", lambda name: replace(board(name), per_class=1))


def planned(folder: Path, *settings: str) -> Plan:
    """Of a stage whose weights are given; a plan does not open them."""
    (folder / "weights.pt").write_bytes(b"weights")
    places = [f"runs={folder / 'runs'}", f"init={folder / 'weights.pt'}"]
    return make_plan(compose("mavil", [*RETRIEVAL, *places, *settings]))


def official_firsts(source: VGGSound) -> dict[str, str]:
    """Class -> its first clip by id, whether it can be used or not."""
    clips = source.read_split("test").clips.sort_values("clip_id", ascending=False)
    return {source.classes[labels[0]]: clip for clip, labels in zip(clips["clip_id"], clips["labels"], strict=True)}


def remove_first(root: Path) -> tuple[set[str], str]:
    """Removes the file of a clip that is scored: (all that are scored, that one)."""
    firsts = set(official_firsts(VGGSound(root)).values())
    gone = sorted(firsts)[3]
    (root / "video" / f"{gone}.mp4").unlink()
    return firsts, gone


def test_no_clip_takes_the_place_of_one_that_is_missing(vggsound, first_of_each, tmp_path):
    firsts, gone = remove_first(vggsound)
    plan = planned(tmp_path, f"data_root={vggsound.parent}")
    scored = plan.stages[-1].scored
    assert set(scored.table["clip_id"]) == firsts - {gone}
    assert scored.official == len(firsts) == 30 and scored.excluded == {"missing": 1}
    assert scored.examples == {"missing": [gone]} and scored.coverage == pytest.approx(29 / 30)


def test_coverage_is_that_of_the_clips_that_are_scored(vggsound, first_of_each, tmp_path):
    firsts = set(official_firsts(VGGSound(vggsound)).values())
    for clip in sorted(firsts)[:20]:
        (vggsound / "video" / f"{clip}.mp4").unlink()
    with pytest.raises(UserError, match=r"only 10 of the 30 official clips of vggsound-a2v .*33\.3%; 20 missing"):
        planned(tmp_path, f"data_root={vggsound.parent}")


def test_a_pack_knows_the_clips_that_are_not_in_it(vggsound, first_of_each, tmp_path):
    firsts, gone = remove_first(vggsound)
    inputs = Inputs(AudioInputs(), VideoInputs(size=64, train_size=64))
    manifest = build_manifest(VGGSound(vggsound), ["test"], inputs, Checks(tmp_path / "checks"))
    pack(manifest, "vggsound", "test", str(tmp_path / "pack"), FORMAT, workers=1)
    small = ["data.inputs.video.size=64", "data.inputs.video.train_size=64"]
    plan = planned(tmp_path, f"data.packed={tmp_path / 'pack'}", *small)
    scored = plan.stages[-1].scored
    assert set(scored.table["clip_id"]) == firsts - {gone}
    assert scored.official == 30 and scored.excluded == {"missing": 1} and plan.stages[-1].is_sample
    (tmp_path / "pack" / "test" / LEFT_OUT).unlink()  # as older packs
    with pytest.raises(UserError, match=r"this pack is older .* pack the dataset again"):
        planned(tmp_path, f"data.packed={tmp_path / 'pack'}", *small)


WAYS: dict[str, Callable[[Path], list[str]]] = {
    "data_root": lambda root: [f"data_root={root.parent}"],
    "data.root": lambda root: [f"data.root={root}"],
    "a link": lambda root: [f"data.root={linked(root)}"],
    "the folder above": lambda root: [f"data.root={root.parent}"],
    "sample_root": lambda root: [f"sample_root={root.parent}"],
}


def linked(root: Path) -> Path:
    link = root.parent / "elsewhere"
    link.symlink_to(root)
    return link


@pytest.mark.parametrize("way", WAYS)
def test_sample_data_is_known_by_its_mark_whatever_the_way_to_it(vggsound, tmp_path, way):
    assert planned(tmp_path, *WAYS[way](vggsound)).stages[-1].is_sample


def test_data_without_the_mark_is_real(vggsound, tmp_path):
    (vggsound / "SAMPLE.json").unlink()
    plan = planned(tmp_path, f"data_root={vggsound.parent}", "data.min_coverage=0")
    assert not any(stage.is_sample or stage.learns_from_sample for stage in plan.stages)


def test_real_clips_that_a_network_of_sample_data_is_scored_on_are_real_and_their_row_is_one_of_its_own(
    vggsound, sample_root, tmp_path
):
    (vggsound / "SAMPLE.json").unlink()
    places = [f"runs={tmp_path / 'runs'}", f"stages.finetune_vggsound_a.data.root={vggsound}", "data.min_coverage=0"]
    pretraining = [f"stages.{name}.data.root={sample_root / 'AudioSet'}" for name in ("pretrain", "pretrain_2")]
    settings = ["preset=tiny", "stage=finetune_vggsound_a", *places, *pretraining]
    plan = make_plan(compose("mavil", settings))
    *before, scored = plan.stages
    assert [stage.name for stage in before] == ["pretrain", "pretrain_2"] and before[0].train.sample
    assert not scored.is_sample and scored.learns_from_sample
    assert row_settings(plan.config, scored)["training_data"] == "made-up"
