"""The pages of `docs/reference/`, made from the docstrings of what they describe; nothing of it is imported."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from datamodules.found import classes_of

REPOSITORY = Path(__file__).parents[2]
FOLDER = Path("docs/reference")
STREAMS = REPOSITORY / "datamodules" / "streams"
SECTIONS = {"Args": "Arguments", "Attributes": "Attributes", "Returns": "Returns", "Raises": "Raises"}
"""Headings of Google's docstrings -> what stands on the page."""


@dataclass(frozen=True)
class Page:
    """One page of the reference."""

    name: str
    title: str
    about: str
    """A paragraph in Markdown."""
    parts: tuple[tuple[str, tuple[str, ...]], ...]
    """(File, classes and functions of it, in this order; none = all that are public)."""


def _files_of_kinds() -> Iterator[Path]:
    for place in classes_of(STREAMS, "", "Stream", "kind").values():
        yield STREAMS / f"{place.partition(':')[0].lstrip('.')}.py"


PAGES = (
    Page(
        "settings",
        "Settings of a run",
        "What `key=value` on the command line and a method's `config.yaml` can say. `data` stands in "
        "[inputs](inputs.md), `optim` in [optim](optim.md); `model` and `options` are the method's own.",
        (
            (
                "bench/config/schema.py",
                ("BenchConfig", "TrainerConfig", "StageConfig", "MixtureConfig", "PartConfig", "ValidationConfig"),
            ),
        ),
    ),
    Page(
        "optim",
        "Optimisers and schedules",
        "`stages.<stage>.optim` in `config.yaml`. The learning rate is a function of the step alone.",
        (("experiments/common/optim.py", ()),),
    ),
    Page(
        "augment",
        "Augmentation",
        "`data.augment`, or `stages.<stage>.data.augment` for one stage. It runs on the device, on training batches, "
        "and its randomness depends on (seed, epoch, clip) alone.",
        (("datamodules/augmentation.py", ("AugmentConfig",)),),
    ),
    Page(
        "inputs",
        "Inputs and batches",
        "`data` in `config.yaml`: what is read of a clip and how; and what a step gets of it. A modality set to `null` "
        "is not read.",
        (
            (
                "datamodules/types.py",
                (
                    *("Inputs", "AudioInputs", "VideoInputs", "TextInputs", "FeatureInputs"),
                    *("WindowConfig", "RowsConfig", "DataConfig"),
                    *("LoaderConfig", "NarrationConfig", "Batch", "Partner"),
                ),
            ),
        ),
    ),
    Page(
        "streams",
        "Kinds of streams",
        "What `data.inputs.streams.<name>.kind` can be, with the settings of each kind; and what a kind is made of. "
        "How one is added stands in [adding a stream](../adding_a_stream.md).",
        (
            *((str(path.relative_to(REPOSITORY)), ()) for path in sorted(_files_of_kinds())),
            ("datamodules/streams/kind.py", ("Stream", "Transform")),
            ("datamodules/streams/reading.py", ("ClipReader", "Moment", "Row")),
        ),
    ),
    Page(
        "stage",
        "Hooks of a stage",
        "What the harness gives a stage, what it calls, and what it reads of a stage's outputs.",
        (
            ("experiments/common/stage.py", ("Stage", "StageSpec")),
            ("datamodules/parts.py", ("PartSpec",)),
            ("datamodules/types.py", ("Outputs",)),
            ("experiments/common/weights.py", ()),
        ),
    ),
    Page(
        "boards",
        "Boards",
        "A dataset declares its boards; what a dataset's boards are is shown by `python -m bench list`.",
        (
            (
                "datamodules/boards.py",
                ("Board", "BoardTask", "Tagging", "Classification", "Retrieval", "Localisation", "retrieval_boards"),
            ),
        ),
    ),
    Page(
        "metrics",
        "Metrics",
        "What each task measures, and the arithmetic. Suffixes of names are axes: N clips, Q queries, C classes, B "
        "resamples of a bootstrap.",
        (
            ("bench/tasks/base.py", ("MetricInfo", "Metric", "Statistic", "Task")),
            ("bench/tasks/tagging.py", ()),
            ("bench/tasks/classification.py", ()),
            ("bench/tasks/retrieval.py", ()),
            ("bench/tasks/localisation.py", ()),
            ("bench/tasks/metrics.py", ()),
            ("bench/tasks/ranks.py", ()),
            ("bench/tasks/ties.py", ()),
            ("bench/tasks/alignment.py", ()),
        ),
    ),
)


def pages() -> dict[Path, str]:
    """The pages of the reference as they are now: path below the repository -> text."""
    texts = {FOLDER / f"{page.name}.md": "\n".join(_lines(page)).rstrip() + "\n" for page in PAGES}
    return {path: re.sub(r"\n{3,}", "\n\n", text) for path, text in texts.items()}


def _lines(page: Page) -> Iterator[str]:
    yield from (f"# {page.title}", "", "<!-- Made from docstrings by `python -m bench docs`: change those. -->", "")
    yield from (page.about, "")
    for file, names in page.parts:
        module = ast.parse((REPOSITORY / file).read_text(encoding="utf-8"))
        if not names:
            yield from (f"## `{file}`", "", *_described(module), "")
        nodes = {node.name: node for node in module.body if isinstance(node, ast.ClassDef | ast.FunctionDef)}
        for name in names or [name for name in nodes if not name.startswith("_")]:
            yield from _definition(nodes[name], "##" if names else "###")


def _definition(node: ast.ClassDef | ast.FunctionDef, heading: str) -> Iterator[str]:
    """A class with its attributes and methods, or a function."""
    if isinstance(node, ast.FunctionDef):
        yield from (f"{heading} `{_signature(node)}`", "", *_described(node), "")
        return
    yield from (f"{heading} `{node.name}`", "", *_described(node), "")
    rows = list(_attributes(node))
    if rows:
        yield from _table(("name", "type", "default", "what it says"), rows)
    for method in node.body:
        if isinstance(method, ast.FunctionDef) and not method.name.startswith("_") and ast.get_docstring(method):
            yield from _definition(method, f"{heading}#")


def _attributes(node: ast.ClassDef) -> Iterator[tuple[str, str, str, str]]:
    """(Name, type, default, meaning) of a class's fields; the string that follows a field is its meaning."""
    following = [*node.body[1:], None]
    for field, after in zip(node.body, following, strict=True):
        if not isinstance(field, ast.AnnAssign) or not isinstance(field.target, ast.Name):
            continue
        constant = after.value if isinstance(after, ast.Expr) else None
        text = constant.value if isinstance(constant, ast.Constant) and isinstance(constant.value, str) else ""
        default = f"`{_default(field.value)}`" if field.value is not None else ""
        yield f"`{field.target.id}`", f"`{ast.unparse(field.annotation)}`", default, " ".join(text.split())


def _default(value: ast.expr) -> str:
    """As one would write it: what `field(default_factory=...)` makes."""
    made = {word.arg: word.value for word in value.keywords} if isinstance(value, ast.Call) else {}
    if "default_factory" not in made:
        return ast.unparse(value)
    factory = made["default_factory"]
    if isinstance(factory, ast.Lambda):
        return ast.unparse(factory.body)
    return {"list": "[]", "dict": "{}"}.get(ast.unparse(factory), f"{ast.unparse(factory)}()")


def _signature(node: ast.FunctionDef) -> str:
    """`name(arguments)`, without types, which the docstring says in words; a property is a name."""
    if any(isinstance(each, ast.Name) and each.id.endswith("property") for each in node.decorator_list):
        return node.name
    arguments = node.args
    names = [
        argument.arg for argument in (*arguments.posonlyargs, *arguments.args) if argument.arg not in ("self", "cls")
    ]
    names += [f"*{arguments.vararg.arg}"] if arguments.vararg else []
    names += [argument.arg for argument in arguments.kwonlyargs]
    return f"{node.name}({', '.join(names)})"


def _described(node: ast.Module | ast.ClassDef | ast.FunctionDef) -> Iterator[str]:
    """A docstring as Markdown."""
    text = inspect.cleandoc(ast.get_docstring(node, clean=False) or "")
    for paragraph in re.split(r"\n{2,}", text):
        head, _, body = paragraph.partition("\n")
        if head.rstrip(":") in SECTIONS and head.endswith(":"):
            yield from (f"**{SECTIONS[head.rstrip(':')]}**", "", *_entries(textwrap.dedent(body)))
        else:
            yield paragraph
        yield ""


def _entries(text: str) -> Iterator[str]:
    """The entries of a section, each with the lines that continue it, as a list."""
    entry = ""
    for line in text.splitlines():
        if line.startswith(" ") or not entry:
            entry = f"{entry} {line.strip()}".strip()
        else:
            yield f"- {entry}"
            entry = line.strip()
    yield f"- {entry}"


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    columns = list(head)
    for row in (columns, ["---"] * len(columns), *rows):
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"
    yield ""
