"""The sample data is made once: the same bytes for a seed, whatever is killed, fails or runs beside it."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from datamodules import sample
from tests.sample_data import SampleMaker

TINY = {"audioset": {"balanced_train": 4}, "vggsound": {"train": 4, "test": 4}}
REPOSITORY = Path(sample.__file__).parents[2]


def hashes(folder: Path) -> dict[str, str]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_same_seed_gives_the_same_bytes_whatever_the_workers(tmp_path: Path) -> None:
    sample.make(tmp_path / "one", counts=TINY, workers=1)
    sample.make(tmp_path / "two", counts=TINY, workers=2)
    assert hashes(tmp_path / "one") == hashes(tmp_path / "two")
    sample.make(tmp_path / "other", counts=TINY, workers=1, seed=1)
    assert not set(hashes(tmp_path / "one/VGGSound/video").values()) & set(
        hashes(tmp_path / "other/VGGSound/video").values()
    )


def test_what_other_tests_share_is_what_is_made(tmp_path: Path, make_sample: SampleMaker) -> None:
    counts = TINY | {"youcook2": {"validation": 1}}
    sample.make(tmp_path / "made", tuple(counts), counts=counts, workers=1)
    for name in ("rendered", "copied"):
        make_sample(tmp_path / name, tuple(counts), counts=counts)
        assert hashes(tmp_path / name) == hashes(tmp_path / "made")


def test_what_is_complete_is_left_alone_and_what_differs_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def times() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.mp4")}

    sample.make(tmp_path, counts=TINY, workers=1)
    first = times()
    sample.make(tmp_path, counts=TINY, workers=1)
    assert times() == first
    sample.make(tmp_path, counts=TINY, workers=1, seed=1)
    second = times()
    assert not first.keys() & second.keys()
    monkeypatch.setattr(sample, "VERSION", sample.VERSION + 1)
    sample.make(tmp_path, counts=TINY, workers=1, seed=1)
    third = times()
    assert third.keys() == second.keys() and all(third[path] != second[path] for path in third)


def test_only_the_wanted_datasets_are_made(tmp_path: Path) -> None:
    sample.make(tmp_path, ("vggsound",), counts=TINY, workers=1)
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["VGGSound"]


def test_a_folder_not_made_here_is_never_touched(tmp_path: Path) -> None:
    (tmp_path / "AudioSet").mkdir()
    (tmp_path / "AudioSet/eval_segments.csv").write_text("the real one")
    with pytest.raises(FileExistsError, match="no SAMPLE.json"):
        sample.make(tmp_path, counts=TINY, workers=1)
    assert hashes(tmp_path / "AudioSet").keys() == {"eval_segments.csv"}


def test_a_failed_writer_leaves_nothing(tmp_path: Path) -> None:
    def failing(items: Iterable[None], title: str, total: int) -> Iterator[None]:
        for done, item in enumerate(items):
            if done == 3:
                raise OSError("no space left")
            yield item

    with pytest.raises(OSError, match="no space left"):
        sample.make(tmp_path, counts=TINY, workers=1, track=failing)
    assert [path.name for path in tmp_path.iterdir()] == [".sample.lock"]


def test_progress_is_reported_once_a_clip(tmp_path: Path) -> None:
    seen = []

    def track(items: Iterable[None], title: str, total: int) -> Iterable[None]:
        seen.append((title, total, len(list(items))))
        return ()

    sample.make(tmp_path, counts=TINY, workers=1, track=track)
    assert seen == [("making sample data AudioSet", 4, 4), ("making sample data VGGSound", 8, 8)]


MAKE_AND_DIE = """
import os, sys
from pathlib import Path
from datamodules import sample
from tests.killed import kill_after

if __name__ == "__main__":
    counts = {"vggsound": {"train": 300, "test": 0}}
    sample.make(Path(sys.argv[1]), ["vggsound"], workers=2, counts=counts, track=kill_after(3, os.getpid()))
"""


def test_a_killed_writer_leaves_nothing_that_is_taken_for_complete(tmp_path: Path) -> None:
    script, root = tmp_path / "make_and_die.py", tmp_path / "root"
    script.write_text(MAKE_AND_DIE)
    # The pipe ends only when the workers have ended too.
    killed = subprocess.run(
        [sys.executable, script, root],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        timeout=300,
    )
    assert killed.returncode == -9
    assert not (root / "VGGSound").exists()
    assert list(root.glob(".VGGSound.*.partial/video/*.mp4"))
    sample.make(root, ["vggsound"], counts=TINY, workers=1)
    assert (root / "VGGSound/SAMPLE.json").exists()
    assert sorted(path.name for path in root.iterdir()) == [".sample.lock", "VGGSound"]


MAKE_AND_SAY = """
import sys
from pathlib import Path
from datamodules import sample

def say(items, title, total):
    print(title, flush=True)
    return items

assert "torch" not in sys.modules, "reading and writing sample data must not wait for torch"
sample.make(Path(sys.argv[1]), ["vggsound"], workers=1, counts={"vggsound": {"train": 30, "test": 0}}, track=say)
"""


def test_two_processes_at_once_make_it_once_and_without_torch(tmp_path: Path) -> None:
    def start() -> subprocess.Popen[str]:
        command = [sys.executable, "-c", MAKE_AND_SAY, str(tmp_path)]
        return subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)

    processes = [start(), start()]
    said = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert sorted(said) == ["", "making sample data VGGSound\n"]
    assert len(list((tmp_path / "VGGSound/video").iterdir())) == 30
