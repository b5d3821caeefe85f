"""Devices, parts of a batch, blocks, moving means, logs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from bench.cli import main
from bench.config.compose import compose
from bench.config.launched import as_launched
from bench.config.parts import parts_of_a_batch
from bench.config.schema import TrainerConfig
from bench.errors import UserError
from bench.plan.devices import SrunEnvironment, cluster_environment
from bench.plan.graph import make_plan
from bench.records import archive
from bench.run.blocks import prepare_blocks
from bench.run.ema import Ema
from datamodules.loading import loader as loaders
from tests.conftest import REPOSITORY
from tests.experiments import mavil_tiny
from tests.sample_data import SampleMaker

COUNTS = {
    "audioset": {"unbalanced_train": 4, "balanced_train": 4, "eval": 4},
    "vggsound": {"train": 16, "test": 9},
}
LAUNCHERS = ("TORCHELASTIC_RUN_ID", "LOCAL_WORLD_SIZE", "WORLD_SIZE", "SLURM_STEP_NUM_TASKS", "SLURM_PROCID")


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory, make_sample: SampleMaker) -> Path:
    root = tmp_path_factory.mktemp("trainer")
    make_sample(root, list(COUNTS), counts=COUNTS)
    return root


def arguments(clips: Path, folder: Path, *overrides: str) -> list[str]:
    """A stage of a network that trains in a second: a part of MAViL, three steps of eight clips."""
    stage = "stages.finetune_vggsound_av"
    network = ["model.dim=32", "model.depth=2", "model.heads=2", "model.fusion_depth=1", "data.loader.workers=0"]
    training = [f"{stage}.{x}" for x in ("epochs=3", "batch_size=16", "options.drop_path=0", "data.augment.mixup=0.5")]
    places = [f"sample_root={clips}", f"runs={folder / 'runs'}", f"leaderboards={folder / 'boards'}"]
    return ["mavil", "variant=scratch", "stage=finetune_vggsound_av", *network, *training, *places, *overrides]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    (path,) = folder.glob("runs/mavil/*/weights.pt")
    return torch.load(path, weights_only=True)


@pytest.fixture(scope="module")
def plain(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plain")
    assert main(["run", *arguments(clips, folder)]) == 0
    return folder


# --- a batch on devices


@given(
    rows=st.integers(1, 256), per_video=st.integers(1, 4), devices=st.integers(1, 8), nodes=st.integers(1, 3),
    device_batch=st.integers(0, 300),
)  # fmt: skip
def test_a_share_goes_through_in_as_few_equal_parts_as_fit(rows, per_video, devices, nodes, device_batch):
    most = max(device_batch, per_video) * (device_batch > 0)
    parts = parts_of_a_batch(rows * per_video * devices * nodes, devices * nodes, most, per_video)
    fits = [n for n in range(1, rows + 1) if rows % n == 0 and rows // n * per_video <= most]
    assert parts == (fits[0] if most else 1)


def test_a_batch_in_parts_trains_to_the_same_weights(clips: Path, plain: Path, tmp_path: Path):
    assert main(["run", *arguments(clips, tmp_path, "trainer.device_batch=5")]) == 0
    whole = weights(plain)
    for name, tensor in weights(tmp_path).items():
        # Adam turns the rounding of a gradient near zero into a step of up to its whole rate.
        torch.testing.assert_close(tensor, whole[name], rtol=1e-3, atol=1e-4)
    (one,), (other,) = (list(folder.glob("runs/mavil/*")) for folder in (plain, tmp_path))
    assert one.name == other.name, "the parts are no part of the result"
    (record,) = archive.read_all(tmp_path / "boards" / "sample" / "results")[0]
    assert 0 <= record.cost.data_wait <= 1


def test_parts_are_part_of_a_result_whose_loss_compares_clips(clips: Path, tmp_path: Path):
    def identity(*overrides: str) -> str:
        places = [f"sample_root={clips}", f"runs={tmp_path}", "preset=tiny", "stage=pretrain", "seed=3"]
        sizes = ["stages.pretrain.dataset=vggsound", "stages.pretrain.train=[train]", "stages.pretrain.batch_size=16"]
        return make_plan(compose("mavil", [*places, *sizes, *overrides])).stages[0].identity

    whole = identity()
    assert identity("trainer.device_batch=16") == whole
    assert identity("trainer.device_batch=8") != whole
    assert identity("trainer.device_batch=8", "trainer.devices=2", "trainer.accelerator=cpu") == whole


# --- launchers


@pytest.fixture
def no_launcher(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in LAUNCHERS:
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def test_devices_and_nodes_are_the_launchers(no_launcher):
    config = TrainerConfig(accelerator="cpu")
    assert as_launched(config) is config
    for name, value in zip(LAUNCHERS[:3], ("x", "4", "8"), strict=True):
        no_launcher.setenv(name, value)
    found = as_launched(config)
    assert (found.devices, found.nodes) == (4, 2) and cluster_environment() is None
    with pytest.raises(UserError, match="trainer.devices=3, but torchrun or srun started 4"):
        as_launched(TrainerConfig(devices=3))


def test_the_ranks_of_an_srun(no_launcher):
    no_launcher.setenv("SLURM_PROCID", "0")
    assert as_launched(TrainerConfig()).devices == 1  # in a batch script
    no_launcher.setenv("SLURM_STEP_NUM_TASKS", "6")
    no_launcher.setenv("SLURM_STEP_NUM_NODES", "3")
    no_launcher.setenv("SLURM_NTASKS", "48")  # of the job, which has other steps, too
    found = as_launched(TrainerConfig())
    assert (found.devices, found.nodes) == (2, 3)
    environment = cluster_environment()
    assert isinstance(environment, SrunEnvironment) and environment.world_size() == 6
    no_launcher.setenv("SLURM_STEP_NUM_TASKS", "7")
    with pytest.raises(UserError, match="7 processes on 3 nodes"):
        as_launched(TrainerConfig())


@pytest.mark.slow
def test_torchrun_starts_the_ranks(clips: Path, plain: Path, tmp_path: Path):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    options = [*arguments(clips, tmp_path), "trainer.accelerator=cpu", "trainer.device_batch=4"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*torchrun, "-m", "bench", "run", *options],
        cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=400,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("leaderboards") <= 1 and done.stdout.count("vggsound.md") == 1  # one of them prints
    whole = weights(plain)
    for name, tensor in weights(tmp_path).items():
        torch.testing.assert_close(tensor, whole[name], rtol=1e-3, atol=1e-4)
    (record,) = archive.read_all(tmp_path / "boards" / "sample" / "results")[0]
    assert record.config["trainer"]["devices"] == 2 and record.n == 9


# --- the moving mean of the weights


def follow(values: list[float], decay: float) -> float:
    """m <- d m + (1 - d) w, from the first weights on."""
    mean = values[0]
    for value in values[1:]:
        mean = decay * mean + (1 - decay) * value
    return mean


def test_the_moving_mean_takes_the_place_of_the_weights_also_after_a_restart():
    values, module = [1.0, 4.0, 2.0, 8.0], nn.BatchNorm1d(2)
    ema, trainer = Ema(0.75), SimpleNamespace(global_step=0)

    def put(value: float) -> None:
        with torch.no_grad():
            module.weight.fill_(value)
        module.running_mean.fill_(value)
        module.num_batches_tracked.fill_(int(value))

    put(values[0])
    ema.on_train_start(trainer, module)
    for step, value in enumerate(values[1:], 1):
        put(value)
        if step == 2:  # cut off here, and gone on with
            state, ema = ema.state_dict(), Ema(0.75)
            ema.load_state_dict(state)
            trainer.global_step = 1
            ema.on_train_start(trainer, module)
        ema.on_train_batch_end(trainer)  # of a part of the batch: the step's number stays
        trainer.global_step = step
        ema.on_train_batch_end(trainer)
    ema.on_train_end(trainer, module)
    for tensor in (module.weight, module.running_mean):
        torch.testing.assert_close(tensor, torch.full((2,), follow(values, 0.75)))
    assert module.num_batches_tracked == 8 and module.weight.requires_grad


def test_a_stage_can_have_the_moving_mean_as_its_result(clips: Path, plain: Path, tmp_path: Path):
    assert main(["run", *arguments(clips, tmp_path, "stages.finetune_vggsound_av.ema=0.5")]) == 0
    last, mean = weights(plain), weights(tmp_path)
    assert last.keys() == mean.keys() and any(not torch.equal(last[name], mean[name]) for name in last)
    (one,), (other,) = (list(folder.glob("runs/mavil/*")) for folder in (plain, tmp_path))
    assert one.name != other.name


# --- blocks


def step(config: TrainerConfig) -> tuple[torch.Tensor, dict[str, torch.Tensor], int]:
    """(loss, gradients, calls of a block's first layer) of one training step of a fine-tuning with stochastic depth."""
    torch.manual_seed(0)
    module = mavil_tiny.finetune("av", drop_path=0.3).train()
    module.log_dict = lambda *_, **__: None
    calls = []
    for block in module.blocks():
        block.norm1.register_forward_hook(lambda *_: calls.append(1))
    prepare_blocks(module, config, "x")
    torch.manual_seed(1)
    loss = module.training_step(mavil_tiny.random_batch(), 0)
    loss.backward()
    return loss, {name: p.grad for name, p in module.named_parameters() if p.grad is not None}, len(calls)


def test_activations_are_computed_again_to_the_same_gradients():
    (loss, gradients, calls), (again, recomputed, more) = (
        step(TrainerConfig()),
        step(TrainerConfig(checkpoint_activations=True)),
    )
    assert torch.equal(loss, again) and gradients.keys() == recomputed.keys()
    assert all(torch.equal(gradients[name], recomputed[name]) for name in gradients)
    assert more == 2 * calls > 0


@pytest.mark.slow
def test_compiled_blocks_give_the_same_loss(monkeypatch: pytest.MonkeyPatch):
    compiled = []
    monkeypatch.setattr(nn.Module, "compile", lambda self: compiled.append(self))
    loss, _, _ = step(TrainerConfig(compile=True))
    assert len(compiled) > 1 and torch.equal(loss, step(TrainerConfig())[0])


def test_a_network_without_blocks_says_so():
    module = SimpleNamespace(blocks=lambda: [], channels_last=False)
    with pytest.raises(UserError, match="stage x has no transformer blocks; leave trainer.compile out"):
        prepare_blocks(module, TrainerConfig(compile=True), "x")


# --- logs, and waiting


@pytest.mark.slow
def test_weights_and_biases_gets_the_curves(clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    done = subprocess.run(
        [sys.executable, "-m", "bench", "run", *arguments(clips, tmp_path, "trainer.wandb=avl")],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=400,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (run,) = tmp_path.glob("runs/mavil/*")
    assert list(run.glob("wandb/offline-run-*/*.wandb")) and list(run.glob("tensorboard/events*"))
    assert (run / "metrics.csv").read_text().startswith("step,")


def test_weights_and_biases_that_is_not_installed(clips: Path, tmp_path: Path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert main(["run", *arguments(clips, tmp_path, "trainer.wandb=avl")]) == 2
    assert "pip install 'avl-bench[wandb]'" in capsys.readouterr().err


def test_the_time_in_which_batches_were_waited_for_is_counted(monkeypatch: pytest.MonkeyPatch):
    now = [0.0]
    monkeypatch.setattr(loaders.time, "monotonic", lambda: now[0])

    class Slow(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return 3

        def __getitem__(self, index: int) -> int:
            now[0] += 5
            return index

    loader = loaders.Loader(Slow(), batch_size=None)
    for _ in loader:
        now[0] += 100
    assert loader.waited == 15
