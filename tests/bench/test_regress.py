"""Verdicts, reports and stored baselines of `bench regress`, without running anything."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pyarrow.parquet as parquet
import pytest

from bench.compare.paired import Difference
from bench.errors import UserError
from bench.records import provenance
from bench.regress import gate, report
from bench.regress.figures import (
    Figure,
    Tolerances,
    Verdict,
    figures,
    memory_figure,
    metric_figure,
    ratio_of_quantiles,
    step_figure,
)
from bench.regress.measure import MeasuredRun, Run, Scored, load
from bench.run.results import read_predictions, write_predictions
from bench.tasks import Predictions, metric_infos
from tests.conftest import REPOSITORY

RUN = Run("mbt", ["preset=tiny"])
SCORED = Scored("train_vggsound_a", "vggsound", "a", "", "vggsound.parquet")


def measured(folder: Path, skill: float = 2.0, **fields) -> MeasuredRun:
    """A run with predictions that are right the more often, the greater `skill` is."""
    label = np.arange(200) % 5
    scores = np.random.default_rng(0).normal(size=(200, 5)) + skill * np.eye(5)[label]
    predictions = Predictions([f"clip{i}" for i in range(200)], np.eye(5)[label], {"a": scores})
    folder.mkdir(parents=True)
    write_predictions(predictions, folder / SCORED.predictions)
    whole = MeasuredRun(folder, RUN, (SCORED,), tuple(np.linspace(1, 1.1, 40)), 2**30, about={"commit": "abc"})
    made = replace(whole, **fields)
    made.write()
    return made


def verdicts(found: list[Figure]) -> dict[str, Verdict]:
    return {figure.name: figure.verdict for figure in found}


def test_equal_runs_have_no_regression(tmp_path: Path):
    found = figures(measured(tmp_path / "a"), measured(tmp_path / "b"), Tolerances())
    assert verdicts(found) == dict.fromkeys(
        ["top-1", "top-5", "mean class", "training step", "peak memory"], Verdict.SAME
    )


def test_what_got_worse_and_better_is_reported(tmp_path: Path):
    good, bad = measured(tmp_path / "a"), measured(tmp_path / "b", skill=0.5)
    assert verdicts(figures(good, bad, Tolerances())) == {
        **{"top-1": Verdict.WORSE, "top-5": Verdict.SAME, "mean class": Verdict.WORSE},
        **{"training step": Verdict.SAME, "peak memory": Verdict.SAME},
    }
    assert verdicts(figures(bad, good, Tolerances()))["top-1"] == Verdict.BETTER
    (line,) = [str(figure) for figure in figures(good, bad, Tolerances()) if figure.name == "top-1"]
    assert line.startswith("mbt train_vggsound_a vggsound top-1: ") and "->" in line and line.endswith("(worse)")


@pytest.mark.parametrize(
    ("fields", "name", "verdict"),
    [
        ({"failure": "ended with 1: boom"}, "run", Verdict.FAILED),
        ({"scored": (replace(SCORED, stage="another"),)}, "run", Verdict.FAILED),
        ({"seconds": tuple(np.linspace(2, 2.2, 40))}, "training step", Verdict.WORSE),
        ({"seconds": tuple(np.linspace(0.5, 0.55, 40))}, "training step", Verdict.BETTER),
        ({"memory": 2**31}, "peak memory", Verdict.WORSE),
    ],
)
def test_each_figure_has_its_verdict(tmp_path: Path, fields, name: str, verdict: Verdict):
    found = figures(measured(tmp_path / "a"), measured(tmp_path / "b", **fields), Tolerances())
    assert verdicts(found)[name] == verdict
    assert any(figure.regressed for figure in found) == (verdict in (Verdict.WORSE, Verdict.FAILED))


def test_a_run_that_the_baseline_could_not_do_is_new(tmp_path: Path):
    before = MeasuredRun(tmp_path, RUN, failure="no such method")
    (figure,) = figures(before, measured(tmp_path / "b"), Tolerances())
    assert figure.verdict == Verdict.NEW and not figure.regressed


def test_predictions_of_other_clips_are_a_failure_that_says_so(tmp_path: Path):
    after = measured(tmp_path / "b")
    other = Predictions(["other"], np.eye(5)[:1], {"a": np.ones((1, 5))})
    write_predictions(other, after.folder / SCORED.predictions)
    found = figures(measured(tmp_path / "a"), after, Tolerances())
    assert found[0].verdict == Verdict.FAILED and "no clip in common" in str(found[0])


@pytest.mark.parametrize(
    ("p", "change", "metrics", "verdict"),
    [
        (0.004, -0.1, 1, Verdict.WORSE),
        (0.004, -0.1, 12, Verdict.WORSE),
        (0.004, -0.1, 13, Verdict.SAME),  # 0.05 / 13
        (0.06, -0.1, 1, Verdict.SAME),
        (0.004, 0.1, 1, Verdict.BETTER),
    ],
)
def test_a_metric_changed_if_chance_alone_rarely_does_that(p: float, change: float, metrics: int, verdict: Verdict):
    for metric, sign in (("top1", 1), ("MedR", -1)):
        difference = Difference(metric, metric_infos()[metric], 0.5, 0.5 + sign * change, -1, 1, p)
        assert metric_figure("mbt", "train", "board", difference, metrics).verdict == verdict


def test_fractions_are_shown_as_percent():
    difference = Difference("top1", metric_infos()["top1"], 0.5, 0.4, -0.15, -0.05, 0.002)
    figure = metric_figure("mbt", "train", "vggsound", difference, 3)
    assert (figure.before, figure.after, figure.change) == ("50.0", "40.0", "-10.0 [-15.0, -5.0]")


def test_a_step_is_slower_if_the_whole_interval_is_above_the_tolerance():
    rng = np.random.default_rng(0)
    before, after = rng.uniform(1, 1.05, 60), rng.uniform(1.3, 1.35, 60)
    assert step_figure("m", "s", before, after, 0.2).verdict == Verdict.WORSE
    assert step_figure("m", "s", before, after, 0.4).verdict == Verdict.SAME
    assert step_figure("m", "s", after, before, 0.2).verdict == Verdict.BETTER
    loaded = after * rng.choice([1, 5], 60)  # other work on the machine makes steps longer, here and there
    assert step_figure("m", "s", before * rng.choice([1, 5], 60), before, 0.2).verdict == Verdict.SAME
    assert step_figure("m", "s", before, loaded, 0.2).verdict == Verdict.WORSE


def test_the_interval_of_a_ratio_holds_it_and_is_the_same_again():
    rng = np.random.default_rng(1)
    before, after = rng.exponential(size=12), rng.exponential(size=7)
    ratio, low, high = ratio_of_quantiles(before, after)
    assert low <= ratio <= high and ratio == np.quantile(after, 0.25) / np.quantile(before, 0.25)
    assert ratio_of_quantiles(before, after) == (ratio, low, high)
    assert ratio_of_quantiles(before, before)[0] == 1


def test_memory_may_grow_by_its_tolerance():
    assert memory_figure("m", "s", 1000, 1149, 0.15).verdict == Verdict.SAME
    assert memory_figure("m", "s", 1000, 1151, 0.15).verdict == Verdict.WORSE


FOUND = [
    Figure("mbt", "train", "vggsound", "top-1", "50.0", "50.0", "+0.0 [+0.0, +0.0]", Verdict.SAME),
    Figure("mbt", "train", "", "training step", "10.0 ms", "30.0 ms", "x 3.00 [2.9, 3.1]", Verdict.WORSE),
    Figure("mavil", "", "", "run", "ran", "failed", "a | b\n\x1b[31m<red>\x00", Verdict.FAILED),
]


def test_junit_has_a_test_case_a_figure_and_a_failure_a_regression():
    root = ElementTree.fromstring(report.to_junit(FOUND, {"machine": "cpu", "baseline": "commit abc"}))
    (suite,) = root.iter("testsuite")
    assert (suite.get("tests"), suite.get("failures")) == (root.get("tests"), root.get("failures")) == ("3", "2")
    cases = {(case.get("classname"), case.get("name")): case for case in suite.iter("testcase")}
    assert set(cases) == {("mbt.train", "vggsound top-1"), ("mbt.train", "training step"), ("mavil", "run")}
    assert cases["mbt.train", "vggsound top-1"].find("failure") is None
    assert "training step: 10.0 ms -> 30.0 ms, x 3.00" in cases["mbt.train", "training step"].find("failure").get(
        "message"
    )
    assert "[31m<red>" in cases["mavil", "run"].find("failure").text
    assert {p.get("name"): p.get("value") for p in suite.iter("property")} == {
        "machine": "cpu",
        "baseline": "commit abc",
    }


def test_markdown_begins_with_what_got_worse_and_keeps_its_columns():
    lines = report.to_markdown(FOUND, "bench regress").splitlines()
    assert lines[0] == "### bench regress" and lines[2] == "**2 of 3 figures got worse**"
    rows = [line for line in lines if line.startswith("| m")][1:]
    assert [row.split(" | ")[0] for row in rows] == ["| mbt", "| mavil", "| mbt"]
    assert all(row.replace("\\|", "").count("|") == len(report.COLUMNS) + 1 for row in rows)


def test_the_report_prints_names_and_writes_for_those_who_ask(tmp_path: Path, monkeypatch, capsys):
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    (tmp_path / "summary.md").write_text("an earlier step\n")
    gate.show(FOUND, "bench regress", {"baseline": "commit abc"}, tmp_path / "reports" / "junit.xml")
    printed = capsys.readouterr().out
    assert "regression: mbt train training step: 10.0 ms -> 30.0 ms, x 3.00 [2.9, 3.1] (worse)" in printed
    assert "2 of 3 figures got worse" in printed
    assert (tmp_path / "summary.md").read_text().startswith("an earlier step\n### bench regress, against commit abc")
    assert ElementTree.parse(tmp_path / "reports" / "junit.xml").getroot().get("failures") == "2"


def test_a_stored_measurement_is_read_as_it_was(tmp_path: Path):
    made = measured(tmp_path / "a")
    assert load(tmp_path / "a") == made
    gate.keep(made, tmp_path / "kept" / "mbt")
    assert verdicts(figures(load(tmp_path / "kept" / "mbt"), made, Tolerances()))["top-1"] == Verdict.SAME


def test_a_stored_baseline_of_another_suite_is_refused(tmp_path: Path):
    measured(tmp_path / "mbt")
    gate.check_stored(tmp_path, gate.Suite(runs={"mbt": RUN}))
    with pytest.raises(UserError, match="mbt/measured.json: has other settings than the suite; .*--store"):
        gate.check_stored(tmp_path, gate.Suite(runs={"mbt": Run("mbt", ["preset=tiny", "seed=1"])}))
    with pytest.raises(UserError, match="mavil/measured.json: is not there"):
        gate.check_stored(tmp_path, gate.Suite(runs={"mbt": RUN, "mavil": Run("mavil")}))


@pytest.fixture
def chosen(tmp_path: Path) -> gate.RegressOptions:
    return gate.RegressOptions(
        suite=REPOSITORY / "baselines" / "default.yaml",
        baselines=tmp_path / "baselines",
        folder=tmp_path / "runs",
        devices=1,
        sample_root=tmp_path / "sample",
        junit=None,
        against="no-such-commit",
    )


def test_only_a_commit_is_stored(monkeypatch, chosen: gate.RegressOptions):
    for state in ((None, None), ("abc", True)):
        monkeypatch.setattr(provenance, "git_state", lambda repo, state=state: state)
        with pytest.raises(UserError, match="commit or stash first"):
            gate.store(chosen)
    assert not chosen.folder.exists()


def test_a_commit_that_is_not_there_is_refused(chosen: gate.RegressOptions):
    with pytest.raises(UserError, match="has the commit 'no-such-commit'; .*--store"):
        gate.regress(chosen)


@pytest.mark.parametrize(
    ("hardware", "name"),
    [
        ({"cpu": "AMD EPYC 7B13 64-Core", "cpu_cores": 8, "gpus": 0}, "amd-epyc-7b13-64-core-8-cores"),
        ({"cpu": "any", "cpu_cores": 8, "gpus": 8, "gpu": "NVIDIA H200"}, "nvidia-h200-x2"),
    ],
)
def test_a_class_of_machine_is_its_processor_or_its_gpus(monkeypatch, hardware, name: str):
    monkeypatch.setattr(provenance, "hardware", lambda: hardware)
    assert gate.class_of_machine(2) == name


def test_the_suites_own_runs_can_be_composed():
    from bench.config.compose import compose

    suite = gate.read_suite(REPOSITORY / "baselines" / "default.yaml")
    assert len(suite.runs) >= 3 and 0 < suite.tolerances.step < 1
    for run in suite.runs.values():
        assert compose(run.method, run.overrides).preset == "tiny"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("runs: {}", "no runs"),
        ("runs: {a: {method: mbt, override: []}}", "override"),
        ("tolerances: {step: much}\nruns: {a: {method: mbt}}", "step|much"),
        ("speed: 1", "speed"),
    ],
)
def test_a_suite_with_a_mistake_is_refused_by_name(tmp_path: Path, text: str, message: str):
    (tmp_path / "suite.yaml").write_text(text)
    with pytest.raises(UserError, match=f"suite.yaml: .*({message})"):
        gate.read_suite(tmp_path / "suite.yaml")
    with pytest.raises(UserError, match="no suite .*none.yaml"):
        gate.read_suite(tmp_path / "none.yaml")


def test_one_at_a_time_runs_in_a_folder(tmp_path: Path):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "old").write_text("of an earlier call")
    with gate.fresh_folder(tmp_path / "runs") as folder:
        assert folder.is_dir() and not any(folder.iterdir())
        with pytest.raises(UserError, match="another bench regress"), gate.fresh_folder(tmp_path / "runs"):
            pass


def test_the_workflow_runs_make_regress_and_keeps_its_report():
    workflow = (REPOSITORY / ".github" / "workflows" / "gpu-regression.yml").read_text()
    assert "make regress" in workflow and "--junit" in workflow and "self-hosted" in workflow
    assert "\nregress: " in (REPOSITORY / "Makefile").read_text()


def test_measured_json_is_for_people_too(tmp_path: Path):
    measured(tmp_path / "a")
    content = json.loads((tmp_path / "a" / "measured.json").read_text())
    assert content["about"] == {"commit": "abc"} and content["run"] == {"method": "mbt", "overrides": ["preset=tiny"]}


def test_predictions_are_read_with_all_that_measuring_them_needs(tmp_path: Path):
    scores = {"v": np.arange(6, dtype=np.float32).reshape(2, 3)}
    steps = {"one": [0, 1], "two": [2]}
    made = Predictions(["a", "b"], np.eye(4)[:2], scores, np.array(["one", "two"]), steps, "dot", missing=4)
    write_predictions(made, tmp_path / "predictions.parquet")
    read = read_predictions(tmp_path / "predictions.parquet")
    assert (read.clip_id, read.steps, read.similarity, read.missing) == (made.clip_id, steps, "dot", 4)
    np.testing.assert_array_equal(read.target, made.target)
    np.testing.assert_array_equal(read.group, made.group)
    np.testing.assert_array_equal(read.scores["v"], scores["v"])


def test_older_files_of_predictions_hold_logits_and_nothing_else(tmp_path: Path):
    made = Predictions(["a", "b"], np.eye(3)[:2], {"v": np.ones((2, 3), np.float32)})
    write_predictions(made, tmp_path / "new.parquet")
    bare = parquet.read_table(tmp_path / "new.parquet").replace_schema_metadata()
    parquet.write_table(bare, tmp_path / "old.parquet")
    read = read_predictions(tmp_path / "old.parquet")
    np.testing.assert_array_equal(read.target, made.target)
    assert read.group is None and read.missing == 0
