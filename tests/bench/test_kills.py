"""`kill -9` at any moment: the same command goes on, and what it ends with is what an undisturbed run ends with."""

from __future__ import annotations

import json
import random
import re
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.records import archive
from tests.bench.runs import Server, arguments, run_folders, weights

pytestmark = pytest.mark.slow

KILLS = 20


@pytest.fixture(scope="module")
def undisturbed(forked: Server, sample_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing happens to, and the names of its moments."""
    folder = tmp_path_factory.mktemp("undisturbed")
    done = forked(["moments", str(folder / "moments")], arguments(sample_root, folder))
    assert done.status == 0, done.stderr
    return folder


def result(folder: Path) -> dict[str, Any]:
    """What a run ends with, but for when it was and how long it took."""
    found, errors = archive.read_all(folder / "leaderboards" / "sample" / "results")
    assert not errors and len(found) == 1
    (stage,) = run_folders(folder).values()
    assert json.loads((stage / "record.json").read_text())["id"] == found[0].id
    done = json.loads((stage / "done.json").read_text())
    left = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    kept = "runs/mavil/(?!.*tensorboard)|leaderboards/sample/[a-z0-9-]+[.]"
    return {
        "record": found[0].model_copy(update={"id": "", "created": None, "cost": None}),
        "weights": done["weights"],
        "curves": (stage / "metrics.csv").read_bytes(),
        "files": [name for name in left if re.match(kept, name)],
    }


def test_killed_at_twenty_moments_it_ends_with_what_an_undisturbed_run_ends_with(
    forked: Server, sample_root: Path, undisturbed: Path, tmp_path: Path
):
    names = (undisturbed / "moments").read_text().splitlines()
    names = names[names.index("half of config.yaml") :]  # where the first stage begins
    assert len(set(names)) == len(names) > 60
    run = arguments(sample_root, tmp_path)
    for moment in sorted(random.Random(0).sample(range(len(names)), KILLS)):
        # Or at the next one: a kill between two moves may leave so much that this one does not come again.
        killed = forked(["moments", None, names[moment:]], run)
        assert killed.status == -signal.SIGKILL, f"{names[moment]}: {killed.stderr}"
    done = forked(None, run)
    assert done.status == 0, done.stderr
    assert result(tmp_path) == result(undisturbed)
    one, two = weights(undisturbed), weights(tmp_path)
    for stage, tensors in one.items():
        assert all(torch.equal(tensor, two[stage][name]) for name, tensor in tensors.items())


def test_killed_where_another_process_loads_data_that_ends_too_and_nothing_is_lost(
    forked: Server, sample_root: Path, undisturbed: Path, tmp_path: Path
):
    run, noted = arguments(sample_root, tmp_path, "data.loader.workers=1"), tmp_path / "worker"
    killed = forked(["kill_parent_of_worker", 4, str(noted)], run)
    assert killed.status == -signal.SIGKILL, killed.stderr
    deadline = time.monotonic() + 300
    while is_alive(int(noted.read_text())) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not is_alive(int(noted.read_text()))
    noted.unlink()
    again = forked(None, run)
    assert again.status == 0 and "goes on where it was cut off" in again.stderr
    one, two = result(tmp_path), result(undisturbed)
    assert one.pop("record").metrics == two.pop("record").metrics
    assert one == two


def is_alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
