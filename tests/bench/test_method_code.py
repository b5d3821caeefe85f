"""Which code a stage was begun with; that `bench run` and `plan` say when it has changed stands in test_new.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench import registry
from bench.plan.code import changed_since, code_of, note_code
from tests.installed import forget, install

PACKAGE = "avl_changing"
FILES = {
    "__init__.py": "",
    "layers.py": '"""Layers."""\nWIDTH = 8\n',
    "common/__init__.py": "",
    "common/losses.py": "SCALE = 1.0\n",
    "net/__init__.py": "",
    "net/model.py": "from ..layers import WIDTH\n\n\ndef double(x):\n    return 2 * x\n",
    "net/method.py": f"from {PACKAGE}.common import losses\nfrom {PACKAGE}.net.model import double\n",
    "net/README.md": "# Net\n",
    "net/config.yaml": "version: 1\n",
    "net/test_net.py": "assert True\n",
}
POINTS = f"""
[project]
name = "{PACKAGE}"
version = "1"
[project.entry-points."avl_bench.methods"]
changing_net = "{PACKAGE}.net"
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A method in a package that has more than the method."""
    for name, text in FILES.items():
        (tmp_path / PACKAGE / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / PACKAGE / name).write_text(text)
    install(tmp_path, POINTS)
    monkeypatch.syspath_prepend(tmp_path)
    forget(PACKAGE)
    yield tmp_path / PACKAGE
    forget(PACKAGE)


CHANGES: dict[str, Callable[[str], str]] = {
    "net/method.py": lambda text: text + "EPOCHS = 3\n",
    "net/model.py": lambda text: text.replace("2 * x", "3 * x"),
    "layers.py": lambda text: text.replace("8", "16"),
    "common/losses.py": lambda text: text.replace("1.0", "2.0"),
}


@pytest.mark.parametrize("file", CHANGES)
def test_code_that_the_method_imports_of_its_package_is_named_where_it_changes(package, tmp_path, file):
    note_code(tmp_path / "run", "changing_net")
    (package / file).write_text(CHANGES[file]((package / file).read_text()))
    code_of.cache_clear()
    assert changed_since(tmp_path / "run", "changing_net") == [f"{PACKAGE}/{file}"]


def test_what_is_no_code_of_the_method_does_not_count(package, tmp_path):
    note_code(tmp_path / "run", "changing_net")
    (package / "net/README.md").write_text("# Another\n")
    (package / "net/test_net.py").write_text("assert not False\n")
    (package / "net/unused.py").write_text("not even Python\n")
    (package / "layers.py").write_text('"""Layers, said otherwise."""\n\nWIDTH = (8)  # a comment\n')
    model = FILES["net/model.py"].replace("    return", '    """Twice as much."""\n    return')
    (package / "net/model.py").write_text(model)
    code_of.cache_clear()
    assert changed_since(tmp_path / "run", "changing_net") == []


def test_runs_that_noted_no_code_are_no_alarm(package, tmp_path):
    assert changed_since(tmp_path, "changing_net") == []


def test_every_method_of_the_suite_knows_its_code():
    for method in registry.methods():
        assert f"experiments/{method}/model.py" in code_of(method)
    assert "experiments/common/stage.py" in code_of("mavil") and "experiments/common/optim.py" in code_of("mavil")
