"""Judging files: remembered, resumable, and safe from files that kill or block the process that looks at them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from datamodules.manifest import checks as checks_module
from datamodules.manifest.checks import CRASHED, TOO_SLOW, Checks
from datamodules.manifest.judge import Judgement
from tests.media_files import noise, numbered_frame, write_media

REPOSITORY = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module", autouse=True)
def judged_here() -> None:
    """Here the processes that judge are what is tested."""


def film(path: Path, still: bool = False) -> Path:
    frames = [numbered_frame(0 if still else i) for i in range(20)]
    return write_media(path, frames=frames, sound=noise(2.0, 16000))


def of(checks: Checks, *paths: Path):
    return checks.of(pa.array([str(path) for path in paths], pa.large_string()), "checking")


def test_what_is_said_of_a_file(tmp_path):
    silent = write_media(tmp_path / "silent.wav", sound=np.zeros((1, 16000), np.float32), audio_codec="pcm_s16le")
    judged = of(
        Checks(tmp_path / "c", workers=1), film(tmp_path / "moves.mp4"), film(tmp_path / "still.mp4", True), silent
    )
    assert judged["audio_reason"].tolist() == ["", "", "silent"]
    assert judged["video_reason"].tolist() == ["", "", "no video"]
    assert judged["still"].tolist() == [False, True, False]
    assert judged["video_duration"][0] == pytest.approx(2.0, abs=0.1) and np.isnan(judged["audio_duration"][2])


def counting(totals: list[int]):
    def track(items, title, total):
        totals.append(total)
        return items

    return track


def test_only_new_and_changed_files_are_looked_at(tmp_path):
    totals: list[int] = []
    one, two = film(tmp_path / "one.mp4"), film(tmp_path / "two.mp4")
    checks = Checks(tmp_path / "c", workers=1, track=counting(totals))
    of(checks, one)
    of(checks, one, two)
    of(checks, two, one)
    two.write_text("no film")
    assert of(checks, one, two)["video_reason"].tolist() == ["", "not media"]
    assert totals == [1, 1, 1]


def test_many_parts_are_put_together_and_the_newest_judgement_holds(tmp_path):
    path = film(tmp_path / "one.mp4")
    checks = Checks(tmp_path / "c", workers=1)
    for seconds in range(70):  # more parts than are kept
        stamps = checks_module._stamps(pa.array([str(path)], pa.large_string()))
        checks._note(stamps, 0, [Judgement("", float(seconds), float(seconds), "", float(seconds), False)])
    assert of(checks, path)["audio_duration"].tolist() == [69.0]
    assert len(list((tmp_path / "c").glob("*.parquet"))) == 1
    assert of(checks, path)["audio_duration"].tolist() == [69.0]


KILLED = """
import sys
from pathlib import Path
import pyarrow as pa
from datamodules.manifest import checks
from tests.killed import kill_after
checks.SLICE = 4
if __name__ == "__main__":
    paths = sorted(str(p) for p in Path(sys.argv[1]).glob("*.mp4"))
    checks.Checks(Path(sys.argv[2]), workers=1, track=kill_after(10, 0)).of(pa.array(paths, pa.large_string()), "x")
"""


@pytest.mark.slow
def test_a_check_that_is_killed_goes_on_where_it_was(tmp_path):
    paths = [film(tmp_path / f"{i:02}.mp4") for i in range(16)]
    script = tmp_path / "check.py"
    script.write_text(KILLED)
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, str(script), str(tmp_path), str(tmp_path / "c")]
    assert subprocess.run(command, env=environment, start_new_session=True).returncode == -signal.SIGKILL
    totals: list[int] = []
    judged = of(Checks(tmp_path / "c", workers=1, track=counting(totals)), *paths)
    assert len(judged) == 16 and (judged["audio_reason"] == "").all()
    assert 0 < totals[0] <= 8, "two slices of four files were written down when it was killed"


def crash(path: str) -> Judgement:
    if path.endswith("crash.mp4"):
        os.kill(os.getpid(), signal.SIGSEGV)
    if path.endswith("hang.mp4"):
        time.sleep(60)
    return Judgement("", 1.0, 1.0, "", 1.0, False)


def test_a_file_that_kills_or_blocks_its_process_is_reported_and_the_others_are_judged(tmp_path, monkeypatch):
    monkeypatch.setattr(checks_module, "SECONDS_A_FILE", 6.0)
    names = ["a.mp4", "crash.mp4", "b.mp4", "hang.mp4", "c.mp4"]
    for name in names:
        (tmp_path / name).touch()
    judged = of(Checks(tmp_path / "c", workers=1, judge=crash), *(tmp_path / name for name in names))
    assert judged["audio_reason"].tolist() == ["", CRASHED, "", TOO_SLOW, ""]
