"""Weights that are given: released files, and that nothing is measured of which a part stayed random."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.special import expit
from sklearn.metrics import average_precision_score
from torch import nn

from bench import registry
from bench.cli import main
from bench.config.compose import compose
from bench.contract.cases import Case, composed, spec, stage_class
from bench.errors import UserError
from bench.plan.graph import make_plan
from bench.plan.identity import file_hash
from bench.run.results import read_predictions
from bench.run.weights import load, require_loaded, versions
from datamodules.boards import Board, Classification, Retrieval
from datamodules.types import Inputs
from experiments.cmkd.checkpoints import to_official
from experiments.cmkd.model import build
from experiments.common.stage import Stage, StageSpec
from tests.bench.runs import arguments as mavil
from tests.bench.stages import arguments, planned, scores, user_error, weights

EVALUATE = [
    *("model.ast.dim=24", "model.ast.depth=1", "model.ast.heads=3", "stage=evaluate_ast"),
    *("stages.evaluate_ast.data.inputs.audio.frames=64", "stages.evaluate_ast.data.inputs.audio.mel_bins=128"),
]


@pytest.fixture
def released(sample_root: Path, tmp_path: Path) -> Path:
    """A small network in the authors' layout, as DataParallel saves it."""
    path = tmp_path / "released.pth"
    path.touch()
    spec = planned(sample_root, tmp_path, "cmkd", *EVALUATE, f"init={path}")["evaluate_ast"].spec
    torch.manual_seed(0)
    net = build("ast", spec.model, spec.inputs.audio, spec.num_classes)
    for value in net.parameters():
        nn.init.normal_(value, std=0.2)
    torch.save({f"module.{key}": value for key, value in to_official(net).items()}, path)
    return path


def test_a_stage_that_wants_weights_says_how_to_give_them(sample_root: Path, tmp_path, capsys):
    text = user_error(capsys, *arguments(sample_root, tmp_path, "cmkd", *EVALUATE))
    assert "stage evaluate_ast uses weights that it is given: init=FILE or stages.evaluate_ast.init=FILE" in text
    assert not (tmp_path / "runs" / "cmkd").exists()


def test_a_released_file_is_measured(sample_root: Path, released: Path, tmp_path):
    options = [*EVALUATE, f"init={released}"]
    assert main(["run", *arguments(sample_root, tmp_path, "cmkd", *options)]) == 0
    stage = planned(sample_root, tmp_path, "cmkd", *options)["evaluate_ast"]
    given, used = torch.load(released, weights_only=True), weights(stage)
    assert torch.equal(used["net.patch_embed.weight"], given["module.v.patch_embed.proj.weight"])
    assert torch.equal(used["net.head.1.bias"], given["module.mlp_head.1.bias"])
    assert torch.equal(used["net.positions"], given["module.v.pos_embed"][0])
    record = json.loads((stage.folder / "record.json").read_text())
    assert record["parents"] == [{"stage": "init", "identity": file_hash(released), "data": ""}]
    assert record["train"] is None and record["n"] == len(stage.scored) == 37
    assert np.ptp(scores(stage, "a"), axis=0).max() > 1e-3


def test_an_unknown_key_of_a_file_is_named(sample_root: Path, released: Path, tmp_path, capsys):
    torch.save({**torch.load(released, weights_only=True), "module.v.strange.weight": torch.ones(2)}, released)
    text = user_error(capsys, *arguments(sample_root, tmp_path, "cmkd", *EVALUATE, f"init={released}"))
    assert "v.strange.weight" in text and "evaluate_ast" in text


def test_a_file_that_holds_no_weights_is_named(sample_root: Path, released: Path, tmp_path, capsys):
    released.write_text("<html>404</html>")
    assert str(released) in user_error(capsys, *arguments(sample_root, tmp_path, "cmkd", *EVALUATE, f"init={released}"))


@pytest.mark.slow
def test_a_folder_of_released_files_is_measured_by_their_mean_probability(sample_root: Path, released: Path, tmp_path):
    """As AST's and PSLA's `ensemble.py` do it; each file is a network of its own, head and all."""
    folder, given = tmp_path / "ensemble", torch.load(released, weights_only=True)
    folder.mkdir()
    for times in (1, 2, 3):  # its logits, that is
        head = {key: times * value for key, value in given.items() if "mlp_head.1." in key}
        torch.save(given | head, folder / f"audio_model.{times}.pth")
    inits = (folder / "audio_model.1.pth", folder)
    for init in inits:
        assert main(["run", *arguments(sample_root, tmp_path, "cmkd", *EVALUATE, f"init={init}")]) == 0
    one, together = (
        planned(sample_root, tmp_path, "cmkd", *EVALUATE, f"init={init}")["evaluate_ast"] for init in inits
    )
    expected = np.mean([expit(times * scores(one, "a")) for times in (1, 2, 3)], axis=0)
    np.testing.assert_allclose(expit(scores(together, "a")), expected, atol=1e-5)
    record = json.loads((together.folder / "record.json").read_text())
    files = {file_hash(file) for file in folder.iterdir()}
    assert {parent["identity"] for parent in record["parents"]} == files and len(files) == 3
    assert record["cost"]["parameters"] == 3 * one.parameters and together.flops == 3 * one.flops
    released.rename(folder / "another.pth")
    assert (
        planned(sample_root, tmp_path, "cmkd", *EVALUATE, f"init={folder}")["evaluate_ast"].identity
        != together.identity
    )


def test_a_folder_of_files_is_no_start_of_a_training(sample_root: Path, tmp_path, capsys):
    given = ["stage=train_ast_audioset20k", f"init={tmp_path / 'files'}"]
    (tmp_path / "files").mkdir()
    assert "this folder holds no checkpoint" in user_error(capsys, *arguments(sample_root, tmp_path, "cmkd", *given))
    for name in ("a.pth", "b.pth"):
        (tmp_path / "files" / name).touch()
    text = user_error(capsys, *arguments(sample_root, tmp_path, "cmkd", *given))
    assert "stages.train_ast_audioset20k.init=" in text and "holds 2 checkpoints, but only a stage that just" in text


@pytest.mark.slow
def test_a_released_psla_is_ranked_by_its_numbers_as_they_are(sample_root: Path, tmp_path):
    """They leave 0..1 where its heads' weights sum to more; `validate` ranks them all the same."""
    path = tmp_path / "as_mdl_0.pth"
    path.touch()
    options = ["stage=evaluate_psla", f"init={path}", "data.inputs.audio.mel_bins=128"]
    options.append("stages.evaluate_psla.data.inputs.audio.frames=64")
    spec = planned(sample_root, tmp_path, "cmkd", *options)["evaluate_psla"].spec
    torch.manual_seed(0)
    net = build("psla", spec.model, spec.inputs.audio, spec.num_classes)
    nn.init.constant_(net.head.weight_H, 0.6)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the statistics of one batch, so that clips get different answers
    net(3 * torch.randn(8, 1, 64, 128))
    torch.save({f"module.{key}": value for key, value in to_official(net).items()}, path)
    assert main(["run", *arguments(sample_root, tmp_path, "cmkd", *options)]) == 0
    stage = planned(sample_root, tmp_path, "cmkd", *options)["evaluate_psla"]
    found = read_predictions(stage.folder / "predictions.parquet")
    assert found.scale == "probabilities" and (found.scores["a"] > 1).mean() > 0.3
    present = found.target.any(axis=0)
    expected = average_precision_score(found.target[:, present], found.scores["a"][:, present], average="macro")
    clamped = average_precision_score(
        found.target[:, present], found.scores["a"][:, present].clip(0, 1), average="macro"
    )
    record = json.loads((stage.folder / "record.json").read_text())
    assert record["metrics"]["mAP"]["value"] == pytest.approx(expected) and abs(expected - clamped) > 1e-3


# --- what stays random


def test_a_file_for_other_classes_is_not_measured_with_a_random_head(sample_root, released, tmp_path, capsys):
    given = torch.load(released, weights_only=True)
    for name in ("module.mlp_head.1.weight", "module.mlp_head.1.bias"):
        given[name] = given[name][:7]
    torch.save(given, released)
    text = user_error(capsys, *arguments(sample_root, tmp_path, "cmkd", *EVALUATE, f"init={released}"))
    assert "stage evaluate_ast measures without training, and 4 of its parameters would be random" in text
    assert "net.head.0.bias, net.head.0.weight, net.head.1.bias, net.head.1.weight" in text
    assert str(released) in text.replace("\n", "")
    assert not list(tmp_path.rglob("record.json"))


def test_a_stage_whose_training_is_taken_away_needs_a_head_and_measures_its_own(sample_root, tmp_path, capsys):
    """`train=[]`: a headless file is refused, the stage's own weights are measured as they are."""
    stage, path = "finetune_vggsound_av", tmp_path / "given.pt"
    run, *rest = mavil(sample_root, tmp_path, f"stages.{stage}.train=[]", f"init={path}")
    path.touch()
    (only,) = make_plan(compose(rest[0], rest[1:])).stages
    torch.manual_seed(3)
    whole = only.stage_class(only.spec).state_dict()
    torch.save({name: value for name, value in whole.items() if not name.startswith("head.")}, path)
    text = user_error(capsys, *rest)
    assert "2 of its parameters would be random" in text and "head.bias, head.weight" in text
    torch.save(whole, path)
    assert main([run, *rest]) == 0
    (only,) = make_plan(compose(rest[0], rest[1:])).stages
    assert all(torch.equal(value, whole[name]) for name, value in weights(only).items())


def measuring() -> list[Case]:
    """The stages of every method that have outputs and do not train; of those whose networks, tasks and parents are of
    one kind, the first."""
    found: dict[str, Case] = {}
    for method in registry.methods():
        stages = composed(method).stages
        for name, stage in stages.items():
            if not stage.train and not stage.ensemble and not stage.average_outputs:
                pair = [(each.module, each.modality, each.options) for each in (stage, stages[stage.after or name])]
                task = stage.objects.board and stage.objects.board.task
                found.setdefault(repr((method, pair, task, stage.features)), Case(method, name))
    return list(found.values())


@pytest.mark.parametrize("case", measuring(), ids=str)
def test_every_stage_that_only_measures_takes_all_from_the_stage_before_or_from_its_own_weights(case: Case):
    config, stage = case.config, case.config.stages[case.stage]
    parent = stage.after or case.stage
    given = stage_class(config, parent)(spec(config, parent)).state_dict()
    module, board = stage_class(config, case.stage)(spec(config, case.stage)), stage.objects.board
    fake = SimpleNamespace(
        name=case.stage, config=stage, spec=module.spec, train=None, board=board, start="a file", parent=None
    )
    drawn = versions(module)
    if drawn:
        with pytest.raises(UserError, match="would be random"):
            require_loaded(fake, module, drawn)
    load(fake, module, given)
    require_loaded(fake, module, drawn)


class TwoBranches(Stage):
    """Of which a file may have one."""

    def __init__(self, spec: StageSpec):
        super().__init__(spec)
        self.a, self.v = nn.Linear(3, 2), nn.Linear(3, 2)
        self.requires_grad_(False)
        self.register_buffer("positions", torch.ones(3))

    def load_parent(self, weights):
        self.load_state_dict(weights, strict=False)

    def predict_step(self, batch, batch_idx):
        x = batch["label"][:, :3] + self.positions
        return {"logits": {"a": self.a(x), "v": self.v(x)}, "embedding": {"a": self.a(x), "v": self.v(x)}}


BOARD = Board("x", "world", "train", "test", Classification(), "top1")
PAIRS = Board("y", "world", "none", "test", Retrieval(query="a", gallery="v"), "R@1")


@pytest.mark.parametrize(
    ("modality", "board", "random"),
    [("a", BOARD, ""), ("v", BOARD, "v.bias, v.weight"), ("av", PAIRS, "v.bias, v.weight")],
)
def test_only_what_is_measured_must_be_loaded(modality: str, board: Board, random: str):
    spec = StageSpec(None, None, inputs=Inputs(audio=None, video=None), num_classes=4)
    module = TwoBranches(spec)
    stage = SimpleNamespace(
        name="x", config=SimpleNamespace(modality=modality), spec=spec, train=None, board=board, start="f", parent=None
    )
    drawn = versions(module)
    load(stage, module, {f"a.{name}": torch.zeros_like(value) for name, value in module.a.state_dict().items()})
    if not random:
        require_loaded(stage, module, drawn)
        return
    with pytest.raises(UserError, match=f"2 of its parameters would be random: {random}"):
        require_loaded(stage, module, drawn)
