"""Stores of records: a folder, and a real S3-compatible server."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import pytest

pytest.importorskip("moto.server")
pytest.importorskip("s3fs")

from bench.cli import main
from bench.errors import UserError
from bench.records.archive import Record, RecordError, new_record, read_all, write
from bench.records.stores import Store, pull, push
from bench.tables.boards import check
from tests.bench.test_records import fields
from tests.s3_server import serving

WRITERS, EACH = 32, 4


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(tmp_path_factory.mktemp("s3") / "log", "boards"):
        yield "s3://boards"


@pytest.fixture(params=["folder", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "folder":
        return str(tmp_path / "store")
    return f"{request.getfixturevalue('bucket')}/{tmp_path.name}"


def records(count: int, start: int = 0) -> list[Record]:
    return [new_record(**fields(seed=start + i)) for i in range(count)]


def test_what_is_put_is_got(url: str):
    store = Store(url, sample=True)
    assert store.names() == set()
    (record,) = records(1)
    assert store.put(record) is True and store.put(record) is False
    assert store.names() == {f"{record.id}.json"} and store.get(f"{record.id}.json") == record
    assert Store(url, sample=False).names() == set()


def test_nothing_is_overwritten(url: str):
    store, (record,) = Store(url, sample=True), records(1)
    store.put(record)
    with pytest.raises(UserError, match="changed after it was written"):
        store.put(record.model_copy(update={"n": 299}))
    assert store.get(f"{record.id}.json") == record


def test_two_people_s_records_are_merged(url: str, tmp_path: Path):
    mine, theirs = records(3), records(3, start=3)
    for record in mine:
        write(record, tmp_path / "mine")
    store = Store(url, sample=True)
    for record in theirs:
        store.put(record)
    assert list(pull(store, tmp_path / "mine")) == sorted(theirs, key=lambda record: record.id)
    assert list(push(tmp_path / "mine", store)) == sorted(mine, key=lambda record: record.id)
    assert list(pull(store, tmp_path / "mine")) == list(push(tmp_path / "mine", store)) == []
    assert {r.seed for r in read_all(tmp_path / "mine")[0]} == set(range(6)) and len(store.names()) == 6


def test_what_is_no_record_is_reported_and_not_copied(url: str, tmp_path: Path):
    (record,) = records(1)
    fs, root = fsspec.core.url_to_fs(f"{url}/sample")
    fs.makedirs(root, exist_ok=True)
    fs.pipe_file(f"{root}/half.json", record.to_json()[:100].encode())
    fs.pipe_file(f"{root}/other.json", record.to_json().encode())
    found = list(pull(Store(url, sample=True), tmp_path / "mine"))
    assert len(found) == 2 and all(isinstance(error, RecordError) for error in found)
    assert "other.json: id" in str(found[1]) and not list(tmp_path.glob("mine/*"))


def put_some(arguments: tuple[str, int]) -> None:
    url, writer = arguments
    store = Store(url, sample=True)
    for record in [*records(EACH, start=EACH * writer), *records(1, start=-1)]:  # the last one is from everybody
        store.put(record)


def test_32_writers_at_once_lose_nothing(url: str):
    with ThreadPoolExecutor(WRITERS) as pool:
        list(pool.map(put_some, [(url, writer) for writer in range(WRITERS)]))
    store = Store(url, sample=True)
    found = [store.get(name) for name in store.names()]
    assert sorted(record.seed for record in found) == list(range(-1, WRITERS * EACH))


def test_a_store_of_an_unknown_kind():
    with pytest.raises(UserError, match="store=nothing://x"):
        Store("nothing://x", sample=False)


def test_the_table_command_exchanges_and_checks(url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    boards = tmp_path / "boards"
    (mine, theirs) = records(2)
    write(mine, boards / "sample" / "results")
    Store(url, sample=True).put(theirs)
    assert main(["table", "--leaderboards", str(boards), "--check"]) == 1  # its tables were never made
    assert "vggsound.md: not of these records; run `bench table`" in capsys.readouterr().out
    assert main(["table", "--leaderboards", str(boards), "--store", url]) == 0
    assert "1 sample records copied from" in capsys.readouterr().out
    assert main(["table", "--leaderboards", str(boards), "--check"]) == 0
    assert len(Store(url, sample=True).names()) == 2


def test_a_record_that_is_none_a_board_that_is_none_and_a_stale_table_are_reported(tmp_path: Path):
    results = tmp_path / "sample" / "results"
    write(new_record(**fields(board="nowhere")), results)
    (results / "half.json").write_text("{")
    first = check(tmp_path, sample=True)
    assert len(first) == 2 and "half.json" in first[0] and "no board is called 'nowhere'" in first[1]
    for path in results.iterdir():
        os.unlink(path)
    (tmp_path / "sample" / "vggsound.md").write_text("old")
    assert check(tmp_path, sample=True) == [
        f"{tmp_path}/sample/vggsound.md: a board without records; run `bench table`"
    ]


def test_the_committed_records_and_tables_are_as_they_should_be():
    from tests.conftest import REPOSITORY

    assert check(REPOSITORY / "leaderboards", sample=False) == []
