"""Records: what is refused and why, that writing is atomic and loses nothing, and what a record knows of its run."""

from __future__ import annotations

import gc
import hashlib
import json
import math
import multiprocessing
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.records import archive, provenance
from bench.records.archive import RecordError, new_record, parse, read, read_all, write


def fields(**changes: Any) -> dict[str, Any]:
    """The least a record needs, with changes."""
    return {
        "created": datetime(2025, 3, 1, 12, tzinfo=UTC),
        "method": "mavil",
        "preset": "tiny",
        "stage": "finetune",
        "board": "vggsound",
        "protocol": {"dataset": "vggsound", "version": 1},
        "sample": True,
        "modality": "av",
        "seed": 0,
        "metrics": {"top1": {"value": 0.5, "low": 0.4, "high": 0.6}},
        "n": 300,
        "data": {
            "dataset": "vggsound",
            "split": "test",
            "fingerprint": "0123abcd",
            "official": 320,
            "used": 300,
            "excluded": {"no such file": 20},
            "coverage": 300 / 320,
        },
        "config": {"optim": {"lr": 1e-3}},
        "config_hash": "0123abcd",
        "identity": "ab12",
        **changes,
    }


def changed(record: archive.Record, path: str, value: Any) -> str:
    """The record's JSON with one field set, by the path of its keys."""
    content = json.loads(record.to_json())
    *parents, last = path.split("/")
    part = content
    for key in parents:
        part = part[key]
    part[last] = value
    return json.dumps(content)


def test_a_written_record_is_read_back_equal_and_named_after_its_id(tmp_path: Path) -> None:
    record = new_record(**fields(parents=({"stage": "pretrain", "identity": "cd34", "data": "audioset unbalanced"},)))
    path = write(record, tmp_path / "results")
    assert path.name == f"{record.id}.json"
    assert path.stat().st_mode & 0o777 == 0o644
    assert read(path) == record
    assert json.loads(path.read_text())["schema"] == 1
    assert list(path.parent.iterdir()) == [path]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None)
@given(
    config=st.dictionaries(st.text(), JSON, max_size=4),
    value=st.floats(-1e9, 1e9),
    seed=st.integers(-(2**31), 2**31),
    created=st.datetimes(timezones=st.just(UTC), min_value=datetime(2000, 1, 1)),
    cost=st.fixed_dictionaries({}, optional={"flops": st.floats(0, 1e30), "parameters": st.integers(0, 2**50)}),
)
def test_every_valid_record_survives_json(config, value, seed, created, cost) -> None:
    metrics = {"MedR": {"value": value, "low": value, "high": value}}
    record = new_record(**fields(config=config, metrics=metrics, seed=seed, created=created, cost=cost))
    assert parse(record.to_json(), "x") == record
    assert parse(record.to_json(), "x").to_json() == record.to_json()


def test_ids_differ_if_anything_differs_and_are_equal_for_equal_records() -> None:
    first = new_record(**fields())
    assert new_record(**fields()).id == first.id
    assert new_record(**fields(seed=1)).id != first.id
    assert new_record(**fields(config={"optim": {"lr": 2e-3}})).id != first.id


WRONG = [
    ("metrics/top1/value", math.nan),
    ("metrics/top1/high", math.inf),
    ("metrics/top1/value", 1e308),
    ("metrics/top1/value", "0.5"),
    ("metrics/top1/value", 0.7),
    ("metrics/top1/low", None),
    ("metrics/<b>", {"value": 0.5, "low": 0.4, "high": 0.6}),
    ("metrics", {}),
    ("chance", {"top1": math.nan}),
    ("n", -1),
    ("n", 0),
    ("n", 3.5),
    ("n", True),
    ("seed", "0"),
    ("sample", 1),
    ("modality", "va"),
    ("id", "../../etc/passwd"),
    ("method", "../mavil"),
    ("method", "<script>alert(1)</script>"),
    ("method", ".hidden"),
    ("method", "a|b"),
    ("method", ""),
    ("method", "mavil\n"),
    ("method", "m" * 1_000_000),
    ("board", "sample/vggsound"),
    ("variant", "[x](http://y)"),
    ("created", "yesterday"),
    ("created", "2025-03-01T12:00:00"),
    ("created", "2025-03-01T12:00:00+02:00"),
    ("data/coverage", 1.01),
    ("data/coverage", 0.5),
    ("data/used", 321),
    ("data/fingerprint", "/etc"),
    ("data/excluded", {"silent": -1}),
    ("config/optim", {"lr": math.nan}),
    ("config/optim", {"deep": [1, {"x": -math.inf}]}),
    ("cost/wall_seconds", -1),
    ("cost/samples_per_second", math.inf),
    ("cost/parameters", 1.5),
    ("commit", "main"),
    ("predictions_sha256", "0123"),
    ("hardware", {"gpu": ["a"]}),
    ("surprise", 1),
    ("data/surprise", 1),
]


@pytest.mark.parametrize(("path", "value"), WRONG, ids=[f"{path}={str(value)[:30]}" for path, value in WRONG])
def test_a_wrong_field_is_refused_by_name_with_the_file(path: str, value: Any, tmp_path: Path) -> None:
    record = new_record(**fields(protocol={"dataset": "vggsound"}))
    file = tmp_path / f"{record.id}.json"
    file.write_text(changed(record, path, value))
    with pytest.raises(RecordError) as error:
        read(file)
    top, *_ = path.split("/")
    message = str(error.value)
    assert str(file) in message and (top in message or "bytes" in message)
    assert len(message) < 1000


def test_a_missing_field_and_broken_files_are_refused_with_the_reason(tmp_path: Path) -> None:
    content = json.loads(new_record(**fields()).to_json())
    del content["seed"]
    with pytest.raises(RecordError, match=r"x\.json: seed: Field required"):
        parse(json.dumps(content), "x.json")
    for text in ("", "[]", "null", "{", "[" * 100_000, '{"n": NaN}', "\x00"):
        with pytest.raises(RecordError, match=r"x\.json: "):
            parse(text, "x.json")
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecordError, match=r"binary\.json"):
        read(tmp_path / "binary.json")
    with pytest.raises(RecordError, match=r"no\.json: No such file"):
        read(tmp_path / "no.json")


def test_a_record_of_a_newer_schema_says_so() -> None:
    with pytest.raises(RecordError, match="schema: 2 is newer than this program reads"):
        parse(changed(new_record(**fields()), "schema", 2), "x")


def test_new_record_names_all_wrong_fields() -> None:
    with pytest.raises(RecordError, match=r"(?s)n: .*got -3.*; .*modality|modality.*; n: .*got -3"):
        new_record(**fields(n=-3, modality="x"))


def test_a_file_under_another_name_is_refused(tmp_path: Path) -> None:
    path = write(new_record(**fields()), tmp_path)
    copy = path.rename(tmp_path / "copy.json")
    with pytest.raises(RecordError, match="is not the file's name"):
        read(copy)


def test_read_all_gives_the_good_records_and_names_the_bad(tmp_path: Path) -> None:
    written = [new_record(**fields(seed=seed)) for seed in range(5)]
    for record in written:
        write(record, tmp_path)
    (tmp_path / "bad.json").write_text("{}")
    (tmp_path / "README.md").write_text("not a record")
    found, errors = read_all(tmp_path)
    assert found == sorted(written, key=lambda record: record.id)
    assert len(errors) == 1 and "bad.json" in str(errors[0])
    assert read_all(tmp_path / "nothing") == ([], [])


def test_many_records_are_read_by_several_processes_and_as_small_as_tables_need(tmp_path: Path, monkeypatch) -> None:
    written = sorted((new_record(**fields(seed=seed)) for seed in range(5)), key=lambda record: record.id)
    for record in written:
        write(record, tmp_path)
    (tmp_path / "bad.json").write_text("{}")
    monkeypatch.setattr(archive, "PIECE", 1)
    found, errors = read_all(tmp_path, archive.Brief())
    assert found == written and ["bad.json" in str(error) for error in errors] == [True]
    brief = archive.Brief()
    first, second = map(brief, written[:2])
    assert first.protocol is second.protocol and first.data is second.data and first.config is second.config
    assert gc.isenabled()


def test_a_record_is_never_overwritten_but_may_be_written_twice(tmp_path: Path) -> None:
    record = new_record(**fields())
    path = write(record, tmp_path)
    assert write(record, tmp_path) == path
    path.write_text("another")
    with pytest.raises(FileExistsError, match="never overwritten"):
        write(record, tmp_path)
    assert path.read_text() == "another"
    assert list(tmp_path.iterdir()) == [path]


def test_a_record_whose_text_was_changed_is_refused_to_be_read_and_to_be_written(tmp_path: Path) -> None:
    record = new_record(**fields())
    path = write(record, tmp_path)
    path.write_text(path.read_text().replace('"n": 300', '"n": 299'))
    with pytest.raises(RecordError, match="changed after it was written"):
        read(path)
    with pytest.raises(RecordError, match="changed after it was written"):
        write(record.model_copy(update={"n": 299}), tmp_path / "other")


def test_a_record_from_before_a_field_was_added_stays_valid_and_is_written_as_it_was(tmp_path: Path) -> None:
    """Its hash is that of its own text, not of all fields that there are by now."""
    new = json.loads(new_record(**fields()).to_json())
    added = ("settings", "board_definition", "board_metrics", "packages")
    old = {name: value for name, value in new.items() if name not in added} | {"id": "draft"}
    text = json.dumps(old, indent=1, sort_keys=True) + "\n"
    old["id"] = f"mavil-finetune-vggsound-av-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    path = tmp_path / f"{old['id']}.json"
    path.write_text(json.dumps(old, indent=1, sort_keys=True) + "\n")
    assert write(read(path), tmp_path / "copied").read_bytes() == path.read_bytes()
    assert read(path).settings is None


def test_a_copy_with_a_wrong_field_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="id"):
        write(new_record(**fields()).model_copy(update={"id": "../../outside"}), tmp_path / "results")
    assert not list(tmp_path.rglob("*.json"))


def _write_some(arguments: tuple[Path, int]) -> None:
    folder, process = arguments
    for i in range(5):
        write(new_record(**fields(seed=process * 5 + i)), folder)
        write(new_record(**fields(seed=-1)), folder)  # the same one from everybody


def test_32_processes_writing_at_once_lose_nothing(tmp_path: Path) -> None:
    with multiprocessing.get_context("fork").Pool(32) as pool:
        pool.map(_write_some, [(tmp_path, process) for process in range(32)], chunksize=1)
    found, errors = read_all(tmp_path)
    assert not errors
    assert sorted(record.seed for record in found) == list(range(-1, 160))
    assert len(list(tmp_path.iterdir())) == 161


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


def test_git_state_sees_changes_of_code_but_not_of_what_runs_write(tmp_path: Path) -> None:
    assert provenance.git_state(tmp_path) == (None, None)
    git(tmp_path, "init", "-q")
    assert provenance.git_state(tmp_path) == (None, True)
    (tmp_path / "code.py").write_text("1")
    (tmp_path / "leaderboards").mkdir()
    (tmp_path / "leaderboards" / "a.csv").write_text("1")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "x")
    commit, dirty = provenance.git_state(tmp_path)
    assert dirty is False and commit is not None and len(commit) == 40
    for folder in ("leaderboards", "runs", "data"):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / "a.csv").write_text("2")
    assert provenance.git_state(tmp_path) == (commit, False)
    (tmp_path / "new.py").write_text("1")
    assert provenance.git_state(tmp_path) == (commit, True)
    (tmp_path / "new.py").unlink()
    (tmp_path / "code.py").write_text("2")
    assert provenance.git_state(tmp_path) == (commit, True)
    (tmp_path / "code.py").write_text("1")
    (tmp_path / "bench" / "data").mkdir(parents=True)
    (tmp_path / "bench" / "data" / "x.py").write_text("1")
    assert provenance.git_state(tmp_path) == (commit, True)


def test_git_state_of_a_folder_inside_another_repository_is_unknown(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    (tmp_path / "site-packages").mkdir()
    assert provenance.git_state(tmp_path / "site-packages") == (None, None)


def test_versions_and_hardware_fit_into_a_record_and_name_no_host() -> None:
    import platform

    record = new_record(**fields(versions=provenance.versions(), hardware=provenance.hardware()))
    assert record.versions["torch"].startswith("2.")
    assert record.hardware["cpu_cores"] >= 1
    assert platform.node() not in [str(value) for value in record.hardware.values()]
