"""A method of another package that trains on several datasets, through `bench run`: what it reads, on one process and
two, and across a kill."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.cli import main
from bench.config.compose import compose
from bench.config.configured import stage_settings
from bench.contract import checks
from bench.contract.cases import cases, made_up_batch
from bench.errors import UserError
from bench.plan.graph import make_plan
from bench.plan.row_settings import row_settings
from bench.records.archive import read_all
from datamodules import sample
from datamodules.loading.clips import ClipDataset
from datamodules.media.decode import MediaError
from tests.bench.runs import SCRIPT, TWO_PROCESSES, environment
from tests.conftest import REPOSITORY
from tests.installed import forget, install
from tests.sample_data import SampleMaker

PYPROJECT = """
[project]
name = "their-mixing"
version = "0.1.0"
[project.entry-points."avl_bench.methods"]
mixer = "their_mixing.mixer"
"""
COUNTS = {"vggsound": {"train": 24, "test": 6}, "fsd50k": {"train": 10, "val": 8, "eval": 4}}
EPOCHS = 2


@dataclass(frozen=True)
class Theirs:
    """The package, and data for it."""

    site: Path
    data: Path

    def settings(self, folder: Path, *overrides: str) -> list[str]:
        places = [f"data_root={self.data}", f"runs={folder / 'runs'}", f"leaderboards={folder / 'leaderboards'}"]
        return ["mixer", "preset=tiny", *places, *overrides]

    def bench(self, fault: list[Any] | None, folder: Path, *overrides: str) -> int:
        """`bench run` in a process of its own, which may start another; its status."""
        own = {"PYTHONPATH": f"{REPOSITORY}{os.pathsep}{self.site}", "MIXING_LOG": str(folder / "log")}
        command = [sys.executable, str(SCRIPT), json.dumps(fault), "run", *self.settings(folder, *overrides)]
        return subprocess.run(command, cwd=REPOSITORY, env=environment() | own, process_group=0, timeout=400).returncode


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory, make_sample: SampleMaker) -> Iterator[Theirs]:
    """The package, as if installed."""
    root = tmp_path_factory.mktemp("mixing")
    package = root / "site" / "their_mixing"
    shutil.copytree(Path(__file__).with_name("mixing"), package / "mixer")
    for folder in (package, package / "mixer"):
        (folder / "__init__.py").touch()
    install(package.parent, PYPROJECT)
    make_sample(root / "data", list(COUNTS), counts=COUNTS)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(package.parent))
        forget("their_mixing")
        yield Theirs(package.parent, root / "data")
    forget("their_mixing")


@pytest.fixture(scope="module")
def ran(theirs: Theirs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both of its stages on one process."""
    folder = tmp_path_factory.mktemp("ran")
    with pytest.MonkeyPatch.context() as patch:
        for stage in ("mixed", "turns"):
            patch.setenv("MIXING_LOG", str(folder / stage))
            assert main(["run", *theirs.settings(folder, f"stage={stage}")]) == 0
    return folder


def steps(path: Path, ranks: int = 1) -> list[list[dict[str, Any]]]:
    """Of each step, the clips that all processes read, each with all that the method saw of it."""
    found: dict[int, list[dict[str, Any]]] = {}
    for rank in range(ranks):
        for line in Path(f"{path}.{rank}").read_text().splitlines():
            batch = json.loads(line)
            step, name = batch.pop("step"), batch.pop("part_name")
            clips = [dict(zip(batch, values, strict=True)) for values in zip(*batch.values(), strict=True)]
            found.setdefault(step, []).extend(clip | {"part_name": name} for clip in clips)
    return [found[step] for step in range(len(found))]


def weights(folder: Path, stage: str) -> dict[str, torch.Tensor]:
    (path,) = folder.glob(f"runs/mixer/{stage}-*/weights.pt")
    return torch.load(path, weights_only=True)


def test_every_batch_has_its_shares_and_masks_of_what_is_not_there(ran: Path):
    read = steps(ran / "mixed")
    assert len(read) == EPOCHS * 24 // 4
    for clips in read:
        assert Counter(clip["part"] for clip in clips) == {0: 4, 1: 2, 2: 2}
        for clip in clips:
            own, tagged = clip["part"] == 0, clip["part"] == 1
            assert clip["audio_there"] and clip["audio"]
            assert clip["video_there"] == own == (clip["video"] != 0)
            assert clip["label_there"] == own and clip["label"] == float(own)
            assert clip["label_tags_there"] == tagged == (clip["label_tags"] > 0)
            assert not clip["part_name"]


def test_each_part_s_clips_are_its_own_and_each_is_read_as_often_as_any_other(ran: Path, theirs: Theirs):
    listed = {0: COUNTS["vggsound"]["train"], 1: COUNTS["fsd50k"]["train"], 2: COUNTS["fsd50k"]["val"]}
    clips = [clip for step in steps(ran / "mixed") for clip in step]
    (planned,) = make_plan(compose(theirs.settings(ran)[0], theirs.settings(ran, "stage=mixed")[1:])).stages
    assert planned.mixture is not None
    for place, part in enumerate(planned.mixture.parts):
        often = Counter(clip["clip_id"] for clip in clips if clip["part"] == place)
        assert often.keys() == set(part.manifest.table["clip_id"]) and len(often) == listed[place]
        assert max(often.values()) - min(often.values()) <= 1
    assert len({clip["key"] for clip in clips}) == len(clips), "another augmentation each time"


def test_a_step_of_one_part_is_as_if_it_were_alone(ran: Path):
    read = steps(ran / "turns")
    # Once through 24 clips in batches of 8 is 3 steps, and the weights are 3 to 2.
    assert len(read) == EPOCHS * 5
    for epoch in (read[:5], read[5:]):
        assert Counter(step[0]["part_name"] for step in epoch) == {"vggsound": 3, "tags": 2}
    for step in read:
        own = step[0]["part_name"] == "vggsound"
        assert len(step) == (8 if own else 4) and {clip["part"] for clip in step} == {0 if own else 1}
        assert all(clip["part_name"] == step[0]["part_name"] and clip["label_there"] for clip in step)
        assert all(("video" in clip) == own for clip in step) and "video_there" not in step[0]
    clips = [clip for step in read for clip in step]
    assert {clip["part"] for clip in clips if clip["mixed"]} == {1}, "mix-up is the part's own"


@pytest.mark.slow
def test_a_part_of_narrated_videos_takes_its_steps_and_is_cut_anew_each_time(theirs: Theirs, tmp_path: Path):
    """Once through 24 clips in batches of 8 is 3 steps, and the weights are 3 to 2."""
    sample.make(tmp_path / "data", ["howto100m"], counts={"howto100m": {"train": 3}}, workers=1)
    (tmp_path / "data" / "VGGSound").symlink_to(theirs.data / "VGGSound")
    narrated = ["dataset=howto100m", "labels=false", "data.augment.mixup=0"]
    narrated += [f"data.narration.{setting}" for setting in ("cut=windows", "per_video=2", "seconds=1.0")]
    moved = replace(theirs, data=tmp_path / "data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MIXING_LOG", str(tmp_path / "log"))
        settings = ["stage=turns", *(f"stages.turns.mixture.parts.tags.{setting}" for setting in narrated)]
        assert main(["run", *moved.settings(tmp_path, *settings)]) == 0
    read = steps(tmp_path / "log")
    assert len(read) == EPOCHS * 5
    for epoch in (read[:5], read[5:]):
        assert Counter(step[0]["part_name"] for step in epoch) == {"vggsound": 3, "tags": 2}
    said = [step for step in read if step[0]["part_name"] == "tags"]
    for step in said:
        videos = Counter(clip["clip_id"].partition("/")[0] for clip in step)
        assert len(step) == 4 and set(videos.values()) == {2}, "two clips of each of two videos"
        assert all(clip["part"] == 1 and not clip["label_there"] and "video" not in clip for clip in step)
    often = Counter(clip["clip_id"] for step in said for clip in step)
    assert len(often) == 6 and max(often.values()) - min(often.values()) <= 1
    heard = [clip["audio"] for step in said for clip in step]
    assert len(set(heard)) == len(heard), "cut elsewhere each time"


def test_the_plan_and_the_record_have_each_part(ran: Path, theirs: Theirs, capsys: pytest.CaptureFixture[str]):
    assert main(["plan", *theirs.settings(ran)]) == 0
    shown = capsys.readouterr().out
    assert "fsd50k train" in shown and "fsd50k val" in shown and "8 of 8 (100.0%)" in shown and "10 of 10" in shown
    records, errors = read_all(ran / "leaderboards" / "sample" / "results")
    assert not errors
    (record,) = (record for record in records if record.stage == "mixed")
    assert [(part.dataset, part.split, part.used) for part in record.train_parts] == [
        ("fsd50k", "train", 10),
        ("fsd50k", "val", 8),
    ]
    assert record.train.dataset == "vggsound" and record.train.used == 24
    assert record.settings["stages.mixed.mixture.parts.quiet.labels"] is False


def test_in_place_of_a_clip_that_cannot_be_read_comes_one_of_the_same_part(
    theirs: Theirs, ran: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    usual = steps(ran / "mixed")
    lost = next(clip["clip_id"] for clip in usual[0] if clip["part"] == 1)
    read = ClipDataset._clip

    def damaged(self, files, ref, moment):
        if moment.clip_id == lost:
            raise MediaError("a.wav", "truncated")
        return read(self, files, ref, moment)

    monkeypatch.setattr(ClipDataset, "_clip", damaged)
    monkeypatch.setenv("MIXING_LOG", str(tmp_path / "log"))
    shutil.copytree(ran / "runs" / "cache", tmp_path / "runs" / "cache")
    assert main(["run", *theirs.settings(tmp_path, "stage=mixed")]) == 0
    for before, now in zip(usual, steps(tmp_path / "log"), strict=True):
        for clip, other in zip(before, now, strict=True):
            if clip["clip_id"] == lost:
                assert other["part"] == clip["part"] and other["clip_id"] != lost and other["label_tags_there"]
            else:
                assert other == clip


# --- identity


def identity(theirs: Theirs, folder: Path, *overrides: str) -> tuple[str, dict[str, Any]]:
    config = compose("mixer", theirs.settings(folder, "stage=mixed", *overrides)[1:])
    (stage,) = make_plan(config).stages
    return stage.identity, row_settings(config, stage)


PART = "stages.mixed.mixture.parts.tags"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("override", "changes"),
    [
        (f"{PART}.weight=2", True),
        (f"{PART}.data.augment.mixup=0.5", True),
        ("stages.mixed.mixture.steps=4", True),
        (f"{PART}.train=[val]", True),
        ("stages.mixed.data.augment.freq_mask=2", True),
        (f"{PART}.data.inputs.video.size=8", False),
        (f"{PART}.data.loader.workers=1", False),
        (f"{PART}.data.min_coverage=0.1", False),
        ("data.loader.workers=1", False),
    ],
)
def test_what_determines_a_part_s_clips_is_of_the_identity_and_the_row(
    theirs: Theirs, ran: Path, override: str, changes: bool
):
    before, after = identity(theirs, ran), identity(theirs, ran, override)
    assert (before[0] != after[0]) == (before[1] != after[1]) == changes


# --- what cannot be


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        ([f"{PART}.dataset=fsd50"], f"no such dataset ({PART}.dataset): 'fsd50'. Did you mean 'fsd50k'?"),
        ([f"{PART}.train=[trian]"], f"split of fsd50k ({PART}.train)"),
        ([f"{PART}.train=[]"], f"{PART}.train: name the splits of fsd50k to train on"),
        ([f"{PART}.weight=-1"], "stages.mixed.mixture.parts.tags.weight=-1: a weight is above 0"),
        (["stages.mixed.mixture.weight=0"], "stages.mixed.mixture.weight=0: a weight is above 0"),
        ([f"{PART}.batch_size=4"], f"{PART}.batch_size: with schedule=shares"),
        ([f"{PART}.dataset=vggsound", f"{PART}.train=[test]"], f"{PART}.train has test, on which vggsound scores"),
        (["stages.mixed.train=[]"], "stages.mixed.mixture: the stage trains on nothing of its own"),
        (["stages.mixed.mixture.steps=-1"], "stages.mixed.mixture.steps=-1"),
        ([f"{PART}.data.inputs.audio.frames=70"], "vggsound and tags are to be in one batch, but audio is [1, 50, 32]"),
        ([f"{PART}.data.train_share=2"], f"{PART}.data.train_share=2: a share is above 0 and at most 1"),
        ([f"{PART}.modality=x"], f"{PART}.modality: 'x' is not made of a, v, t and i"),
        ([f"{PART}.data.inputs.audoi.frames=70"], f"no such key '{PART}.data.inputs.audoi"),
        (["stages.mixed.batch_size=44"], "tags has 10 usable clips an epoch, fewer than its 11 of one batch"),
        (["stages.mixed.batch_size=12", "trainer.devices=2"], "a batch has 3 clips of tags, which do not divide over"),
        (["stages.mixed.batch_size=10", "trainer.device_batch=5"], "a batch has 2.5 clips of tags"),
        (["stages.mixed.mixture.parts.vggsound={dataset: fsd50k, train: [val], modality: a}"], "as the stage's own is"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_mixture_that_cannot_be_is_named_with_its_key(
    theirs: Theirs, tmp_path: Path, overrides: list[str], says: str
):
    settings = theirs.settings(tmp_path, "stage=mixed", "trainer.accelerator=cpu", *overrides)
    with pytest.raises(UserError) as error:
        make_plan(compose("mixer", settings[1:]))
    assert says in str(error.value)


def test_a_share_of_the_clips_is_that_of_one_dataset_alone(theirs: Theirs, tmp_path: Path):
    tags, own = f"{PART}.data.train_share=0.5", "stages.mixed.data.train_share=0.5"
    clips, identities, rows = [], set(), []
    for share in ([], [tags], [own]):
        config = compose("mixer", theirs.settings(tmp_path, "stage=mixed", *share)[1:])
        (stage,) = make_plan(config).stages
        assert stage.mixture is not None
        clips.append([len(part.manifest) for part in stage.mixture.parts])
        identities.add(stage.identity)
        rows.append([key for key in row_settings(config, stage) if key.endswith("train_share")])
    # Half of 10 clips of several classes; of one clip a class, that one.
    assert clips == [[24, 10, 8], [24, 5, 8], [24, 10, 8]] and len(identities) == 3
    assert rows == [[], [f"{PART}.data.train_share"], ["stages.mixed.data.train_share"]]


# --- folds, and the contract


def test_the_rest_of_the_stage_s_own_dataset_is_the_other_folds_and_rows_are_not_parted_by_folds():
    stage = "stages.train_esc10"
    part = f"{stage}.mixture.parts.unlabelled"
    settings = [f"{part}.dataset=esc10", f"{part}.train=[rest]", f"{part}.labels=false"]
    config = compose("baseline_cnn", ["preset=tiny", *settings])
    folds = {name: each for name, each in config.stages.items() if name.startswith("train_esc10")}
    assert len(folds) == 5
    for each in folds.values():
        assert each.mixture.parts["unlabelled"].train == each.train and f"fold{each.fold}" not in each.train
    rows = [stage_settings(each) | {"fold": 0, "train": []} for each in folds.values()]
    assert all(row == rows[0] for row in rows)


@pytest.mark.parametrize("stage", ["mixed", "turns"])
def test_the_contract_can_be_checked_of_a_stage_of_several_datasets(theirs: Theirs, stage: str):
    (case,) = (case for case in cases("mixer") if case.stage == stage)
    batch = made_up_batch(case)
    if stage == "mixed":
        assert batch["part"].tolist() == [0, 0, 1, 2] * 2
    checks.keeps_the_contract(case)


# --- several processes and kills


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["mixed", "turns"])
def test_two_processes_read_what_one_reads(theirs: Theirs, ran: Path, tmp_path: Path, stage: str):
    shutil.copytree(ran / "runs" / "cache", tmp_path / "runs" / "cache")
    assert theirs.bench(None, tmp_path, f"stage={stage}", *TWO_PROCESSES) == 0
    each = [Path(f"{tmp_path / 'log'}.{rank}").read_text().splitlines() for rank in range(2)]
    for one, two in zip(*each, strict=True):
        assert Counter(json.loads(one)["part"]) == Counter(json.loads(two)["part"])
    for step, of_both in zip(steps(ran / stage), steps(tmp_path / "log", 2), strict=True):
        for clip, same in zip(*(sorted(clips, key=lambda clip: clip["key"]) for clips in (step, of_both)), strict=True):
            assert {**clip, "audio": 0, "video": 0} == {**same, "audio": 0, "video": 0}
            assert clip["audio"] == pytest.approx(same["audio"], rel=1e-4)
    one, both = weights(ran, stage), weights(tmp_path, stage)
    assert all(torch.allclose(one[name], both[name], atol=1e-4) for name in one)


@pytest.mark.slow
@pytest.mark.parametrize(("stage", "workers"), [("mixed", 1), ("turns", 0)])
def test_killed_in_the_middle_it_goes_on_with_the_next_step(
    theirs: Theirs, ran: Path, tmp_path: Path, stage: str, workers: int
):
    shutil.copytree(ran / "runs" / "cache", tmp_path / "runs" / "cache")
    settings = [f"stage={stage}", "trainer.checkpoint_every=1", f"data.loader.workers={workers}"]
    assert theirs.bench(["stop_group", 7, signal.SIGKILL], tmp_path, *settings) == -signal.SIGKILL
    killed = steps(tmp_path / "log")
    assert killed == steps(ran / stage)[: len(killed)] and len(killed) < 8
    assert theirs.bench(None, tmp_path, *settings) == 0
    assert steps(tmp_path / "log")[6] == steps(ran / stage)[6]
    lines = [json.loads(line)["step"] for line in Path(f"{tmp_path / 'log'}.0").read_text().splitlines()]
    assert len(lines) == len(steps(ran / stage)), "no step was done twice"
    assert steps(tmp_path / "log") == steps(ran / stage)
    one, two = weights(ran, stage), weights(tmp_path, stage)
    assert all(torch.equal(one[name], two[name]) for name in one)
