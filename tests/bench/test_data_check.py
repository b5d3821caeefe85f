"""`bench data check`: its report and its exit status, on real files."""

from __future__ import annotations

import csv
import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torchaudio

from bench.cli import main
from datamodules.media.decode import read_audio
from datamodules.vggsound import VGGSound
from tests.media_files import write_media


@pytest.fixture
def data(sample_root: Path, tmp_path: Path) -> Path:
    shutil.copytree(sample_root / "VGGSound", tmp_path / "data" / "VGGSound")
    return tmp_path / "data"


def check(data: Path, tmp_path: Path, *more: str) -> tuple[int, dict]:
    status = main(["data", "check", "vggsound", f"data_root={data}", f"runs={tmp_path / 'runs'}", *more])
    report = tmp_path / "runs" / "cache" / "reports" / "vggsound.json"
    return status, json.loads(report.read_text()) if report.is_file() else {}


def test_intact_data_is_ready(data, tmp_path, capsys):
    (data / "VGGSound" / "SAMPLE.json").touch()
    status, report = check(data, tmp_path)
    assert status == 0 and set(report["boards"].values()) == {""} and report["shared_videos"] == []
    test = report["splits"]["test"]
    assert test["official"] == test["listed"] == test["usable"]["both"]["clips"] == 61
    assert sum(test["clips_of_class"].values()) == 61 and len(test["clips_of_class"]) == 30
    shown = capsys.readouterr().out
    assert "board vggsound: ready" in shown and "61" in shown and "log-mel" in shown


def test_too_few_clips_end_with_status_1_and_say_why(data, tmp_path, capsys):
    films = sorted((data / "VGGSound" / "video").glob("*"))
    for film in films:
        film.write_text("Video unavailable")
    films[0].unlink()
    status, report = check(data, tmp_path)
    assert status == 1 and "the least is data.min_coverage=0.85" in report["boards"]["vggsound"]
    assert "cannot be measured" in capsys.readouterr().out
    excluded = report["splits"]["train"]["usable"]["sound"]["excluded"]
    rest = report["splits"]["test"]["usable"]["sound"]["excluded"]
    assert excluded["not media"] + rest["not media"] == 120 and excluded.get("missing", 0) + rest.get("missing", 0) == 1
    assert check(data, tmp_path, "data.min_coverage=0")[0] == 1


def test_a_smaller_coverage_can_be_enough(data, tmp_path):
    for film in sorted((data / "VGGSound" / "video").glob("*"))[::2]:
        film.unlink()
    assert check(data, tmp_path)[0] == 1
    assert check(data, tmp_path, "data.min_coverage=0.1")[0] == 0


def test_a_shortened_list_does_not_pass_for_the_official_one(data, tmp_path):
    (data / "VGGSound" / "SAMPLE.json").unlink()
    status, report = check(data, tmp_path)
    assert status == 1 and report["splits"]["test"]["official"] == 15446
    assert report["splits"]["test"]["usable"]["both"]["excluded"]["not listed"] == 15446 - 61


def test_a_missing_official_file_is_a_problem_and_not_a_crash(data, tmp_path, capsys):
    (data / "VGGSound" / "vggsound.csv").unlink()
    status, report = check(data, tmp_path)
    assert status == 1 and "found none of test.csv, vggsound.csv" in report["problems"]["test"]


def test_a_video_in_train_and_test_is_reported(data, tmp_path):
    path = data / "VGGSound" / "vggsound.csv"
    rows = path.read_text().splitlines()
    trained = next(row for row in rows if row.endswith("train"))
    video = trained.split(",")[0]
    path.write_text("\r\n".join([*rows, f"{video},399,{rows[0].split(',')[2]},test"]) + "\r\n")
    _, report = check(data, tmp_path)
    (shared,) = report["shared_videos"]
    assert shared["splits"] == ["train", "test"] and shared["videos"] == 1 and shared["examples"] == [video]


def test_log_mels_are_measured_as_torchaudio_would(data, tmp_path):
    _, report = check(data, tmp_path)
    values = []
    for film in (data / "VGGSound" / "video").glob("*"):
        sound = torch.from_numpy(read_audio(film, 0, 3.0, 16000))[None]
        options = {
            "htk_compat": True,
            "use_energy": False,
            "window_type": "hanning",
            "num_mel_bins": 128,
            "dither": 0.0,
        }
        values.append(torchaudio.compliance.kaldi.fbank(sound - sound.mean(), frame_shift=10, **options).numpy())
    every = np.concatenate(values)
    mel = report["log_mel"]
    assert mel["clips"] == len(values) == 121
    assert math.isclose(mel["mean"], every.mean(), abs_tol=0.02) and math.isclose(mel["std"], every.std(), abs_tol=0.02)


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["nosuch"], "no such dataset: 'nosuch'"),
        (["vggsound", "data.root=/nowhere"], "there is no such folder"),
        (["vggsound", "data.media=films"], "films"),
        (["vggsound", "workers=many"], "expected a whole number"),
        (["vggsound", "data_rot=x"], "data_root"),
        (["vggsound", "data.inputs.streams.x.kind=imge"], "no such kind of stream: 'imge'. Did you mean 'image'"),
        (["vggsound", "data.inputs.streams.x={kind: image, sizes: 3}"], "data.inputs.streams.x.sizes"),
        (["vggsound", "data.inputs.audoi.frames=3"], "data.inputs.audoi"),
    ],
)
def test_mistakes_of_data_check_are_user_errors(sample_root, arguments, part, capsys):
    assert main(["data", "check", *arguments, f"sample_root={sample_root}"]) == 2
    assert part in capsys.readouterr().err


def test_clips_and_classes_are_counted_by_what_can_be_used(data, tmp_path, capsys):
    """The list names them all the same."""
    folder = data / "VGGSound"
    rows = list(csv.reader((folder / "vggsound.csv").read_text().splitlines()))
    silenced = rows[0][2]
    gone = [row for row in rows if row[2] == silenced and row[3] == "test"]
    for video, start, *_ in gone:
        (folder / "video" / f"{video}_{int(start):06}.mp4").unlink()
    status, report = check(data, tmp_path)
    test = report["splits"]["test"]
    assert test["clips_of_class"][silenced] == 0 and sum(test["clips_of_class"].values()) == 61 - len(gone)
    assert f"1 of the 30 classes have no usable clip in test: {silenced}" in findings(report)
    shown = capsys.readouterr().out
    assert (
        f"missing (there is no such file): {len(gone)} of test" in shown and "next: download what still exists" in shown
    )


def findings(report: dict) -> str:
    assert all(finding["next_step"] for finding in report["findings"])
    return "\n".join(finding["what"] for finding in report["findings"])


def test_clips_that_are_shorter_than_listed_do_not_pass(data, tmp_path, capsys):
    """The sample's clips have 3 s of the 10 that the list says."""
    _, report = check(data, tmp_path)
    test = report["splits"]["test"]
    assert test["short"] == 61 and test["listed_seconds"] == 10
    assert all(2.9 < seconds < 3.2 for seconds in test["seconds"]) and len(test["seconds"]) == 5
    assert (
        "61 of the 61 usable clips of test are clearly shorter than listed: 3.0 s at least, 3.0 s in the median, of 10"
        in findings(report)
    )
    assert "of 10.0" in capsys.readouterr().out


def test_sound_of_another_level_than_is_assumed_has_a_next_step(data, tmp_path):
    """17 dB quieter are 4 less of a log-mel's mean."""
    root = tmp_path / "quiet" / "VGGSound"
    (root / "video").mkdir(parents=True)
    for name in ("vggsound.csv", "stat.csv", "SAMPLE.json"):
        shutil.copy(data / "VGGSound" / name, root)
    for film in sorted((data / "VGGSound" / "video").glob("*"))[:12]:
        sound = read_audio(film, 0, 3.0, 16000)
        path = root / "video" / f"{film.stem}.wav"
        write_media(path, sound=1e-3 * sound, rate=16000, audio_codec="pcm_s16le")
    before, after = (check(folder, tmp_path)[1]["log_mel"] for folder in (data, root.parent))
    assert after["level"][2] == pytest.approx(before["level"][2] - 60, abs=6) and after["clips"] == 12
    _, report = check(root.parent, tmp_path)
    assert "dB less in a band" in findings(report) and "one clip in twenty" in findings(report)
    steps = [finding["next_step"] for finding in report["findings"]]
    assert any(f"data.inputs.audio.mean={after['mean']:.4f}" in step for step in steps)


def test_a_board_of_selected_clips_is_judged_by_these(data, tmp_path, monkeypatch):
    """That others are missing does not matter, and none takes the place of one of them."""
    folder = data / "VGGSound"
    rows = list(csv.reader((folder / "vggsound.csv").read_text().splitlines()))
    firsts: dict[str, str] = {}
    for clip, label in sorted(
        (f"{video}_{int(start):06}", label) for video, start, label, split in rows if split == "test"
    ):
        firsts.setdefault(label, clip)
    boards = tuple(replace(board, per_class=1) if board.per_class else board for board in VGGSound.boards)
    monkeypatch.setattr(VGGSound, "boards", boards)
    for film in (folder / "video").glob("*"):
        if film.stem not in firsts.values():
            film.unlink()
    boards = check(data, tmp_path)[1]["boards"]
    assert boards["vggsound-a2v"] == "" and "30 of the 61" in boards["vggsound"]


def test_streams_are_reported_by_what_of_each_is_missing_or_damaged(data, tmp_path, capsys):
    root = data / "VGGSound"
    rows = list(csv.reader((root / "vggsound.csv").read_text().splitlines()))
    test = [row for row in rows if row[3] == "test"][:4]
    (root / "vggsound.csv").write_text("".join(f'{video},{start},"{label}",test\n' for video, start, label, _ in test))
    (root / "flow").mkdir()
    for video, *_ in test[:3]:
        np.save(root / "flow" / f"{video}.npy", np.zeros((10, 4, 4, 2), np.uint8))
    whole = root / "flow" / f"{test[0][0]}.npy"
    whole.write_bytes(whole.read_bytes()[:-9])
    streams = ["motion.kind=flow", "still.kind=image", "where.kind=mask"]
    status, report = check(data, tmp_path, *(f"data.inputs.streams.{each}" for each in streams), "workers=1")
    found = report["splits"]["test"]["streams"]
    assert {name: each["clips"] for name, each in found.items()} == {
        "motion": 2, "still": 4, "where": 0, "all of these": 0
    }  # fmt: skip
    assert found["motion"]["excluded"] == {"flow: unreadable": 1, "no flow": 1}
    assert found["motion"]["examples"]["flow: unreadable"][0].startswith(test[0][0])
    (why,) = next(iter(found["where"]["examples"].values()))
    assert "data.inputs.streams.where.column=mask_path: VGGSound has no such column" in why
    assert status == 1 and report["unread"] == ["where", "all of these"]
    shown = capsys.readouterr().out
    assert "get or make each flow anew" in shown and "stream where: cannot be read" in shown
    assert check(data, tmp_path, "data.inputs.streams.motion.kind=flow", "data.min_coverage=0", "workers=1")[0] == 0
