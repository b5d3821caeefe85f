"""The sample data: a small made-up world as real media files, in the official layout of each dataset.

`world` says what happens in a clip, `sound` and `picture` render it, `media` writes the file. `timeline` has recordings
of other lengths, `recipes` those in which a voice (`narration`) says what happens, and `features` what a network might
see in them. The writer of a dataset's official files is the module called as the dataset's own (`audioset`, `esc50`,
...), found by that name: it has a `FOLDER`, `COUNTS` (split -> number of clips) and `lay_out`. What writers have in
common is in the three shapes of samples: `labelled` clips, `captioned` clips, and `steps` in time.
"""

from __future__ import annotations

import importlib
import json
import multiprocessing
import os
import pkgutil
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from filelock import FileLock

from datamodules.processes import end_with_parent
from datamodules.progress import Track, no_progress
from datamodules.sample.media import Clip, write
from datamodules.source import DataError, Source

VERSION = 3
"""Raised whenever the files of a seed change, so that old ones are made anew; of one dataset alone it is its layout's
`REVISION`."""


@cache
def layouts() -> dict[str, ModuleType]:
    """Dataset -> the writer of its official files: every module here that has a `lay_out`."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    modules = {name: importlib.import_module(f"{__name__}.{name}") for name in names}
    return {name: module for name, module in modules.items() if hasattr(module, "lay_out")}


def make(
    root: Path,
    datasets: Sequence[str] = ("audioset", "vggsound"),
    seed: int = 0,
    workers: int | None = None,
    counts: Mapping[str, Mapping[str, int]] | None = None,
    track: Track = no_progress,
) -> None:
    """Makes the sample data: `root/AudioSet`, `root/VGGSound`, and so on.

    A folder that is complete, with this version and seed (and counts, if they are given), is left alone; another
    one made here is replaced. Folders appear complete or not at all: they are written beside and renamed. Two
    processes may call this at the same time. The same arguments give the same bytes.

    Args:
        root: the folder of the datasets' folders; made if missing.
        datasets: which, of `layouts`.
        seed: of all that is random.
        workers: processes that render; default one a CPU core of this process. They are spawned, so a script
            that calls this needs the usual `if __name__ == "__main__":`; with 1 nothing is spawned.
        counts: dataset -> split -> number of clips; None makes the layouts' `COUNTS`, and takes a complete folder of
            any size.
        track: shows progress, as `bench.progress.track` does.

    Raises:
        KeyError: no such dataset.
        FileExistsError: a folder that was not made here is in the way.
    """
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(root / ".sample.lock"):
        for name in datasets:
            layout = layouts()[name]
            about = _about(name, seed, counts[name] if counts else layout.COUNTS)
            if not _is_complete(root / layout.FOLDER, about, ignoring=() if counts else ("clips",)):
                _make_one(root / layout.FOLDER, layout, about, workers, track)


def make_for(source: type[Source], root: Path, track: Track = no_progress) -> None:
    """`make` of one dataset in the usual size, by the writer that is called as the file in which the dataset stands.

    Raises:
        DataError: there is no sample of it.
    """
    package, _, name = source.__module__.rpartition(".")
    if package != "datamodules" or name not in layouts():
        raise DataError(f"there is no sample data of {source.name}; give the real one with data_root=FOLDER")
    make(root, [name], track=track)


def _about(name: str, seed: int, counts: Mapping[str, int]) -> dict[str, Any]:
    """What two folders with the same bytes have in common."""
    revision = getattr(layouts()[name], "REVISION", 0)
    return {
        "about": "MADE-UP DATA: a small artificial world of bouncing things, for trying and testing AVL-Bench, in the "
        f"layout of {layouts()[name].FOLDER}. It holds nothing of the real dataset, and numbers measured on it say "
        "nothing about the real one.",
        "dataset": name,
        "version": VERSION,
        "seed": seed,
        "clips": dict(counts),
        **({"revision": revision} if revision else {}),
    }


def _is_complete(folder: Path, about: Mapping[str, Any], ignoring: Sequence[str]) -> bool:
    if not folder.exists():
        return False
    try:
        found = json.loads((folder / "SAMPLE.json").read_text())
    except FileNotFoundError:
        raise FileExistsError(
            f"{folder} exists but has no SAMPLE.json, so it is not sample data made here; it is left as it is. "
            "Give another folder for the sample data."
        ) from None
    return all(found.get(key) == value for key, value in about.items() if key not in ignoring)


def _make_one(folder: Path, layout: ModuleType, about: Mapping[str, Any], workers: int | None, track: Track) -> None:
    """Writes one dataset beside `folder`, then puts it in place."""
    # A new name each time: workers of a killed run may still be writing into the old one.
    partial = folder.parent / f".{folder.name}.{uuid.uuid4().hex}.partial"
    partial.mkdir()
    try:
        clips = layout.lay_out(partial, about["seed"], about["clips"])
        for _ in track(_write_all(clips, workers), f"making sample data {folder.name}", len(clips)):
            pass
        flaws = {str(clip.path.relative_to(partial)): clip.flaw for clip in clips if clip.flaw}
        (partial / "SAMPLE.json").write_text(json.dumps({**about, "flaws": flaws}, indent=2) + "\n")
        if folder.exists():
            folder.rename(partial.with_suffix(".old.partial"))
        partial.rename(folder)
    finally:
        _remove_left_overs(folder)


def _remove_left_overs(folder: Path) -> None:
    """Removes what this run, or an earlier one that was killed, has not put in place."""
    for left_over in folder.parent.glob(f".{folder.name}.*.partial"):
        shutil.rmtree(left_over, ignore_errors=True)


def _write_all(clips: Sequence[Clip], workers: int | None) -> Iterator[None]:
    """Writes the clips; yields after each."""
    workers = min(workers or len(os.sched_getaffinity(0)), len(clips))
    if workers <= 1:
        yield from map(write, clips)
        return
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=spawn, initializer=end_with_parent) as pool:
        yield from pool.map(write, clips, chunksize=8)
