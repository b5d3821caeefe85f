"""What a person reads: help, lists, plans, and the messages for what they can cure."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench import registry
from bench.cli import main, parse
from tests.conftest import REPOSITORY

SCRATCH = ["run", "mavil", "variant=scratch", "preset=tiny", "stage=finetune_vggsound_a"]


def failed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    message = captured.err.splitlines()[-1]  # after the progress of what was done before
    assert captured.out == "" and message.startswith("bench: ") and "Traceback" not in captured.err
    return message


@pytest.fixture
def vggsound(sample_root: Path, tmp_path: Path) -> Path:
    """A copy of the small VGGSound, given as the user's own data."""
    shutil.copytree(sample_root / "VGGSound", tmp_path / "data" / "vggsound")
    return tmp_path / "data"


def test_help_names_the_commands_and_shows_an_example(capsys):
    with pytest.raises(SystemExit) as exit:
        main(["--help"])
    assert exit.value.code == 0
    out = capsys.readouterr().out
    for word in ("run", "plan", "list", "data", "table", "python -m bench run mavil"):
        assert word in out


def test_settings_may_stand_before_and_after_options(capsys):
    read = parse(["speed", "train", "mavil", "preset=tiny", "--steps", "3", "stages.pretrain.batch_size=8", "seed=1"])
    assert read.steps == 3 and read.overrides == ["preset=tiny", "stages.pretrain.batch_size=8", "seed=1"]
    for wrong in (["list", "seed=1"], ["run", "mavil", "--sed=1"], ["speed", "train", "mavil", "--steps", "3", "tiny"]):
        with pytest.raises(SystemExit):
            parse(wrong)
        assert f"unrecognized arguments: {wrong[-1]}" in capsys.readouterr().err


def test_without_what_it_needs_it_says_what_to_do():
    bare = subprocess.run([sys.executable, "-S", "-m", "bench", "list"], cwd=REPOSITORY, capture_output=True, text=True)
    assert bare.returncode == 2 and bare.stdout == ""
    assert re.fullmatch(r"bench: No module named '\w+'; `make setup` installs it, .+\n", bare.stderr)


def test_list_names_methods_datasets_and_boards(capsys):
    assert main(["list"]) == 0
    out = capsys.readouterr().out
    for word in ("mavil", "MAViL: Masked Audio-Video Learners", "audioset-20k", "vggsound-a2v", "R@1"):
        assert word in out
    datasets = re.split(r"^(?:methods|datasets|boards) *$", out, flags=re.M)[2]
    for name in registry.datasets():
        assert re.search(rf"^\W+{name} .*{re.escape(registry.dataset(name).holds[:40])}", datasets, re.M)
    assert "CC BY-NC 3.0" in datasets


HEAVY = ("torch", "lightning", "pandas", "pyarrow", "numpy", "scipy", "omegaconf", "pydantic")


@pytest.mark.parametrize("command", ["--help", "list"])
def test_what_only_looks_up_names_imports_nothing_heavy(command):
    """They answer in less than a second."""
    code = (
        f"import sys\nfrom bench.cli import main\ntry: main([{command!r}])\nexcept SystemExit: pass\n"
        f"print('imported:', *sorted(set({HEAVY}) & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout.endswith("imported:\n") and len(done.stdout) > 500


def test_data_without_the_dataset_says_which_files_it_looked_for(capsys, tmp_path):
    (tmp_path / "AudioSet").mkdir()
    message = failed(capsys, *SCRATCH, f"data_root={tmp_path}", f"runs={tmp_path}")
    for part in ("VGGSound is not under", str(tmp_path), "stat.csv", "data.root="):
        assert part in message


def test_a_dataset_folder_without_its_official_files(capsys, tmp_path):
    (tmp_path / "VGGSound").mkdir()
    message = failed(capsys, *SCRATCH, f"data_root={tmp_path}", f"runs={tmp_path}")
    assert "found none of stat.csv" in message


def test_a_board_is_not_measured_on_too_few_of_its_clips(capsys, vggsound, tmp_path):
    films = sorted((vggsound / "vggsound" / "video").iterdir())
    for film in films[: len(films) // 2]:
        film.unlink()
    message = failed(capsys, *SCRATCH, f"data_root={vggsound}", f"runs={tmp_path / 'runs'}")
    assert "official clips of vggsound can be used" in message
    assert "missing" in message and "data.min_coverage=0.85" in message


def test_an_empty_split(capsys, vggsound, tmp_path):
    (vggsound / "vggsound" / "vggsound.csv").write_text("")
    message = failed(capsys, *SCRATCH, f"data_root={vggsound}", f"runs={tmp_path / 'runs'}")
    assert "VGGSound train" in message and "the split lists no clips" in message


def test_a_split_smaller_than_a_batch(capsys, sample_root, tmp_path):
    batch = "stages.finetune_vggsound_a.batch_size=64"
    message = failed(capsys, *SCRATCH, batch, f"sample_root={sample_root}", f"runs={tmp_path}")
    assert "has 60 usable clips, fewer than one batch of 64; set stages.finetune_vggsound_a.batch_size" in message


def test_more_devices_than_there_are(capsys, sample_root, tmp_path):
    message = failed(capsys, *SCRATCH, "trainer.devices=8", f"sample_root={sample_root}", f"runs={tmp_path}")
    assert "trainer.devices=8, but this machine has" in message and "trainer.accelerator=cpu" in message


def test_a_batch_that_does_not_divide_over_the_processes(capsys, sample_root, tmp_path):
    options = ("trainer.devices=3", "trainer.accelerator=cpu", f"sample_root={sample_root}", f"runs={tmp_path}")
    assert "does not divide over trainer.devices" in failed(capsys, *SCRATCH, *options)


def test_no_such_stage(capsys):
    assert "no such stage: 'finetune_vgg'. Did you mean 'finetune_vggsound_" in failed(
        capsys, "plan", "mavil", "stage=finetune_vgg"
    )


def test_one_folder_for_two_datasets(capsys, tmp_path):
    message = failed(capsys, "plan", "mavil", "preset=tiny", f"data.root={tmp_path}")
    assert "data.root names one dataset's folder, but the stages use audioset, vggsound" in message


def test_an_init_that_is_not_there(capsys):
    assert "init=nowhere.pt: there is no such file" in failed(capsys, "plan", "mavil", "init=nowhere.pt")


def test_stages_that_start_from_each_other(capsys):
    message = failed(capsys, "plan", "mavil", "stages.pretrain.after=pretrain_2")
    assert "in a circle: pretrain -> pretrain_2 -> pretrain" in message


def test_a_board_of_another_dataset(capsys):
    message = failed(capsys, "plan", "mavil", "stages.finetune_vggsound_a.board=audioset-20k")
    assert "audioset-20k is a board of audioset, not of vggsound" in message


def test_no_such_board_or_dataset(capsys):
    assert "Did you mean 'vggsound'?" in failed(capsys, "table", "vgsound")
    assert "no such dataset: 'vgg'" in failed(capsys, "data", "check", "vgg")


def test_plan_shows_stages_data_size_and_state(capsys, sample_root, tmp_path):
    assert main(["plan", "mavil", f"sample_root={sample_root}", f"runs={tmp_path}"]) == 0
    out = capsys.readouterr().out
    for part in ("pretrain_2", "finetune_vggsound_av", "retrieval_vggsound_a2v", "75 of 80 (93.8%)", "new", " M"):
        assert part in out
    assert not list(tmp_path.glob("mavil/*"))


def test_data_check_counts_what_cannot_be_used(capsys, sample_root, tmp_path):
    assert main(["data", "check", "audioset", f"sample_root={sample_root}", f"runs={tmp_path}"]) == 0
    out = capsys.readouterr().out
    for part in ("unbalanced", "89.6%", "2 missing", "1 truncated", "1 silent", "1 not media"):
        assert part in out
