"""What a record says of the code and the machine that it comes from."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from bench import registry
from bench.records.record import Scalar
from datamodules.boards import BoardTask

GENERATED = ("leaderboards", "runs", "data")
"""Folders of the repository that running the suite changes; that does not make the tree dirty."""


def git_state(repo: Path, generated: Sequence[str] = GENERATED) -> tuple[str | None, bool | None]:
    """(commit, whether code or configuration differs from it); Nones if `repo` is not the root of a git repository.

    New files that git does not ignore count as changes. Changes in the folders `generated` do not.
    """
    try:
        if Path(_git(repo, "rev-parse", "--show-toplevel")).resolve() != repo.resolve():
            return None, None
        status = _git(repo, "status", "--porcelain", "--", ".", *(f":(exclude,top){folder}" for folder in generated))
    except (OSError, subprocess.SubprocessError):
        return None, None
    try:
        return _git(repo, "rev-parse", "--verify", "HEAD"), bool(status)
    except subprocess.SubprocessError:  # no commit yet
        return None, True


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.strip()


def packages(method: str, datasets: Iterable[str], task: BoardTask | None = None) -> tuple[dict[str, Any], ...]:
    """The `records.Package` of the method, the datasets and the task that are none of the suite's own, as dicts."""
    found = [_package("method", method, registry.methods()[method], "avl_bench.methods")]
    found += [_package("dataset", name, registry.datasets()[name], "avl_bench.datasets") for name in sorted(datasets)]
    if task is not None:
        found.append(_package_of_task(task))
    return tuple(package for package in found if package)


def _package(role: str, name: str, place: str, group: str) -> dict[str, Any] | None:
    """None: it is the suite's own."""
    points = [point for point in importlib.metadata.entry_points(group=group, name=name) if point.value == place]
    return _described(role, name, place.partition(":")[0], points[0].dist) if points else None


def _package_of_task(task: BoardTask) -> dict[str, Any] | None:
    """None: it is the suite's own. A task has no entry point, so its package is found by the name of its module."""
    module = task.measured_by.partition(":")[0]
    top = module.partition(".")[0]
    if top == "bench":
        return None
    found = importlib.metadata.packages_distributions().get(top, [])
    return _described("task", task.name, module, importlib.metadata.distribution(found[0]) if found else None)


def _described(
    role: str, name: str, module: str, distribution: importlib.metadata.Distribution | None
) -> dict[str, Any]:
    spec = importlib.util.find_spec(module)
    assert spec is not None and spec.origin is not None, f"{module} has been imported before"
    source = Path(spec.origin)
    top = importlib.util.find_spec(module.partition(".")[0])
    assert top is not None, f"{module} has been imported before"
    commit, dirty = _source_state(source)
    return {
        "role": role,
        "name": name,
        "distribution": distribution.name if distribution else module.partition(".")[0],
        "version": distribution.version if distribution else "",
        "commit": commit or (_installed_commit(distribution) if distribution else None),
        "dirty": dirty,
        # Of the whole package: a class is in one of its files, its helpers in others.
        "source_sha256": source_hash(*(Path(place) for place in top.submodule_search_locations or [str(source)])),
    }


def _source_state(source: Path) -> tuple[str | None, bool | None]:
    """(commit, whether anything differs from it) of the repository that has this file; Nones if none has."""
    try:
        top = _git(source.parent, "rev-parse", "--show-toplevel")
        _git(source.parent, "ls-files", "--error-unmatch", source.name)  # lying below it is not enough: a `.venv` does
    except (OSError, subprocess.SubprocessError):
        return None, None
    return git_state(Path(top), generated=())


def _installed_commit(distribution: importlib.metadata.Distribution) -> str | None:
    """The commit from which `pip install git+…` took it (PEP 610)."""
    about = json.loads(distribution.read_text("direct_url.json") or "{}")
    return about.get("vcs_info", {}).get("commit_id")


def source_hash(*sources: Path) -> str:
    """SHA-256 of a file, or of all files of folders with their names, but for what Python leaves there."""
    digest = hashlib.sha256()
    for source in sources:
        files = sorted(path for path in source.rglob("*") if path.is_file()) if source.is_dir() else [source]
        for path in files:
            if "__pycache__" not in path.parts:
                name = path.relative_to(source).as_posix() if source.is_dir() else path.name
                content = path.read_bytes()
                digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


LIBRARIES = ("avl-bench", "torch", "torchaudio", "torchvision", "lightning", "torchmetrics", "timm", "av", "numpy")


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that results depend on, without importing them."""
    found = {"python": platform.python_version()}
    for library in LIBRARIES:
        try:
            found[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def hardware() -> dict[str, Scalar]:
    """What the run had to run on. Names no host and no user. GPUs are looked for only if torch is loaded."""
    found: dict[str, Scalar] = {
        "system": platform.system(),
        "machine": platform.machine(),
        "cpu": _cpu_model(),
        "cpu_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "gpus": 0,
    }
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        found["memory_bytes"] = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        found["gpus"] = torch.cuda.device_count()
        found["gpu"] = torch.cuda.get_device_name(0)
        found["cuda"] = torch.version.cuda
    return found


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor()
