"""What must hold of every dataset; tests of their own are for their quirks alone."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple, get_args

import numpy as np
import pytest

from bench import registry
from bench.errors import UserError
from datamodules import sample
from datamodules.sample.media import Clip
from datamodules.source import LABELS, DataError, MediaKind, Official, Source, find_root
from datamodules.source.dataset import SAMPLE_MARK

OWN = [name for name, place in registry.datasets().items() if place.startswith("datamodules.")]
MOST = 16
"""Clips of a split."""
NO_ROW = "this is no row"

every_dataset = pytest.mark.parametrize("name", registry.datasets())
"""Those of other packages that are installed here, too."""
every_sampled = pytest.mark.parametrize("name", OWN)
"""Those of the suite, which have sample data."""
every_listed = pytest.mark.parametrize("name", [name for name in OWN if registry.dataset(name).listed])
"""Of these, those with official files."""


def writer(name: str) -> str:
    """The dataset's file, after which the writer of its sample is called."""
    return registry.dataset(name).__module__.rpartition(".")[2]


class LaidOut(NamedTuple):
    """The official files of a sample, without media."""

    root: Path
    clips: list[Clip]


@pytest.fixture(scope="module")
def laid_out(tmp_path_factory: pytest.TempPathFactory):
    """Dataset -> its official files; nobody may write into them."""

    @cache
    def lay_out(file: str) -> LaidOut:
        layout = sample.layouts()[file]
        root = tmp_path_factory.mktemp(file) / layout.FOLDER
        root.mkdir()
        (root / SAMPLE_MARK).touch()
        return LaidOut(root, layout.lay_out(root, 0, {split: min(n, MOST) for split, n in layout.COUNTS.items()}))

    return lambda name: lay_out(writer(name))


def read(name: str, root: Path) -> dict[str, Official]:
    """All of its splits, by a source that remembers nothing."""
    return {split: registry.dataset(name)(root).read_split(split) for split in registry.dataset(name).splits}


# Found


def test_every_file_with_a_source_is_found_without_an_import():
    files = registry.DATAMODULES.glob("*.py")
    with_source = {path.stem for path in files if re.search(r'^    title = "', path.read_text(), re.M)}
    assert {registry.datasets()[name].partition(":")[0].rpartition(".")[2] for name in OWN} == with_source
    assert {"audioset", "esc50", "esc10", "msrvtt"} <= set(OWN)


@pytest.fixture
def datamodules_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder instead of `datamodules/`."""
    monkeypatch.setattr(registry, "DATAMODULES", tmp_path)
    registry.datasets.cache_clear()
    yield tmp_path
    registry.datasets.cache_clear()


OTHER = """
class Part:
    name = "of no dataset"

class Tagging(BoardTask):
    name = "a task"

class Nameless(Source):
    title = "what datasets have in common"
"""


def test_a_new_file_is_found_by_the_name_in_its_class(datamodules_at):
    (datamodules_at / "birds.py").write_text('raise SystemExit\nclass Birds(Source):\n    name = "birds"\n')
    (datamodules_at / "a_part.py").write_text('class Owls(Birds):\n    name = "owls"\n')
    (datamodules_at / "other.py").write_text(OTHER)
    found = {name: place for name, place in registry.datasets().items() if place.startswith("datamodules.")}
    assert found == {"birds": "datamodules.birds:Birds", "owls": "datamodules.a_part:Owls"}


def test_what_is_registered_but_no_source_is_named(monkeypatch):
    monkeypatch.setattr(registry, "datasets", lambda: {"birds": "datamodules.esc50:ESC50", "path": "pathlib:Path"})
    for name in ("birds", "path"):
        with pytest.raises(
            UserError, match=rf"dataset {name}: \S+ is no subclass of .*Source that says name = '{name}'"
        ):
            registry.dataset(name)


# What it says of itself


@every_sampled
def test_it_says_what_it_is(name):
    source = registry.dataset(name)
    assert source.title and source.holds and source.citation and source.url.startswith("http")
    assert not any("|" in fact for fact in (source.holds, source.citation, source.licence))
    text = sys.modules[source.__module__].__doc__
    assert text is not None and "Official files" in text and "Media:" in text


@every_dataset
def test_its_splits_and_sizes_fit_each_other(name):
    source = registry.dataset(name)
    assert len(set(source.splits)) == len(source.splits) > 0
    assert set(source.sizes) <= set(source.splits) and all(size > 0 for size in source.sizes.values())
    assert {split for pair in source.nested for split in pair} <= set(source.splits)
    assert source.media in get_args(MediaKind)


@every_dataset
def test_its_boards_score_a_split_of_it(name):
    source = registry.dataset(name)
    for board in source.boards:
        assert board.dataset == name and registry.board(board.name) is board, "another board has this name"
        assert set(board.splits) <= set(source.splits)
        for fold in range(1, board.folds + 1):
            trained, scored = board.trained(fold), board.scored(fold)
            assert set(trained) <= set(source.splits) and scored not in trained
            assert not any({(split, scored), (scored, split)} & source.nested for split in trained)
        assert board.views >= 1 and board.version >= 1 and board.main and board.train


# Read back


@every_sampled
def test_its_sample_has_the_official_layout_and_is_read_back(name, laid_out):
    root, clips = laid_out(name)
    kind = registry.dataset(name)
    assert find_root(kind, root.parent) == root
    source = kind(root)
    for file in source.required_files():
        source.find(file)
    listed: set[str] = set()
    for split in source.splits:
        official = source.read_split(split)
        table, stems = official.clips, [*official.stems, *official.timed_stems]
        assert official.malformed == [] and len(table) and table["clip_id"].is_unique
        assert (table["start"] >= 0).all() and (table["start"] < table["end"]).all()
        assert table["labels"].dtype == LABELS and all(list(x) == sorted(set(x)) for x in table["labels"])
        found = np.concatenate([np.asarray(labels) for labels in table["labels"]])
        assert ((found >= 0) & (found < len(source.classes))).all()
        if not source.multilabel and official.segments is None:
            assert table["labels"].list.len().max() <= 1
        assert ("text" in table) == source.has_text(split) and (
            "text" not in table or table["text"].str.len().min() > 0
        )
        assert all(len(names) == len(table) for names in stems)
        listed |= {stem for names in stems for stem in names}
    made = {"/".join(clip.path.with_suffix("").parts[-parts:]) for clip in clips for parts in (1, 2, 3)}
    if name == writer(name):  # a part of another dataset lists a part of its files
        assert {clip.path.stem for clip in clips} <= {stem.rpartition("/")[2] for stem in listed}
    assert listed & made


@every_sampled
def test_its_classes_have_a_name_and_a_text_each(name, laid_out):
    source = registry.dataset(name)(laid_out(name).root)
    assert len(set(source.classes)) == len(source.classes) == len(source.class_texts) and all(source.class_texts)
    try:
        codes = source.class_codes
    except DataError as error:
        assert "train_labels_file" in str(error)
    else:
        assert len(set(codes)) == len(codes) == len(source.classes)


@every_sampled
def test_steps_in_time_are_those_of_the_listed_videos(name, laid_out):
    for official in read(name, laid_out(name).root).values():
        if official.segments is None:
            assert official.steps is None
            continue
        segments = official.segments
        assert official.steps is not None and len(official.steps) == len(official.clips)
        assert set(segments["clip_id"]) <= set(official.clips["clip_id"])
        assert ((segments["start"] >= 0) & (segments["start"] <= segments["end"])).all()
        steps = dict(zip(official.clips["clip_id"], map(set, official.steps), strict=True))
        assert all(label in steps[clip] for clip, label in zip(segments["clip_id"], segments["label"], strict=True))


# What is wrong with official files


def official_files(root: Path) -> list[Path]:
    """One of each kind: of a folder of files for each video the first."""
    kinds: dict[tuple[Path, str], list[Path]] = {}
    for path in sorted(root.rglob("*")):
        if path.is_file() and path.name not in ("SAMPLE.json", "vocabulary.txt"):
            kinds.setdefault((path.parent, path.suffix), []).append(path)
    return [path for paths in kinds.values() for path in (paths[:1] if len(paths) > 9 else paths)]


@pytest.fixture
def copied(laid_out, tmp_path: Path):
    def copy(name: str) -> Path:
        return Path(shutil.copytree(laid_out(name).root, tmp_path / "data"))

    return copy


def read_or_error(name: str, root: Path) -> tuple[dict[str, Official], list[str]]:
    """The splits that can be read, and what is said of the others."""
    found, errors = {}, []
    for split in registry.dataset(name).splits:
        source: Source = registry.dataset(name)(root, cache=root.parent / "cache")
        try:
            _ = source.classes, source.captions
            found[split] = source.read_split(split)
        except DataError as error:
            errors.append(str(error))
    return found, errors


def segments_of(official: Official, clips: Iterable[str]) -> list[list]:
    """Of these clips; none where no steps are timed."""
    table = official.segments
    return [] if table is None else table[table["clip_id"].isin(set(clips))].to_numpy().tolist()


@every_listed
def test_a_missing_official_file_is_named_and_its_clips_are_counted(name, copied):
    root, needed = copied(name), 0
    before = read(name, root)
    for path in official_files(root):
        path.rename(root.parent / "away")
        found, errors = read_or_error(name, root)
        assert all(path.name in error for error in errors), errors
        for split, official in found.items():
            lost = len(before[split].clips) - len(official.clips)
            assert len(official.malformed) == lost and all(path.stem in fault for fault in official.malformed)
            kept = official.clips["clip_id"]
            assert segments_of(official, kept) == segments_of(before[split], kept)
            needed += lost
        needed += len(errors)
        (root.parent / "away").rename(path)
    assert needed


@every_listed
def test_a_row_that_is_none_or_stands_there_twice_is_counted(name, copied):
    """Each row is a clip or a counted fault, and each clip that was there is there, or a fault names its file."""
    root, counted = copied(name), 0
    before = read(name, root)
    for path in official_files(root):
        content = path.read_bytes()
        lines = content.decode("utf-8-sig").splitlines()
        if path.suffix == ".json" or not lines:
            continue
        for added in (NO_ROW,) if path.suffix == ".bin" else (NO_ROW, lines[-1]):
            path.write_bytes(content + (b"" if content.endswith(b"\n") else b"\n") + added.encode() + b"\n")
            found, errors = read_or_error(name, root)
            assert all(path.name in error for error in errors), errors
            for split, official in found.items():
                ids, old = set(official.clips["clip_id"]), set(before[split].clips["clip_id"])
                assert official.clips["clip_id"].is_unique
                assert len(old - ids) <= len(official.malformed) <= 1
                assert len(ids - old) + len(official.malformed) <= 1
                assert all(path.name in fault or path.stem in fault for fault in official.malformed)
                counted += len(official.malformed)
        path.write_bytes(content)
    assert counted


@every_dataset
def test_a_folder_without_its_files_is_an_error_that_says_what_was_looked_for(name, tmp_path):
    source = registry.dataset(name)(tmp_path)
    for split in source.splits:
        with pytest.raises(DataError, match=re.escape(str(tmp_path))):
            source.read_split(split)
    with pytest.raises(DataError, match=re.escape(source.folders[0])):
        find_root(registry.dataset(name), tmp_path)
