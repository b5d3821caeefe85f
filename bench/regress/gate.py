"""`bench regress`: has a change made anything worse? The runs of a suite, measured against a baseline.

The baseline is what was stored for this class of machine; where nothing was, the last commit, measured side by side
with the working tree.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from bench.errors import UserError
from bench.progress import console
from bench.records import provenance
from bench.regress import report
from bench.regress.figures import Figure, Tolerances, figures
from bench.regress.measure import MEASURED, MeasuredRun, MeasuredTree, Run, load, measure
from bench.run.results import REPOSITORY
from bench.tables.show import console as output
from datamodules.files import replacing


@dataclass
class Suite:
    """What is run, and what is tolerated."""

    tolerances: Tolerances = field(default_factory=Tolerances)
    runs: dict[str, Run] = field(default_factory=dict)


@dataclass(frozen=True)
class RegressOptions:
    """Of the command line."""

    suite: Path
    baselines: Path
    folder: Path
    """Of the runs; what an earlier call left there is removed."""
    devices: int
    """0: all GPUs, or one process without any."""
    sample_root: Path
    junit: Path | None
    against: str | None
    """A commit; None: what is stored for this class of machine, or else the last commit."""


def regress(settings: RegressOptions) -> int:
    """Measures, compares and reports. Returns 1 if a figure got worse, or a run failed.

    Raises:
        UserError: on a suite that is none, a stored baseline of another suite, or nothing to compare with.
    """
    suite = read_suite(settings.suite)
    devices = settings.devices or torch.cuda.device_count() or 1
    machine = class_of_machine(devices)
    stored = settings.baselines / machine
    compares_stored = settings.against is None and stored.is_dir()
    if compares_stored:
        check_stored(stored, suite)
    found: list[Figure] = []
    with fresh_folder(settings.folder) as folder:
        after = working_tree(folder, devices, settings.sample_root)
        commit = settings.against or "HEAD"
        before = None if compares_stored else committed(commit, folder, devices, settings.sample_root)
        against = f"{stored}" if before is None else f"commit {git('rev-parse', '--short', commit)}, side by side"
        for number, (name, run) in enumerate(suite.runs.items(), 1):
            console.print(f"[{number}/{len(suite.runs)}] {name}, against {against}", markup=False, soft_wrap=True)
            if before is None:
                was, (now,) = load(stored / name), measure(name, run, [after])
            else:
                was, now = measure(name, run, [before, after])
            found += figures(was, now, suite.tolerances)
    show(found, f"bench regress on {machine}", {"machine": machine, "baseline": against}, settings.junit)
    return 1 if any(figure.regressed for figure in found) else 0


def store(settings: RegressOptions) -> None:
    """Measures the last commit and keeps it as the baseline of this class of machine.

    Raises:
        UserError: where the working tree is not that of a commit, or a run fails; the old baseline then stays.
    """
    suite = read_suite(settings.suite)
    commit, dirty = provenance.git_state(REPOSITORY)
    if commit is None or dirty:
        raise UserError("a baseline is stored of a commit, and the working tree differs from it; commit or stash first")
    devices = settings.devices or torch.cuda.device_count() or 1
    target = settings.baselines / class_of_machine(devices)
    with fresh_folder(settings.folder) as folder:
        side = working_tree(folder, devices, settings.sample_root)
        kept = folder / "stored"
        for number, (name, run) in enumerate(suite.runs.items(), 1):
            console.print(f"[{number}/{len(suite.runs)}] {name}")
            (measured,) = measure(name, run, [side])
            if measured.failure:
                raise UserError(f"{name}: {measured.failure}; the log is {measured.folder / 'log.txt'}")
            keep(measured, kept / name)
        shutil.rmtree(target, ignore_errors=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(kept, target)
    print(f"stored as {target}; `bench regress` on this class of machine now compares with it")


def keep(measured: MeasuredRun, folder: Path) -> None:
    """Copies what is compared later."""
    folder.mkdir(parents=True)
    for file in (MEASURED, *(scored.predictions for scored in measured.scored)):
        shutil.copyfile(measured.folder / file, folder / file)


def read_suite(path: Path) -> Suite:
    """A suite from its file.

    Raises:
        UserError: naming the file and what is wrong.
    """
    if not path.is_file():
        raise UserError(f"no suite {path}; the one of this repository is baselines/default.yaml")
    try:
        suite = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Suite), OmegaConf.load(path)))
    except OmegaConfBaseException as error:
        raise UserError(f"{path}: {str(error).splitlines()[0]}") from error
    assert isinstance(suite, Suite)
    if not suite.runs:
        raise UserError(f"{path}: no runs")
    return suite


def class_of_machine(devices: int) -> str:
    """Machines of one class are as fast as each other: `nvidia-h200-x8`, or `intel-xeon-platinum-8488c-2-cores`."""
    hardware = provenance.hardware()
    name = f"{hardware['gpu']} x{devices}" if hardware["gpus"] else f"{hardware['cpu']} {hardware['cpu_cores']} cores"
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def check_stored(folder: Path, suite: Suite) -> None:
    """Refuses a baseline whose runs are not the suite's."""
    for name, run in suite.runs.items():
        file = folder / name / MEASURED
        if not file.is_file() or load(folder / name).run != run:
            what = "has other settings than the suite" if file.is_file() else "is not there"
            raise UserError(f"{file}: {what}; store the baseline of this machine again: bench regress --store")


@contextmanager
def fresh_folder(folder: Path) -> Iterator[Path]:
    """An empty folder, for one `bench regress` at a time. What is in it stays, for those who look why a run failed."""
    folder = folder.resolve()
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder.with_name(f".{folder.name}.lock"), timeout=0):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            yield folder
    except Timeout:
        raise UserError(f"another bench regress runs in {folder}; wait for it, or choose another --folder") from None


def working_tree(folder: Path, devices: int, sample_root: Path) -> MeasuredTree:
    """The files as they are now."""
    return side(REPOSITORY, folder / "after", devices, sample_root)


def committed(commit: str, folder: Path, devices: int, sample_root: Path) -> MeasuredTree:
    """A commit's files in a folder of their own.

    Raises:
        UserError: if there is no such commit.
    """
    try:
        archive = git_bytes("archive", "--format=tar", commit)
        same_sample = not git("diff", "--stat", commit, "--", "datamodules/sample")
    except (OSError, subprocess.CalledProcessError):
        raise UserError(
            f"nothing to compare with: {REPOSITORY} is no git repository that has the commit {commit!r}; a baseline "
            "can also be stored on this class of machine: bench regress --store"
        ) from None
    tree = folder / "commit"
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        # `extractall(filter="data")` is younger than Python 3.11.0; versions without filters take no notice of this.
        tar.extraction_filter = getattr(tarfile, "data_filter", None)
        tar.extractall(tree)
    # Two versions of the sample data cannot share a folder: each would make it anew under the other.
    return side(tree, folder / "before", devices, sample_root if same_sample else folder / "sample")


def side(tree: Path, folder: Path, devices: int, sample_root: Path) -> MeasuredTree:
    """What a tree's methods are run with."""
    return MeasuredTree(tree, folder, (f"trainer.devices={devices}", f"sample_root={sample_root.resolve()}"))


def git_bytes(*arguments: str) -> bytes:
    """What git prints in this repository."""
    return subprocess.run(["git", "-C", str(REPOSITORY), *arguments], check=True, capture_output=True).stdout


def git(*arguments: str) -> str:
    """What git prints in this repository, as text."""
    return git_bytes(*arguments).decode().strip()


def show(found: list[Figure], title: str, properties: dict[str, str], junit: Path | None) -> None:
    """Prints the table and what got worse; writes for the machines that ask."""
    output.print(report.to_rich(found, title))
    for figure in found:
        if figure.regressed:
            output.print(f"regression: {figure}", markup=False, soft_wrap=True)
    output.print(report.summary(found))
    if junit is not None:
        with replacing(junit) as temporary:
            temporary.write_text(report.to_junit(found, properties), encoding="utf-8")
    if steps := os.environ.get("GITHUB_STEP_SUMMARY"):
        with Path(steps).open("a", encoding="utf-8") as file:
            file.write(report.to_markdown(found, f"{title}, against {properties['baseline']}"))
