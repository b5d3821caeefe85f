"""What the harness needs of other libraries' private parts is still there, and used by compat modules alone."""

from __future__ import annotations

import ast
import signal
import subprocess
from dataclasses import dataclass, field

import lightning as L
import pytest
import torch
from lightning.pytorch.strategies.launchers.subprocess_script import _SubprocessScriptLauncher
from omegaconf import MISSING, DictConfig, OmegaConf
from submitit import LocalExecutor

from bench.config import omegaconf_compat
from bench.launch import submitit_compat
from bench.run import compat
from tests.conftest import REPOSITORY

DOCUMENTED = {"_exit", "_fields", "_replace"}
"""Names with an underscore that Python's documentation gives: of os, and of named tuples."""


@dataclass
class Inner:
    value: int = 0


@dataclass
class Outer:
    missing: Inner = MISSING
    nothing: Inner | None = None
    free: dict[str, str] = field(default_factory=dict)


@pytest.fixture
def schema() -> DictConfig:
    return OmegaConf.structured(Outer)


def test_private_parts_of_other_libraries_are_used_by_compat_modules_alone() -> None:
    trees = {
        path: ast.parse(path.read_text(encoding="utf-8"))
        for package in ("bench", "datamodules", "experiments")
        for path in sorted((REPOSITORY / package).rglob("*.py"))
    }
    functions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    nodes = [(path, node) for path, tree in trees.items() for node in ast.walk(tree)]
    ours = {node.name for _, node in nodes if isinstance(node, functions)}
    attributes = [(path, node) for path, node in nodes if isinstance(node, ast.Attribute)]
    ours |= {
        node.attr
        for path, node in attributes
        if isinstance(node.ctx, ast.Store) and isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
    }
    ours |= {node.id for _, node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    private = [
        f"{path.relative_to(REPOSITORY)}:{node.lineno}: {node.attr}"
        for path, node in attributes
        if node.attr.startswith("_") and not node.attr.startswith("__") and node.attr not in ours | DOCUMENTED
    ]
    assert [place for place in private if "compat.py:" in place]  # what they use is seen
    assert [place for place in private if "compat.py:" not in place] == []


def test_lightning_handles_no_signals() -> None:
    trainer = L.Trainer(accelerator="cpu", devices=1, logger=False, barebones=True)
    before = signal.getsignal(signal.SIGTERM)
    assert callable(trainer._signal_connector.register_signal_handlers)
    assert callable(trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor)
    compat.leave_signals_alone(trainer)
    trainer._signal_connector.register_signal_handlers()
    trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor()
    assert signal.getsignal(signal.SIGTERM) is before


def test_lightning_hands_its_ranks_to_our_observer(monkeypatch) -> None:
    watched: list[list[subprocess.Popen]] = []
    monkeypatch.setattr("lightning.pytorch.strategies.launchers.subprocess_script._launch_process_observer", None)
    compat.observe_ranks(watched.append)
    environment = L.fabric.plugins.environments.LightningEnvironment()
    launcher = _SubprocessScriptLauncher(environment, num_processes=1, num_nodes=1)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # or the launcher would choose the number of threads
    monkeypatch.setattr(launcher, "_call_children_scripts", lambda: None)  # it starts none, and sets the environment
    assert launcher.launch(lambda: "trained") == "trained"
    assert watched == [[]]


def test_torch_counts_how_often_a_tensor_was_written() -> None:
    tensor = torch.zeros(2)
    before = compat.times_written(tensor)
    tensor.copy_(torch.zeros(2))
    assert compat.times_written(tensor) > before


def test_torch_takes_the_norms_of_many_tensors() -> None:
    assert [norm.item() for norm in compat.norms([torch.tensor([3.0, 4.0]), torch.ones(1)])] == [5.0, 1.0]


def test_torch_moves_many_tensors_at_once() -> None:
    ends = [torch.zeros(2), torch.ones(1)]
    compat.lerp(ends, [torch.full((2,), 4.0), torch.zeros(1)], 0.25)
    assert [end.tolist() for end in ends] == [[1.0, 1.0], [0.75]]


def test_submitit_gives_access_to_a_jobs_process(tmp_path) -> None:
    executor = LocalExecutor(tmp_path)
    executor.update_parameters(timeout_min=1)
    job = executor.submit(signal.pause)
    submitit_compat.send_signal(job, signal.SIGKILL)
    assert job._process.wait() == -signal.SIGKILL


def test_omegaconf_tells_a_missing_node(schema: DictConfig) -> None:
    assert omegaconf_compat.is_missing(omegaconf_compat.node(schema, "missing"))
    assert not omegaconf_compat.is_missing(schema)


def test_omegaconf_tells_a_node_that_is_none(schema: DictConfig) -> None:
    assert omegaconf_compat.is_none(omegaconf_compat.node(schema, "nothing"))
    assert not omegaconf_compat.is_none(schema)


def test_omegaconf_keeps_the_declared_type_of_a_node_that_is_none(schema: DictConfig) -> None:
    assert omegaconf_compat.declared_type(omegaconf_compat.node(schema, "nothing")) is Inner


def test_omegaconf_tells_the_type_of_a_dicts_entries(schema: DictConfig) -> None:
    assert omegaconf_compat.element_type(schema.free) is str


def test_omegaconf_gives_a_child_as_a_node(schema: DictConfig) -> None:
    assert schema.nothing is None
    assert isinstance(omegaconf_compat.node(schema, "nothing"), DictConfig)
