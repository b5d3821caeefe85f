"""`bench sweep`: which jobs there are, and that running them gives what `bench run` gives."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from rich.console import Console

from bench import registry
from bench.cli import main
from bench.config.compose import compose
from bench.errors import UserError
from bench.launch.jobs import State
from bench.launch.sweep import Entry, SweepRun, make_cells, make_table, measured_on, plan_cell
from bench.launch.sweep_run import local_machine
from bench.launch.sweep_table import to_table
from tests import gated_method
from tests.bench.sweeps import METHODS, places, scores


def table(arguments: list[str], datasets=(), seeds=(0,), grid=()) -> list[Entry]:
    return make_table(plan_cell(cell, datasets, local_machine) for cell in make_cells(arguments, seeds, grid))


@pytest.fixture(scope="module")
def own(sample_root: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return places(sample_root, tmp_path_factory.mktemp("planned"))


@pytest.fixture
def gated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The test's method, known here and to the processes that are started."""
    folder = str(gated_method.install(tmp_path / "site"))
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", folder)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # as here: `conftest.py`
    registry.methods.cache_clear()
    yield
    registry.methods.cache_clear()


def test_all_combinations_each_with_its_settings():
    cells = make_cells(["mavil", "a=1", "mbt", "mbt.b=2"], [0, 3, 3], ["c=x,[y,z]", "d="])
    assert len(cells) == 2 * 2 * 2
    assert cells[0] == SweepRun("mavil", ("a=1", "c=x", "d=", "seed=0"), 0, ("c=x", "d="))
    assert cells[-1] == SweepRun("mbt", ("a=1", "b=2", "c=[y,z]", "d=", "seed=3"), 3, ("c=[y,z]", "d="))


def test_what_runs_share_is_one_job_and_stands_before_what_needs_it(own, gated):
    entries = table([*METHODS, *own], ["vggsound"], [0, 1])
    assert [(e.method, e.stage, e.seed) for e in entries] == [
        *(("gated", stage, seed) for seed in (0, 1) for stage in ("pretrain", "classify")),
        *(("baseline_cnn", "train_fsd50k", seed) for seed in (0, 1)),
    ]
    pretrain, *classify = table(["gated", *own], ["vggsound"], [0], ["stages.classify.epochs=2,3,4"])
    assert [e.job.needs for e in classify] == [(pretrain.job.name,)] * 3
    assert classify[0].job.name == next(e.job.name for e in entries if e.stage == "classify" and e.seed == 0)
    assert [e.varied for e in classify] == [(f"stages.classify.epochs={epochs}",) for epochs in (2, 3, 4)]
    assert len({e.job.name for e in classify}) == 3


def test_datasets_choose_what_is_measured_on_them():
    config = compose("mavil", ["preset=tiny"])
    ends = {f"finetune_vggsound_{m}" for m in ("a", "v", "av")} | {f"retrieval_vggsound_{m}" for m in ("a2v", "v2a")}
    assert set(measured_on(config, ["vggsound"])) == ends
    assert len(measured_on(config, ["vggsound", "audioset"])) == len(ends) + 3
    named = compose("mavil", ["preset=tiny", "stage=[finetune_vggsound_a,finetune_audioset_a]"])
    assert measured_on(named, ["vggsound"]) == ["finetune_vggsound_a"]


def test_a_job_s_command_runs_the_stage_that_was_planned(own, gated):
    """What a job plans for itself has the identities that the sweep has found."""
    for entry in table(["gated", *own, "trainer.accelerator=cpu"], ["vggsound"], [3]):
        method, *overrides = entry.job.command[entry.job.command.index("run") + 1 :]
        _, plan = plan_cell(SweepRun(method, tuple(overrides), 3), (), local_machine)
        assert plan.stages[-1].name == entry.stage
        assert (plan.stages[-1].folder / "done.json").absolute() == entry.job.result


def test_an_init_that_would_mean_other_stages_in_a_job(own, gated, tmp_path):
    """It is for the stages that `stage=` names; where none of them starts from nothing, for all that do."""
    weights = tmp_path / "w.pt"
    weights.write_bytes(b"0")
    second = [f"stages.second.{setting}" for setting in ("module=Classify", "dataset=vggsound", "train=[train]")]
    two_roots = ["gated", *own, f"init={weights}", *second, "stages.second.modality=a", "stages.second.batch_size=16"]
    assert len(table([*two_roots, "stage=[pretrain,second]"])) == 2
    with pytest.raises(UserError, match="init=.* would be for pretrain .*; in a sweep give it as stages"):
        table([*two_roots, "stage=[classify,second]"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a=1"], "name at least one method"),
        (["mbt", "seed=1"], "seed=1: in a sweep give seeds as --seeds 1"),
        (["mavli"], "Did you mean 'mavil'"),
        (["mavil", "--data", "vgsound"], "mavil: no such dataset: 'vgsound'. Did you mean 'vggsound'"),
        (["mbt", "--data", "esc50"], "mbt: preset tiny has no stage that is measured on esc50; it has some on audio"),
        (["mbt", "--grid", "preset"], "--grid 'preset' is not key=value,value"),
        (["mbt", "mbt.modle.dim=3"], "mbt: command line: no such key 'modle'. Did you mean 'model'"),
    ],
)
def test_mistakes_of_a_sweep_are_user_errors_before_anything_runs(arguments, message, capsys):
    assert main(["sweep", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_the_table_shows_first_what_a_person_looks_for(own, gated):
    entries = table(["gated", *own], seeds=[0, 1, 2])
    states = {entry.job.name: State.WAITS for entry in entries}
    states[entries[-1].job.name] = State.FAILED
    states[entries[0].job.name] = State.DONE
    console = Console(width=150)
    with console.capture() as captured:
        console.print(to_table(entries, states, 3))
    rows = [line.split() for line in captured.get().splitlines() if "gated" in line]
    assert [[word for word in row if word.isalnum()] for row in rows] == [
        ["gated", "classify", "0", "waits"],
        ["gated", "pretrain", "1", "waits"],
        ["gated", "classify", "2", "failed"],
    ]
    assert "4 waits, 1 done, 1 failed; 3 rows are not shown" in " ".join(captured.get().split())


@pytest.mark.slow
@pytest.mark.timeout(1500)  # only there to find what hangs
def test_a_sweep_leaves_what_single_runs_leave_and_one_that_fails_fails_alone(
    sample_root: Path, tmp_path: Path, gated: None, monkeypatch: pytest.MonkeyPatch, capsys
):
    mine = places(sample_root, tmp_path / "sweep")
    sweep = [
        "sweep",
        *METHODS,
        "gated.variant=scratch",
        *mine,
        "--data",
        "vggsound",
        "--seeds",
        "0",
        "1",
        "--jobs",
        "2",
    ]
    monkeypatch.setenv("BREAK", "1")
    assert main(sweep) == 1
    said = capsys.readouterr().err
    failures = re.findall(r"^(.*): failed: RuntimeError: broken on purpose \((.*)\)$", said, re.MULTILINE)
    assert [title for title, _ in failures] == ["gated classify seed=1"] and "sweep: 3 done, 1 failed" in said
    assert "broken on purpose" in Path(failures[0][1]).read_text()
    assert len(scores(tmp_path / "sweep")) == 3

    monkeypatch.delenv("BREAK")
    assert main(sweep) == 0
    assert "vggsound.md and .csv" in capsys.readouterr().out
    logs = sorted((tmp_path / "sweep" / "runs" / "sweeps").glob("*/*/log.txt"))
    assert sorted(log.read_text().count("$ ") for log in logs) == [1, 1, 1, 2]  # commands: only what failed ran again

    for cell in make_cells([*METHODS, "gated.variant=scratch", *places(sample_root, tmp_path / "single")], [0, 1], []):
        stage = "classify" if cell.method == "gated" else "train_fsd50k"
        assert main(["run", cell.method, *cell.overrides, f"stage={stage}"]) == 0
    assert scores(tmp_path / "sweep") == scores(tmp_path / "single")
