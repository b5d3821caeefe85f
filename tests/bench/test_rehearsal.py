"""What a stage would trip over after the training of those before it is an error before anything is trained."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.cli import main
from bench.config.compose import compose
from bench.errors import UserError
from bench.plan.graph import make_plan
from bench.run.rehearsal import rehearse
from tests.installed import forget, install

NAME = "avl_rehearsed"
METHOD = """
from experiments.baseline_cnn.method import Train
from experiments.common.stage import Stage, StageSpec
from experiments.common.weights import load_strict
from torch import nn


class Pretrain(Train):
    def load_parent(self, weights):
        load_strict(self, weights)


class Fits(Pretrain):
    def __init__(self, spec):
        looked_up = {"a": "sound"}[spec.modality]
        super().__init__(spec)
        self.looked_up = looked_up


class Wider(Pretrain):
    def __init__(self, spec):
        super().__init__(spec)
        self.extra = nn.Linear(2, 3)


class StartsFromNothing(Train):
    load_parent = Stage.load_parent


class GivesNothing(Pretrain):
    predict_step = Stage.predict_step


class GivesAnother(Pretrain):
    def predict_step(self, batch, batch_idx):
        return {"logits": {"av": self.logits(batch)}}


class GivesEmbedding(Pretrain):
    def predict_step(self, batch, batch_idx):
        return {"embedding": {"a": self.logits(batch)}}


class LooksAtValues(Pretrain):
    def predict_step(self, batch, batch_idx):
        assert batch["audio"].sum().item() < 1e9 and self.trainer.world_size
        return super().predict_step(batch, batch_idx)
"""
CONFIG = """
model: {widths: [8, 8]}
data: {inputs: {audio: {mel_bins: 32, frames: 100}, video: null}, loader: {workers: 0}}
stages:
  pretrain: &stage {module: Pretrain, dataset: vggsound, train: [train], modality: a, epochs: 1, batch_size: 16}
  classify: {<<: *stage, module: Fits, after: pretrain, board: vggsound}
presets: {tiny: {}, paper: {}}
"""
POINTS = f'project = {{name = "{NAME}", version = "1", entry-points."avl_bench.methods".{NAME} = "{NAME}"}}'


@pytest.fixture
def method(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    (tmp_path / NAME).mkdir()
    for file, text in (("__init__.py", ""), ("method.py", METHOD), ("config.yaml", CONFIG)):
        (tmp_path / NAME / file).write_text(text)
    install(tmp_path, POINTS)
    monkeypatch.syspath_prepend(tmp_path)
    forget(NAME)
    yield NAME
    forget(NAME)


@pytest.fixture(scope="module")
def places(sample_root: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Settings; what is known of the media is kept among the runs, from one test to the next."""
    return [f"sample_root={sample_root}", f"runs={tmp_path_factory.mktemp('runs')}"]


@pytest.mark.parametrize(
    ("module", "message"),
    [
        ("Wider", "stage classify: these weights do not fit:\n  extra.weight: missing"),
        ("StartsFromNothing", "stage classify: StartsFromNothing starts from nothing; remove `after`"),
        ("GivesNothing", "stage classify: GivesNothing is measured, but has no predict_step"),
        ("GivesAnother", "stage classify: vggsound measures a; predict_step gives out av"),
        ("GivesEmbedding", "classification measures logits or probabilities; the method gave: embedding"),
    ],
)
def test_a_stage_that_could_not_be_done_after_the_one_before_is_refused(method, places, module, message):
    with pytest.raises(UserError, match=re.escape(message)):
        rehearse(make_plan(compose(method, [f"stages.classify.module={module}", *places])))


@pytest.mark.parametrize("module", ["Fits", "LooksAtValues"])
def test_what_fits_passes_and_so_does_what_cannot_be_tried_without_values(method, places, module):
    rehearse(make_plan(compose(method, [f"stages.classify.module={module}", *places])))


def test_a_modality_that_the_method_looks_up_in_vain_is_named_with_those_that_it_has(method, places):
    settings = ["stages.classify.modality=v", "stages.classify.data.inputs.video.frames=2"]
    with pytest.raises(
        UserError, match=r"stage classify: Fits cannot do modality=v; in .*config\.yaml its stages have a$"
    ):
        rehearse(make_plan(compose(method, [*settings, *places])))


@pytest.mark.parametrize("command", ["run", "plan"])
def test_it_is_refused_before_anything_is_trained(method, places, capsys, monkeypatch, command):
    monkeypatch.setattr("bench.run.execute.run_stage", lambda *_: pytest.fail("nothing is to be trained"))
    assert main([command, method, "stages.classify.module=Wider", *places]) == 2
    assert "bench: stage classify: these weights do not fit" in capsys.readouterr().err
