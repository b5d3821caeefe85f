"""Published numbers: the repository's file is whole and honest, and what is wrong in a file is named."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from bench import registry
from bench.errors import UserError
from bench.records.published import PublishedMethod, on_board, read
from bench.tasks import task_of

ROOT = Path(__file__).parents[2]
# DESIGN.md, "Names on which others rely".
# fmt: off
METHODS = {
    "cmkd", "everything_at_once", "capsule_routing", "cascaded_avlnet", "spoken_objectnet", "code_matching",
    "mcn", "avlnet", "wavenet_multitask", "cosegmentation", "uavm", "mbt",
    "lavish", "tcaf", "sft", "polyvit", "mavil", "avst",
    "xkd", "xdc", "avenet", "masking_modalities", "crisscross", "mmv",
    "vatt", "lava", "mtcn", "mvpt", "cctl",
}
# fmt: on


@pytest.fixture(scope="module")
def published() -> list[PublishedMethod]:
    return read(ROOT / "leaderboards" / "published.yaml")


def row(**changes: Any) -> dict[str, Any]:
    """A verified row, with changes; None removes a field."""
    fields = {
        "benchmark": "VGGSound test",
        "board": "vggsound",
        "modality": "av",
        "variant": "ViT-B",
        "metrics": {"top1": 67.1},
        "place": "abstract",
        "known": "page",
        "source": "arXiv 2212.08071",
        "verified": True,
    }
    return {name: value for name, value in (fields | changes).items() if value is not None or name == "board"}


def method(*rows: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {"name": "mavil", "title": "MAViL", "arxiv": "2212.08071", "rows": list(rows)} | changes


@pytest.fixture
def file(tmp_path: Path):
    """Writes methods as YAML, or a text as it is."""

    def write(content: Any) -> Path:
        path = tmp_path / "published.yaml"
        path.write_text(content if isinstance(content, str) else yaml.safe_dump(content), encoding="utf-8")
        return path

    return write


def test_every_method_is_there(published: list[PublishedMethod]):
    assert {method.name for method in published} == METHODS
    assert len({method.arxiv for method in published}) == len(METHODS)


def test_linear_rows_stand_on_boards_of_frozen_features_and_no_others_do(published: list[PublishedMethod]):
    for method in published:
        for row in method.rows:
            if row.board is not None:
                linear = re.search(r"\b(linear|SVM)\b", f"{row.benchmark} {row.variant}") is not None
                assert (registry.board(row.board).features == "frozen") == linear, f"{method.name}: {row.variant}"


def test_no_row_is_there_twice(published: list[PublishedMethod]):
    keys = [
        (method.name, row.benchmark, row.modality, row.variant, row.pretraining, row.verified, name)
        for method in published
        for row in method.rows
        for name in row.metrics
    ]
    assert len(keys) == len(set(keys))


def test_verified_rows_say_where_they_were_read(published: list[PublishedMethod]):
    verified = [row for method in published for row in method.rows if row.verified]
    assert verified
    assert all(row.source and row.place and row.known != "memory" for row in verified)


def test_methods_without_a_verified_row_say_so(published: list[PublishedMethod]):
    without = {method.name for method in published if not method.has_verified}
    assert {"capsule_routing", "sft", "lava", "cctl"} <= without
    assert not {"mavil", "mcn", "uavm"} & without
    assert all(method.note for method in published if not method.rows)


def test_boards_exist_and_measure_these_metrics(published: list[PublishedMethod]):
    for method in published:
        for row in method.rows:
            if row.board:
                board = registry.board(row.board)
                assert set(row.metrics) <= set(task_of(board).metrics), (method.name, row)
                looked_at = set(board.task.looked_at)
                assert looked_at <= set(row.modality), (method.name, row)


def test_numbers_are_those_of_the_cards(published: list[PublishedMethod]):
    rows = on_board(published, "vggsound")
    assert ("mavil", "av", {"top1": 67.1}) in [(method.name, row.modality, row.metrics) for method, row in rows]
    assert all(method.name != "mbt" for method, _ in rows)  # its scores on VGGSound are recalled


def test_only_verified_rows_stand_on_their_board(file):
    recalled = row(known="memory", verified=False, source="", place="", metrics={"top1": 60.8})
    methods = read(file([method(row(), recalled, row(board=None)), method(recalled, name="mbt", arxiv="2107.00135")]))
    assert on_board(methods, "vggsound") == [(methods[0], methods[0].rows[0])]
    assert on_board(methods, "esc50") == []
    assert [method.has_verified for method in methods] == [True, False]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source": "  "}, "`source` and `place`"),
        ({"place": None}, "`source` and `place`"),
        ({"known": "memory"}, "verified: what is known from memory is not"),
        ({"known": "hearsay"}, "known: Input should be 'repository', 'page' or 'memory' (got 'hearsay')"),
        ({"verified": "yes"}, "verified: Input should be a valid boolean"),
        ({"verified": None}, "verified: Field required"),
        ({"modality": "va"}, "modality: "),
        ({"metrics": {}}, "metrics: "),
        ({"metrics": {"top1": "67.1"}}, "metrics: top1: Input should be a valid number"),
        ({"metrics": {"top1": True}}, "metrics: top1: Input should be a valid number"),
        ({"metrics": {"top1": float("nan")}}, "metrics: top1: Input should be a finite number"),
        ({"metrics": {"top 1": 67.1}}, "metrics: top 1: "),
        ({"metrics": {"top1": 100.1}}, "metrics: top1 is 100.1, not in 0 to 100"),
        ({"metrics": {"mAP": -0.1}}, "metrics: mAP is -0.1, not in 0 to 100"),
        ({"metrics": {"AUC": 97.1}}, "metrics: AUC is 97.1, not in 0 to 1"),
        ({"metrics": {"MedR": 0}}, "metrics: MedR is 0.0, not in 1 to inf"),
        ({"parameters": -1}, "parameters: "),
        ({"parameters": "93 M"}, "parameters: "),
        ({"board": "../vggsound"}, "board: "),
        ({"pretrained": "AudioSet"}, "pretrained: Extra inputs are not permitted"),
        ({"variant": ""}, "variant: "),
    ],
)
def test_a_wrong_field_is_named_with_its_row(file, changes: dict[str, Any], message: str):
    with pytest.raises(UserError) as error:
        read(file([method(row(), row(**changes))]))
    assert "published.yaml: mavil: row 2 (VGGSound test): " in str(error.value)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([method(arxiv="cs/0112017")], "mavil: arxiv: "),
        ([method(arxiv=2212.08071)], "mavil: arxiv: Input should be a valid string"),
        ([method(), method()], "mavil: name: comes twice"),
        ([method(), {"name": "mbt"}], "mbt: title: Field required"),
        ([method(rows="none")], "mavil: rows: "),
        ([method(rows=["none"])], "mavil: row 1 (): "),
        ([method(), "mbt"], "method 2: "),
        (method(), "expected a list of methods"),
        ("", "expected a list of methods"),
        ("- {name: mavil, name: mbt}", "name comes twice"),
        ("- [", "not YAML"),
        ("- 2026-02-31", "not YAML"),
    ],
)
def test_a_wrong_file_is_refused(file, content: Any, message: str):
    with pytest.raises(UserError) as error:
        read(file(content))
    assert message in str(error.value)


def test_a_missing_file_is_a_user_error(tmp_path: Path):
    with pytest.raises(UserError, match=r"none\.yaml: No such file"):
        read(tmp_path / "none.yaml")


def test_a_row_cannot_be_changed(published: list[PublishedMethod]):
    with pytest.raises(ValueError, match="frozen"):
        published[0].rows[0].verified = False


def test_needs_no_torch():
    code = "import sys, bench.records.published; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, timeout=300)
