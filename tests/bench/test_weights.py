"""Other people's files of weights: what of them is read, and what is said of what is not."""

from __future__ import annotations

import argparse
import os
import pathlib
import pickle
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path, PosixPath
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from bench.commands.convert import convert
from datamodules.weight_files import read_checkpoint
from tests.experiments import golden
from tests.tensor_bundle import write as write_bundle

WEIGHTS = OrderedDict({"layer.weight": torch.arange(4.0).view(2, 2), "layer.bias": torch.ones(2)})


def same(read: dict[str, Tensor], written: dict[str, Tensor] = WEIGHTS) -> bool:
    return read.keys() == written.keys() and all(torch.equal(value, written[key]) for key, value in read.items())


def adam() -> dict[str, Any]:
    """An optimiser's state after a step, as training codes save it."""
    parameter = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.AdamW([{"params": [parameter], "lr_scale": 0.75}], lr=np.float64(1e-3))
    parameter.sum().backward()
    optimizer.step()
    return optimizer.state_dict()


def mae(weights: dict[str, Tensor], file: Path) -> None:
    """facebookresearch/AudioMAE, mae, mae_st and av-superb: `util/misc.py`, `save_model`, as submitit runs it."""
    args = argparse.Namespace(
        lr=1e-3, betas=(0.9, 0.95), output_dir=Path("/checkpoint/1"), log_dir=Path("/checkpoint/1")
    )
    scaler = {
        "scale": 65536.0,
        "growth_factor": 2.0,
        "backoff_factor": 0.5,
        "growth_interval": 2000,
        "_growth_tracker": 7,
    }
    torch.save({"model": weights, "optimizer": adam(), "epoch": 19, "scaler": scaler, "args": args}, file)


def state_dict_alone(weights: dict[str, Tensor], file: Path) -> None:
    """YuanGongND/ast, psla and uavm `traintest.py`; AVLnet's and MCN's `save_checkpoint`; objects-that-sound
    `train.py`; the encoders that XDC, CrissCross and XKD release."""
    torch.save(OrderedDict(weights), file)


def apex(weights: dict[str, Tensor], file: Path) -> None:
    """roudimit/AVLnet `train.py` and MCN's, with `--apex_level 1`: `amp_checkpoint.pt`."""
    amp = OrderedDict(loss_scaler0={"loss_scale": 65536.0, "unskipped": 3})
    torch.save({"net": weights, "optimizer": adam(), "amp": amp}, file)


def everything_at_once(weights: dict[str, Tensor], file: Path) -> None:
    """ninatu/everything_at_once `base/base_trainer.py`, `_save_checkpoint`."""
    config = {"name": "tva", "arch": {"args": {"depth": 1}}, "trainer": {"epochs": 15}}
    state = {"arch": "EverythingAtOnceModel", "epoch": 14, "step": 9, "state_dict": weights, "optimizer": adam()}
    torch.save({**state, "monitor_best": np.float64(12.5), "config": config}, file)


def flax(weights: dict[str, Tensor], file: Path) -> None:
    """MBT's Flax files cannot be read here; this is what `mbt.checkpoints.from_scenic` says to make of one."""
    torch.save(weights, file)


def lightning(weights: dict[str, Tensor], file: Path) -> None:
    """sumanthgenz/lava `src/train.py`, by pytorch_lightning 1.3, which names callbacks by their classes."""
    callback = type("ModelCheckpoint", (), {"__module__": "pytorch_lightning.callbacks.model_checkpoint"})
    module = ModuleType(callback.__module__)
    module.ModelCheckpoint = callback  # type: ignore[attr-defined]
    with pytest.MonkeyPatch.context() as patched:
        for name in ("pytorch_lightning", "pytorch_lightning.callbacks", callback.__module__):
            patched.setitem(sys.modules, name, module)
        best = {"best_model_score": torch.tensor(0.5), "best_model_path": "epoch=14.ckpt", "dirpath": "checkpoints"}
        state = {
            "epoch": 14,
            "global_step": 9,
            "pytorch-lightning_version": "1.3.8",
            "state_dict": OrderedDict(weights),
        }
        torch.save({**state, "callbacks": {callback: best}, "optimizer_states": [adam()], "lr_schedulers": []}, file)


def resumable(weights: dict[str, Tensor], file: Path) -> None:
    """pritamqu/CrissCross `train/tools/utils.py` and XKD `codes/eval/checkpointing/utils.py`."""
    amp = {"scale": 65536.0, "growth_factor": 2.0, "backoff_factor": 0.5, "growth_interval": 2000, "_growth_tracker": 7}
    state = {"model": weights, "optimizer": adam(), "epoch": 9, "amp": amp, "rng": torch.random.get_rng_state()}
    torch.save(state, file)


def haiku(weights: dict[str, Tensor], file: Path) -> None:
    """deepmind-research `mmv`: parameters and state, by modules; as `bench weights convert` writes it again."""
    content: dict[str, dict[str, dict[str, np.ndarray]]] = {"params": {}, "state": {}}
    for name, value in weights.items():
        module, _, leaf = name.rpartition("/")
        content["state" if "_ema" in module else "params"].setdefault(module, {})[leaf] = value.numpy()
    file.with_suffix(".pkl").write_bytes(pickle.dumps(content))
    convert(file.with_suffix(".pkl"), to=str(file))


def tensorflow(weights: dict[str, Tensor], file: Path) -> None:
    """google-research `vatt`: a checkpoint, as `bench weights convert` writes it again."""
    write_bundle(file.with_suffix(".index"), {name: value.numpy() for name, value in weights.items()})
    convert(file.with_suffix(".index"), to=str(file))


SAVED: dict[str, tuple[Callable[[dict[str, Tensor], Path], None], ...]] = {
    "mavil": (mae,),
    "mbt": (flax,),
    "cmkd": (state_dict_alone,),
    "uavm": (state_dict_alone,),
    "avlnet": (state_dict_alone, apex),
    "mcn": (state_dict_alone, apex),
    "everything_at_once": (everything_at_once,),
    "lava": (lightning,),
    "avenet": (state_dict_alone,),
    "crisscross": (resumable, state_dict_alone),
    "xdc": (state_dict_alone,),
    "xkd": (resumable, state_dict_alone),
    "mmv": (haiku,),
    "polyvit": (flax,),
    "vatt": (tensorflow,),
}
"""Method -> how its authors' code saves."""


@pytest.mark.parametrize(
    ("method", "save"), [pytest.param(m, save, id=f"{m}-{save.__name__}") for m in SAVED for save in SAVED[m]]
)
def test_a_file_as_the_authors_code_saves_it_fills_the_network(method, save, tmp_path):
    file = golden.methods()[method].RELEASED[0]
    net, weights = file.made(), file.weights()
    save(weights, tmp_path / "file.pth")
    read = read_checkpoint(str(tmp_path / "file.pth"))
    assert same(read, weights)
    other = deepcopy(net)
    with torch.no_grad():
        for value in other.state_dict().values():
            value.zero_()
    file.load(other, read)
    expected = net.state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in other.state_dict().items())


def test_every_method_that_has_authors_files_is_tested_with_them():
    assert set(SAVED) == golden.methods().keys()


@pytest.mark.parametrize("zipped", [True, False])
def test_files_of_older_versions_of_torch_numpy_and_python_are_read(tmp_path, zipped, monkeypatch):
    """torch before 1.6, NumPy before 2 and Python from 3.13 on write other names."""
    content = {"model": WEIGHTS, "args": argparse.Namespace(output_dir=Path("/x")), "best": np.float32(0.5)}
    monkeypatch.setattr(PosixPath, "__module__", "pathlib._local")
    monkeypatch.setitem(sys.modules, "pathlib._local", pathlib)
    torch.save(content, tmp_path / "file.pth", _use_new_zipfile_serialization=zipped)
    monkeypatch.undo()
    assert same(read_checkpoint(str(tmp_path / "file.pth")))


class Config:
    """Somebody's own class."""


def test_a_blocked_class_is_named_with_the_cure_and_in_plain_text(tmp_path):
    torch.save({"model": WEIGHTS, "config": Config()}, tmp_path / "file.pth")
    with pytest.raises(ValueError) as error:
        read_checkpoint(str(tmp_path / "file.pth"))
    message = str(error.value)
    assert "it holds tests.bench.test_weights.Config" in message
    assert "\x1b" not in message and "\n" not in message

    command = message[message.index('python -c "') + len('python -c "') :].partition('"')[0]
    subprocess.run([sys.executable, "-c", command], cwd=tmp_path, env=with_this_module_on_the_path(), check=True)
    assert same(read_checkpoint(str(tmp_path / "weights.pt")))


def with_this_module_on_the_path() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}


@pytest.mark.parametrize("made", [os.system, subprocess.Popen, exec, torch.nn.Linear])
def test_nothing_of_a_file_s_choice_is_run(tmp_path, made):
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return made, (f"touch {tmp_path / 'run'}",)

    torch.save({"model": WEIGHTS, "args": Trap()}, tmp_path / "file.pth")
    with pytest.raises(ValueError, match="it holds .*, whose code could do anything"):
        read_checkpoint(str(tmp_path / "file.pth"))
    assert not (tmp_path / "run").exists()


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"<html>404</html>", "no file of weights that torch can read"),
        (b"", "no file of weights that torch can read"),
        (pickle.dumps({"weights": 3}, protocol=4), "no file of weights that torch can read"),
    ],
)
def test_what_is_no_file_of_weights_is_refused_in_plain_text(tmp_path, content, said):
    (tmp_path / "file.pth").write_bytes(content)
    with pytest.raises(ValueError, match=said) as error:
        read_checkpoint(str(tmp_path / "file.pth"))
    assert "\x1b" not in str(error.value) and "\n" not in str(error.value)


def test_a_cut_file_is_refused(tmp_path):
    mae(WEIGHTS, tmp_path / "file.pth")
    whole = (tmp_path / "file.pth").read_bytes()
    (tmp_path / "file.pth").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="no file of weights that torch can read: .*corrupted"):
        read_checkpoint(str(tmp_path / "file.pth"))


def test_a_file_without_a_state_dict_says_what_it_holds(tmp_path):
    torch.save({"epoch": 3, "module": WEIGHTS}, tmp_path / "file.pth")
    with pytest.raises(
        ValueError, match="epoch, module are no tensors. Weights are looked for under model, state_dict"
    ):
        read_checkpoint(str(tmp_path / "file.pth"))
