"""What a record says of the code and the machine that it comes from."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import sys
from pathlib import Path

from bench.records import Scalar

GENERATED = ("leaderboards", "runs", "data")
"""Folders of the repository that running the suite changes; that does not make the tree dirty."""


def git_state(repo: Path) -> tuple[str | None, bool | None]:
    """(commit, whether code or configuration differs from it); Nones if `repo` is not the root of a git repository.

    New files that git does not ignore count as changes. Changes in `GENERATED` do not.
    """

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(repo), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() != repo.resolve():
            return None, None
        status = git("status", "--porcelain", "--", ".", *(f":(exclude,top){folder}" for folder in GENERATED))
    except (OSError, subprocess.SubprocessError):
        return None, None
    try:
        return git("rev-parse", "--verify", "HEAD"), bool(status)
    except subprocess.SubprocessError:  # no commit yet
        return None, True


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
