"""The page: what it says of records, that nothing of a record can be markup, and that it needs nothing else."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shlex
from dataclasses import replace
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from bench import registry
from bench.cli import main
from bench.config.compose import compose
from bench.page.content import pack, printed, shown
from bench.page.repeat import command
from bench.page.write import SCRIPTS, SOURCES, as_json, collect, method_text, render, write_pages
from bench.plan.identity import file_hash
from bench.records.archive import Record, new_record, write
from bench.run.results import shareable
from bench.tables.formats import SAMPLE_NOTICE
from tests.bench.test_published import method, row
from tests.bench.test_tables import NOON, record

BOARD = registry.board("vggsound")
HOSTILE = "</script><img src=x onerror=\"window.hacked=1\"><script>window.hacked=1</script><!-- \u2028\u2029 & 'x'"


def measured(**changes: Any) -> Record:
    return record(BOARD, **changes)


def folder_of(tmp_path: Path, *made: Record, papers: list[dict[str, Any]] | None = None) -> Path:
    """A folder of leaderboards."""
    for each in made:
        write(each, tmp_path / ("sample/results" if each.sample else "results"))
    if papers is not None:
        (tmp_path / "published.yaml").write_text(yaml.safe_dump(papers), encoding="utf-8")
    return tmp_path


def data_of(folder: Path, sample: bool = False) -> Any:
    return collect(folder, folder / "runs", sample)


def unpacked(columns: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows of columns."""
    lists = {k: v if isinstance(v, list) else [v["of"][at] for at in v["at"]] for k, v in columns.items()}
    return [dict(zip(lists, values, strict=True)) for values in zip(*lists.values(), strict=True)]


def lines(folder: Path, sample: bool = False) -> list[dict[str, Any]]:
    """The rows of the only board."""
    (board,) = data_of(folder, sample).boards["boards"]
    return unpacked(board["rows"])


class Page(HTMLParser):
    """The tags of a page as a browser reads them, its scripts and style as they stand."""

    def __init__(self, text: str):
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.inside: list[tuple[str, str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1][0] in ("script", "style") and data.strip():
            self.inside.append((self.tags[-1][1].get("id") or self.tags[-1][0], data))

    def text(self, name: str) -> str:
        return "".join(data for where, data in self.inside if where == name)


# ---- what it says


def test_rows_are_those_of_the_tables_and_published_ones_beside_them(tmp_path: Path):
    made = [measured(), measured(method="mbt", value=0.7, modality="a", dirty=True, clips=270)]
    first, second, third = lines(folder_of(tmp_path, *made, papers=[method(row())]))
    assert (first["kind"], first["rank"], first["method"], first["top1"]) == ("measured", 1, "mbt", 0.7)
    assert (first["top1 low"], first["top1 high"]) == (0.7 - 0.05, 0.7 + 0.04)
    assert first["dirty"] and {"uncommitted changes", "90.0 % of the clips"} <= set(first["remarks"])
    assert (second["kind"], second["rank"], second["printed"]) == ("published", None, {"top1": "67.1"})
    assert second["top1"] == pytest.approx(0.671)
    assert {second["top1 low"], second["top1 high"], second["top1 std"], second["n"]} == {None}
    assert second["where"] == "abstract · arXiv 2212.08071" and second["source"] == "arXiv 2212.08071"
    assert (third["rank"], third["method"], third["remarks"]) == (2, "mavil", [])


def test_a_row_leads_to_each_of_its_runs(tmp_path: Path):
    made = [measured(seed=seed, value=value) for seed, value in enumerate((0.4, 0.5, 0.6))]
    old = measured(value=0.1, created=NOON - timedelta(days=1))
    data = data_of(folder_of(tmp_path, *made, old))
    (only,) = unpacked(data.boards["boards"][0]["rows"])
    runs = unpacked(data.runs["rows"])
    assert {runs[index]["id"] for index in only["runs"]} == {each.id for each in made}
    assert only["newest"] in only["runs"] and only["seeds"] == 3 and only["top1 std"] == pytest.approx(0.1)
    assert len(runs) == 4  # the old one has its page, too


def test_a_run_says_all_that_its_record_does(tmp_path: Path):
    made = measured(config={"model": {"dim": 4}, "stages": {"finetune": {"lr": 0.1}}}, notes={"classes": 2}, dirty=True)
    data = data_of(folder_of(tmp_path, made))
    (run,) = unpacked(data.runs["rows"])
    assert run["metrics"] == {"top1": [0.5, 0.45, 0.54]} and run["seed"] == "0" and run["dirty"] is True
    assert {name: data.runs["parts"][part] for name, part in run["config"]} == {
        "model": {"dim": 4},
        "stages.finetune": {"lr": 0.1},
    }
    for name in ("id", "commit", "data", "protocol", "notes", "cost", "identity", "config_hash"):
        assert run[name] == json.loads(made.to_json())[name]


def test_methods_say_what_is_published_and_where_nothing_is(tmp_path: Path):
    recalled = row(known="memory", verified=False, source="", place="")
    papers = [method(row(), recalled), method(recalled, name="lavish", arxiv="2212.07983")]
    methods = data_of(folder_of(tmp_path, measured(), papers=papers)).boards["methods"]
    assert [each["source"] for each in methods["mavil"]["paper"]["rows"]] == ["arXiv 2212.08071"]
    assert methods["mavil"]["paper"]["recalled"] == 1
    assert methods["lavish"]["paper"]["rows"] == [] and not methods["lavish"]["runnable"]
    assert methods["mavil"]["title"] == "MAViL: Masked Audio-Video Learners" and methods["mavil"]["runnable"]


def test_the_idea_of_a_readme_is_its_text_before_the_first_table(tmp_path: Path):
    readme = tmp_path / "README.md"
    readme.write_text("# A\n\nBy `us`,\nall.\n\n1. One\n   more\n2. **Two**\n\n| a |\n\nnot this\n")
    assert method_text(readme).title == "A"
    assert method_text(readme).idea == ("By us, all.", "1. One more", "2. Two")
    assert method_text(tmp_path / "none.md").title == ""


def test_published_values_are_shown_as_printed():
    shown = [("top1", 50.0), ("top1", 67.12), ("MedR", 28.0), ("their own", 1.5)]
    assert [printed(*each) for each in shown] == ["50.0", "67.12", "28", "1.5"]


@given(st.lists(st.one_of(st.none(), st.booleans(), st.integers(0, 3), st.just({"a": [1]}), st.text(max_size=2))))
def test_packed_columns_hold_the_same(values: list[Any]):
    packed = pack(values)
    back = packed if isinstance(packed, list) else [packed["of"][at] for at in packed["at"]]
    assert json.dumps(back) == json.dumps(values)


def test_what_many_rows_say_alike_is_there_once(tmp_path: Path):
    config = {"model": {"text": "z" * 500}}
    made = [measured(method=f"m{i}", seed=i, config=config, value=0.1 + 0.01 * i) for i in range(20)]
    assert render(data_of(folder_of(tmp_path, *made))).count("z" * 500) == 1


def test_made_up_data_has_a_page_of_its_own_that_says_so(tmp_path: Path):
    folder = folder_of(tmp_path, measured(), measured(method="fake", sample=True), papers=[method(row())])
    real, sample = write_pages(folder, folder / "runs", folder / "page.html")
    assert sample == folder / "sample" / "page.html"
    assert SAMPLE_NOTICE in sample.read_text() and SAMPLE_NOTICE not in real.read_text()
    assert [each["method"] for each in lines(folder, sample=True)] == ["fake"]
    assert lines(folder, sample=True)[0]["chance"] == 0.1
    assert "fake" not in {each["method"] for each in lines(folder)}


def test_a_page_of_made_up_data_goes_when_its_records_go(tmp_path: Path):
    folder = folder_of(tmp_path, measured(sample=True))
    assert len(write_pages(folder, folder / "runs", folder / "page.html")) == 2
    for path in (folder / "sample" / "results").iterdir():
        path.unlink()
    assert write_pages(folder, folder / "runs", folder / "page.html") == [folder / "page.html"]
    assert not (folder / "sample" / "page.html").exists()


def test_records_that_cannot_be_shown_are_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    folder = folder_of(tmp_path, measured())
    unknown = record(replace(BOARD, name="nowhere"))
    for stray in (unknown, measured(sample=True, method="fake")):
        write(stray, folder / "results")
    (folder / "results" / "broken.json").write_text('{"n": NaN}')
    assert [each["method"] for each in lines(folder)] == ["mavil"]
    assert all(word in caplog.text for word in ("broken.json", unknown.id, "fake"))


def test_the_command_writes_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = folder_of(tmp_path / "boards", measured())
    assert main(["page", "--leaderboards", str(folder), "--runs", str(tmp_path / "none")]) == 0
    assert capsys.readouterr().out.split() == [str(folder / "page.html")]
    assert main(["page", "--leaderboards", str(folder), "--output", str(tmp_path / "other" / "p.html")]) == 0
    assert (tmp_path / "other" / "p.html").read_text() == (folder / "page.html").read_text()


def test_without_records_there_is_still_a_page(tmp_path: Path):
    assert Page(render(data_of(tmp_path))).text("boards-data")


# ---- safety


def hostile() -> Record:
    return measured(
        notes={"remark": HOSTILE},
        hardware={"cpu": HOSTILE},
        versions={"torch": HOSTILE},
        config={"model": {HOSTILE: HOSTILE, "long": "y" * 2000, "large": 2**60}, "stages": HOSTILE},
    )


def test_nothing_of_a_record_is_markup(tmp_path: Path):
    paper = method(row(note=HOSTILE, variant=HOSTILE, place=HOSTILE, source=HOSTILE), title=HOSTILE, note=HOSTILE)
    made = hostile()
    excluded = made.data.model_dump() | {"excluded": {HOSTILE: 1}}
    made = new_record(**made.model_dump(exclude={"id"}) | {"data": excluded})
    text = render(data_of(folder_of(tmp_path, made, papers=[paper])))
    page = Page(text)
    assert not [tag for tag, _ in page.tags if tag == "img"]
    assert [tag for tag, _ in page.tags].count("script") == 3
    assert text.isascii() or "\u2028" not in text
    boards, runs = (json.loads(page.text(name)) for name in ("boards-data", "runs-data"))
    (run,) = unpacked(runs["rows"])
    assert run["notes"] == {"remark": HOSTILE} and run["hardware"]["cpu"] == HOSTILE
    assert run["data"]["excluded"] == {HOSTILE: 1}
    assert boards["methods"]["mavil"]["paper"]["note"] == HOSTILE


@given(st.recursive(st.text() | st.integers() | st.none(), lambda inner: st.dictionaries(st.text(), inner)))
def test_json_in_the_page_cannot_end_its_script(value: Any):
    text = as_json(value)
    assert text.isascii() and not set("<>&") & set(text)
    assert json.loads(text) == value


def test_numbers_that_javascript_would_change_are_text():
    assert shown({"a": [2**60, 5, True, 1.5, None]}) == {"a": [str(2**60), 5, True, 1.5, None]}


def test_the_policy_allows_this_script_and_style_and_nothing_else(tmp_path: Path):
    page = Page(render(data_of(folder_of(tmp_path, hostile()))))
    (policy,) = [a["content"] for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy"]
    rules = dict(rule.strip().split(" ", 1) for rule in str(policy).split(";"))

    def digest(text: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    assert rules["default-src"] == "'none'" and rules["img-src"] == "data:"
    assert rules["script-src"] == digest(page.text("script"))
    assert rules["style-src"] == digest(page.text("style"))


def test_the_page_needs_nothing_from_elsewhere(tmp_path: Path):
    text = render(data_of(folder_of(tmp_path, measured())))
    for tag, attributes in Page(text).tags:
        assert not [name for name in attributes if name.startswith("on") or name == "style"], tag
        for name in ("src", "href"):
            assert (attributes.get(name) or "#").startswith(("#", "data:")), (tag, attributes)
    assert not re.search(r"@import|url\(", text)


def test_the_script_never_makes_markup_of_text():
    for name in SCRIPTS:
        source = (SOURCES / name).read_text()
        assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b|Function\(|</|<!--", source)


def test_the_same_records_give_the_same_page(tmp_path: Path):
    made = [measured(), measured(method="mbt")]
    one = folder_of(tmp_path / "one", *made)
    two = folder_of(tmp_path / "two", *reversed(made))
    assert render(data_of(one)) == render(data_of(two))


# ---- the command that repeats a run


def recorded(*overrides: str, **changes: Any) -> Record:
    """A record as a run with these overrides leaves it."""
    config = compose("baseline_cnn", ["preset=tiny", *overrides])
    name = "train_esc10_fold2"
    settings = {"model": vars(config.model), "stages": {name: shareable(config.stages[name])}}
    settings = json.loads(json.dumps(settings | {"trainer": vars(config.trainer)}))
    fields = {"method": "baseline_cnn", "stage": "train_esc10", "fold": "fold2", "config": settings}
    return record(registry.board("esc10"), **(fields | changes))


def test_the_command_names_what_is_unlike_the_preset():
    usual = "python -m bench run baseline_cnn preset=tiny stage=train_esc10_fold2 seed=0 data_root=/datasets"
    assert command(recorded()) == usual
    assert command(recorded("stages.train_esc10.optim.lr=0.5")) == f"{usual} stages.train_esc10.optim.lr=0.5"
    assert "data_root" not in command(recorded(sample=True))


def test_the_command_gives_the_recorded_settings_again():
    made = recorded("stages.train_esc10.epochs=3", "stages.train_esc10.optim.betas=[0.8,0.9]", "trainer.precision=bf16")
    words = shlex.split(command(made))[5:]
    again = compose("baseline_cnn", [word for word in words if not word.startswith("data_root")])
    assert (
        json.loads(json.dumps(shareable(again.stages["train_esc10_fold2"])))
        == made.config["stages"]["train_esc10_fold2"]
    )
    assert again.trainer.precision == "bf16"


def test_the_command_names_the_files_that_it_needs(tmp_path: Path):
    (tmp_path / "labels.json").write_text("{}")
    (tmp_path / "start.pt").write_text("weights")
    labels, start = (file_hash(tmp_path / name) for name in ("labels.json", "start.pt"))
    made = recorded(f"stages.train_esc10.data.train_labels_file={tmp_path / 'labels.json'}")
    usual = command(recorded())
    needed = [f"# needs stages.train_esc10.data.train_labels_file: the file with SHA-256 {labels[:16]}"]
    assert command(made).splitlines() == [*needed, usual]
    given = ({"stage": "init", "identity": start}, {"stage": "init", "identity": "imagenet"})
    asked = f"the file with SHA-256 {start[:16]}"
    assert command(recorded(parents=given)).splitlines() == [f"# needs init: {asked}", usual]
    made = recorded(f"stages.train_esc10.init={tmp_path / 'start.pt'}", parents=given)
    assert command(made).splitlines() == [f"# needs stages.train_esc10.init: {asked}", usual]


def test_a_hostile_setting_is_one_word_of_the_command():
    made = recorded()
    made.config["stages"]["train_esc10_fold2"]["optim"]["schedule"] = "x; rm -rf ~ $(id) `id` 'q'\n"
    assert shlex.split(command(made))[-1].startswith("stages.train_esc10.optim.schedule=")
    assert "\n" not in command(made)


def test_a_method_or_preset_that_is_not_here_has_a_plain_command():
    assert command(measured(method="elsewhere")).startswith("python -m bench run elsewhere preset=tiny stage=finetune")
    assert "variant=old" in command(recorded(variant="old"))
