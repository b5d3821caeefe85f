"""The tables of datasets, boards and methods in README.md and docs/, made from what the registry finds; and what
`reference` makes.

A page marks where a table stands: between `<!-- bench docs: NAME -->` and `<!-- end -->`.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from bench import registry
from bench.commands import reference
from bench.errors import UserError, unknown

REPOSITORY = Path(__file__).parents[2]
BLOCK = re.compile(r"(?P<start><!-- bench docs: (?P<name>\w+) -->\n).*?(?P<end><!-- end -->)", re.S)


def write(root: Path | None = None) -> list[Path]:
    """Makes the pages of a checkout anew; returns those that have changed.

    Raises:
        UserError: it is no checkout, or a page marks a table that does not exist.
    """
    changed = stale(root)
    for path, text in changed.items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return list(changed)


def stale(root: Path | None = None) -> dict[Path, str]:
    """The pages that are out of date -> their current text.

    Args:
        root: of the checkout; default: that of this file.
    """
    made = pages(root or REPOSITORY)
    return {path: text for path, text in made.items() if not path.is_file() or path.read_text("utf-8") != text}


def pages(root: Path) -> dict[Path, str]:
    """All pages that are made, if only in part -> their text as it must be now."""
    readme = root / "README.md"
    if not readme.is_file():
        raise UserError(f"{root} is no checkout of the suite: it has no README.md")
    marked = {path: filled(path.read_text("utf-8")) for path in (readme, *sorted((root / "docs").glob("*.md")))}
    return marked | {root / path: text for path, text in reference.pages().items()}


def filled(text: str) -> str:
    """A page with its marked tables as they are now."""

    def fill(block: re.Match[str]) -> str:
        if block["name"] not in TABLES:
            raise unknown("table of `bench docs`", block["name"], TABLES)
        return f"{block['start']}{TABLES[block['name']]()}{block['end']}"

    return BLOCK.sub(fill, text)


def _datasets() -> str:
    rows = []
    for name in _own_datasets():
        source = registry.dataset(name)
        title = f"[{source.title}]({source.url})" if source.url else source.title
        boards = ", ".join(f"`{board.name}`" for board in source.boards)
        rows.append((f"`{name}`", title, source.holds, boards or "none: it is trained on"))
    return _table(("dataset", "official", "what it holds", "boards"), rows)


def _facts() -> str:
    rows = []
    for name in _own_datasets():
        source = registry.dataset(name)
        sizes = (
            f"`{split}`" + (f" {source.sizes[split]:,}" if split in source.sizes else "") for split in source.splits
        )
        rows.append((f"`{name}`", ", ".join(sizes), source.licence or registry.NO_LICENCE, source.citation))
    return _table(("dataset", "splits, and their clips as far as known", "licence", "paper"), rows)


def _files() -> str:
    """What the datasets' files say at their top, but for its first line."""
    modules: dict[str, list[str]] = {}
    for name in _own_datasets():
        modules.setdefault(registry.datasets()[name].partition(":")[0], []).append(name)
    sections = []
    for module, names in modules.items():
        _, _, text = (importlib.import_module(module).__doc__ or "").partition("\n\n")
        titles = ", ".join(f"{registry.dataset(name).title}: `{name}`" for name in names)
        sections.append(f"### {titles}\n\n{text.strip()}\n")
    return "\n".join(sections)


def _boards() -> str:
    rows = []
    for name in _own_datasets():
        for board in registry.dataset(name).boards:
            task = board.protocol()["task"]
            rows.append((f"`{board.name}`", f"`{name}`", board.split, board.train, task, board.main))
    return _table(("board", "dataset", "scored split", "trained on", "task", "main metric"), rows)


def _methods() -> str:
    rows = []
    for name, package in registry.methods().items():
        if package.startswith("experiments."):
            readme = f"experiments/{name}/README.md"
            boards = ", ".join(f"`{board}`" for board in boards_of(name))
            rows.append((f"[`{name}`]({readme})", _paper(registry.method_folder(name) / "README.md"), boards))
    return _table(("method", "paper", "boards"), rows)


def boards_of(method: str) -> list[str]:
    """The boards to which a method's stages report, of both presets, in the order of the table of boards."""
    from bench.config.compose import compose  # imports torch, which the other tables need not wait for

    stages = [stage for preset in ("paper", "tiny") for stage in compose(method, [f"preset={preset}"]).stages.values()]
    reported = {stage.board for stage in stages}
    return [board for board in registry.boards() if board in reported]


def _paper(readme: Path) -> str:
    """The heading of a method's README, and the arXiv number that stands below it."""
    heading, _, rest = readme.read_text(encoding="utf-8").partition("\n\n")
    arxiv = re.search(r"arXiv (\d{4}\.\d{4,5})", rest.partition("\n\n")[0])
    return heading.lstrip("# ") + (f" (arXiv {arxiv[1]})" if arxiv else "")


def _own_datasets() -> list[str]:
    """Those of the suite; what else is installed is no part of its pages."""
    return [name for name, place in registry.datasets().items() if place.startswith("datamodules.")]


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


TABLES: Mapping[str, Callable[[], str]] = {
    "datasets": _datasets,
    "facts": _facts,
    "files": _files,
    "boards": _boards,
    "methods": _methods,
}
"""What a page can mark -> its text, lines with their ends."""
