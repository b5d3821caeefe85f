"""Windows, other clips and further streams, as a stage of another package is given them."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.cli import main
from bench.config.compose import compose
from datamodules.loading.clips import ClipDataset
from datamodules.loading.loader import collate
from datamodules.loading.samplers import ClipRef
from datamodules.loading.windows import TooShort, places
from datamodules.manifest.build import build_manifest
from datamodules.manifest.checks import Checks
from datamodules.streams.known import streams_of
from datamodules.types import DataConfig, Inputs, WindowConfig
from tests.conftest import REPOSITORY
from tests.installed import forget, install

PACKAGE = Path(__file__).parent.parent / "outside" / "ramps"
CLIPS = 24
EPOCHS, BATCH = 2, 6
STEPS = EPOCHS * CLIPS // BATCH
CLOSE = 2e-3
"""Seconds; two samples."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The package, as if installed, with its data."""
    site = tmp_path_factory.mktemp("site")
    (site / "ramps").symlink_to(PACKAGE / "ramps")
    install(site, (PACKAGE / "pyproject.toml").read_text())
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(site))
        forget("ramps")
        importlib.import_module("ramps").write(site / "data" / "ramps")
        yield site
    forget("ramps")


def arguments(site: Path, folder: Path, *overrides: str) -> list[str]:
    places = [f"data_root={site / 'data'}", f"runs={folder / 'runs'}", f"leaderboards={folder / 'boards'}"]
    log = f"stages.watch.options.log={folder / 'log'}"
    return ["run", "watcher", "preset=tiny", log, "data.loader.workers=0", *places, *overrides]


def watched(folder: Path) -> dict[tuple[int, str], dict[str, Any]]:
    """(step, clip) -> what a stage was given of it, by the keys of a batch."""
    seen = {}
    for line in map(json.loads, (folder / "log").read_text().splitlines()):
        step = line.pop("step"), line.pop("rank")
        for place, clip in enumerate(line["clip_id"]):
            seen[step[0], clip] = {name: values[place] for name, values in line.items()}
    return seen


@pytest.fixture(scope="module")
def alone(site: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[int, str], dict[str, Any]]:
    """What one process was given that nothing happened to."""
    folder = tmp_path_factory.mktemp("alone")
    assert main(arguments(site, folder)) == 0
    return watched(folder)


def starts(seen: dict[str, Any], stream: str) -> tuple[str, float]:
    """(clip, second of its video) at which a stream begins."""
    from ramps import SECONDS, place

    video, second = place(seen[stream][0])
    return f"{video}_{int((second + CLOSE) / SECONDS)}", second


def test_each_clip_comes_once_an_epoch_with_all_its_streams(alone):
    assert len(alone) == EPOCHS * CLIPS and {step for step, _ in alone} == set(range(STEPS))
    for seen in alone.values():
        for stream, samples in (("wave", 1000), ("half", 1000), ("late", 1000), ("long", 2000), ("theirs", 1000)):
            assert len(seen[stream]) == seen[f"{stream}_length"] == samples
        assert [len(each) for each in seen["chain"]] == seen["chain_length"] == [500] * 3
        assert [len(each) for each in seen["mixed"]] == seen["mixed_length"] == [1000] * 2


def test_windows_lie_as_they_are_said_to_and_within_the_clip(alone):
    sides, shifts, own = set(), [], []
    for (_, clip), seen in alone.items():
        begins = {name: starts(seen, name) for name in ("wave", "half", "late", "long")}
        assert {found for found, _ in begins.values()} == {clip}
        begin = {name: second for name, (_, second) in begins.items()}
        own.append(begin["wave"])
        sides.add(round(begin["half"] - begin["wave"], 2))
        shifts.append(begin["late"] - begin["wave"])
        assert begin["long"] == pytest.approx(begin["wave"], abs=CLOSE)
        chain = [starts({"chain": each}, "chain") for each in seen["chain"]]
        assert {found for found, _ in chain} == {clip}
        expected = [begin["wave"] + offset for offset in (1.0, 1.5, 2.0)]
        assert [second for _, second in chain] == pytest.approx(expected, abs=CLOSE)
        first = 6.0 * int(clip[-1])
        assert (
            first - CLOSE <= min(begin.values()) and max(chain[-1][1] + 0.5, begin["long"] + 2.0) <= first + 6 + CLOSE
        )
    assert sides == {-0.5, 0.5}
    assert min(shifts) > 0.2 - CLOSE and max(shifts) < 0.6 + CLOSE and max(shifts) - min(shifts) > 0.3
    assert len({round(second, 2) for second in own}) > CLIPS


def test_another_video_s_clip_stands_beside_half_of_the_clips_and_itself_at_the_same_time_beside_the_others(alone):
    others = 0
    for (_, clip), seen in alone.items():
        found, second = starts(seen, "theirs")
        assert found == seen["other_id"] and seen["other_own"] == (found == clip) and seen["other_there"]
        assert seen["other_label"][int(found[1:-2]) % 3] == 1.0 and sum(seen["other_label"]) == 1.0
        if seen["other_own"]:
            assert second == pytest.approx(starts(seen, "wave")[1], abs=CLOSE)
        else:
            others += 1
            assert found.partition("_")[0] != clip.partition("_")[0]
    assert 0.3 < others / len(alone) < 0.7


def test_clips_to_be_mixed_have_no_class_in_common(alone):
    for seen in alone.values():
        for place in range(2):
            found, _ = starts({"mixed": seen["mixed"][place]}, "mixed")
            assert found == seen["unlike_id"][place]
            assert not any(a and b for a, b in zip(seen["label"], seen["unlike_label"][place], strict=True))


def test_a_neighbour_is_the_next_clip_of_the_video_and_the_last_has_none(alone):
    for (_, clip), seen in alone.items():
        video, _, place = clip.partition("_")
        assert seen["next_there"] == (place != "2")
        if seen["next_there"]:
            assert starts(seen, "after")[0] == seen["next_id"] == f"{video}_{int(place) + 1}"
        else:
            assert seen["next_id"] == "" and not any(seen["after"]) and seen["after_length"] == 0


def test_an_epoch_has_other_windows_and_other_clips_than_the_one_before(alone):
    drawn = {clip: [] for _, clip in alone}
    for (_, clip), seen in sorted(alone.items()):
        drawn[clip].append((round(starts(seen, "wave")[1], 3), *seen["unlike_id"]))
    assert sum(first != second for first, second in drawn.values()) > 20


def in_a_process(site: Path, folder: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    run = [sys.executable, "-m", "bench", *arguments(site, folder, *overrides)]
    environment = os.environ | {"PYTHONPATH": f"{REPOSITORY}:{site}", "OMP_NUM_THREADS": "1"}
    return subprocess.run(run, env=environment, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
def test_two_processes_are_given_what_one_is(site, alone, tmp_path):
    done = in_a_process(site, tmp_path, "trainer.accelerator=cpu", "trainer.devices=2")
    assert done.returncode == 0, done.stderr
    assert watched(tmp_path) == alone


@pytest.mark.slow
def test_killed_in_the_middle_of_an_epoch_it_goes_on_with_what_was_to_come(site, alone, tmp_path):
    settings = ("stages.watch.options.kill=6", "trainer.checkpoint_every=1", "data.loader.workers=1")
    assert in_a_process(site, tmp_path, *settings).returncode != 0
    done = in_a_process(site, tmp_path, *settings)
    assert done.returncode == 0 and "goes on where it was cut off" in done.stderr + done.stdout, done.stderr
    assert watched(tmp_path) == alone


def test_clips_that_are_too_short_for_their_windows_are_left_out_and_counted(site, tmp_path, capsys):
    assert main(["plan", *arguments(site, tmp_path, "data.inputs.windows.late.by=[0.2,9]")[1:]]) == 2
    assert "shorter than its windows need" in capsys.readouterr().err


def test_where_a_file_is_gone_another_clip_that_fits_stands_in_its_place_and_batches_stay_whole(site, tmp_path):
    from ramps import Ramps, write

    write(tmp_path / "ramps")
    inputs = compose("watcher", []).stages["watch"].data.inputs
    manifest = build_manifest(Ramps(tmp_path / "ramps"), ["train"], inputs, Checks(tmp_path / "checks", workers=1))
    clips = ClipDataset(manifest, DataConfig(inputs=inputs), seed=0)
    (tmp_path / "ramps" / "v3.wav").unlink()
    replaced = 0
    for epoch in range(3):
        raw = collate([clips[ClipRef(row, epoch)] for row in range(CLIPS)])
        assert len(raw["clip_id"]) == CLIPS and not any(clip.startswith("v3") for clip in raw["clip_id"])
        for place, clip in enumerate(raw["clip_id"]):
            seen = {name: raw[name][place].tolist() for name in ("wave", "theirs")}
            assert starts(seen, "wave")[0] == clip and starts(seen, "theirs")[0] == raw["other_id"][place]
            for at in (2 * place, 2 * place + 1):
                mixed, _ = starts({"mixed": raw["mixed"][at].tolist()}, "mixed")
                assert mixed == raw["unlike_id"][at] and not (raw["label"][place] * raw["unlike_label"][at]).any()
            replaced += clip.startswith("v4") and place < 12
    assert replaced == 9  # v3's three clips, three times, by the first of v4
    with pytest.raises(TooShort):
        places({}, {"": 7.0}, 6.0, 0.0, lambda purpose: 0.0)


def test_settings_that_are_called_as_one_of_all_streams_stand_in_options():
    said = {"kind": "log_mel", "window": "late", "frames": 8, "options": {"kind": "decibel", "window": "hamming"}}
    inputs = Inputs(None, None, streams={"low": said}, windows={"late": WindowConfig()})
    stream = streams_of(inputs)["low"]
    assert stream.window == "late"
    assert (stream.options.kind, stream.options.window, stream.options.frames) == ("decibel", "hamming", 8)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (["data.inputs.streams.wave.kind=wavefrom"], "Did you mean 'waveform'?"),
        (["data.inputs.streams.wave.sample_rat=8000"], "sample_rat"),
        (["data.inputs.streams.wave.seconds=long"], "streams.wave.seconds"),
        (["data.inputs.streams.wave.window=halve"], "there are: half, late, chain, global"),
        (["data.inputs.streams.wave.row=othre"], "there are: other, unlike, next"),
        (["data.inputs.streams.label.kind=waveform"], "no stream can be called 'label'"),
        (["data.inputs.streams.wave.augment.roll_gian=true"], "roll_gian"),
        (["data.inputs.windows.half.by=[0.5]"], "give the least and the most"),
        (["data.inputs.windows.half.by=[0.5,1.5]"], "a share from 0 to 1"),
        (["data.inputs.windows.half.to=lat"], "there is no such window"),
        (["data.inputs.windows.half.to=late", "data.inputs.windows.late.to=half"], "counted from another"),
        (["data.inputs.windows.chain.count=0"], "1 window or more"),
        (["data.inputs.rows.next.step=0"], "that is the clip itself"),
        (["data.inputs.rows.unlike.count=0"], "1 clip or more"),
        (["data.inputs.rows.other.share=2"], "from 0 to 1"),
        (["data.inputs.rows.other.which=other"], "which"),
        (["stages.watch.data.augment.mixup=0.5"], "cannot be mixed"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_place(site, tmp_path, capsys, settings, says):
    assert main(["plan", *arguments(site, tmp_path, *settings)[1:]]) == 2
    assert says in capsys.readouterr().err
