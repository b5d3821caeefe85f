"""What the commands print."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Column, Table

from bench import registry

if TYPE_CHECKING:  # they import torch or pandas, which take longer than `bench list` may
    from bench.plan.graph import Plan, PlannedStage
    from datamodules.manifest.build import Manifest

# A table needs its width also where the output is a file; a terminal keeps its own.
console = Console(highlight=False, width=None if Console().is_terminal else 160)


def print_boards(leaderboards: str, is_sample: bool, wanted: Sequence[str]) -> None:
    """The boards by these names, or all that have records."""
    from bench.tables.boards import board_folder, rebuild
    from bench.tables.formats import to_rich

    for table in rebuild(Path(leaderboards), is_sample):
        if not wanted or table.board.name in wanted:
            console.print(to_rich(table))
            console.print(f"{board_folder(Path(leaderboards), is_sample)}/{table.board.name}.md and .csv\n")


def print_measured(plans: Iterable[Plan]) -> None:
    """The boards of what was measured, each once: real ones, and those of the sample data."""
    boards: dict[tuple[str, bool], dict[str, None]] = {}
    for plan in plans:
        for stage in plan.stages:
            if stage.board is not None:
                boards.setdefault((plan.config.leaderboards, stage.is_sample), {})[stage.board.name] = None
    for (leaderboards, is_sample), names in boards.items():
        print_boards(leaderboards, is_sample, list(names))


def print_all_boards(leaderboards: str, wanted: Sequence[str]) -> None:
    """Real boards, then those of the sample data; `wanted` names some (`sample/...` for the latter)."""
    for name in wanted:
        _check_known(name, Path(leaderboards))
    real = [name for name in wanted if not name.startswith("sample/")]
    made_up = [name.removeprefix("sample/") for name in wanted if name.startswith("sample/")]
    if real or not wanted:
        print_boards(leaderboards, False, real)
    if made_up or not wanted:
        print_boards(leaderboards, True, made_up)


def _check_known(name: str, leaderboards: Path) -> None:
    """Refuses a board that neither a dataset nor, as its package is not installed here, a record defines."""
    from bench.records.archive import Brief, read_all
    from bench.tables.boards import find_board, records_folder

    plain = name.removeprefix("sample/")
    if plain not in registry.boards():  # reading many records takes long
        find_board(plain, read_all(records_folder(leaderboards, plain != name), Brief())[0])


def print_check(leaderboards: str) -> int:
    """1 if a record is none, or a table is not made from the records."""
    from bench.tables.boards import check

    wrong = [line for sample in (False, True) for line in check(Path(leaderboards), sample)]
    for line in wrong:
        console.print(line, markup=False, soft_wrap=True)
    console.print(f"{leaderboards}: {f'{len(wrong)} wrong' if wrong else 'records and tables are as they should be'}")
    return 1 if wrong else 0


def exchange(leaderboards: str, url: str) -> None:
    """Copies records from a store and to it, each way those that are not yet there."""
    from bench.records.archive import Record, RecordError
    from bench.records.stores import Store, pull, push
    from bench.tables.boards import records_folder

    for sample in (False, True):
        store, folder = Store(url, sample), records_folder(Path(leaderboards), sample)
        for copies, way in ((pull(store, folder), "from"), (push(folder, store), "to")):
            copied = list(copies)
            for error in (item for item in copied if isinstance(item, RecordError)):
                console.print(f"not a record: {error}", markup=False, soft_wrap=True)
            count = sum(isinstance(item, Record) for item in copied)
            console.print(f"{count} {'sample ' if sample else ''}records copied {way} {url}", markup=False)


def print_list() -> None:
    """Prints the methods, datasets and boards there are."""
    table = Table("method", "idea", title="methods", title_justify="left")
    for name in registry.methods():
        readme = registry.method_folder(name) / "README.md"
        heading = readme.read_text(encoding="utf-8").partition("\n")[0] if readme.is_file() else ""
        table.add_row(name, heading.lstrip("# "))
    console.print(table)
    table = Table("dataset", "what it holds", "boards", "licence", title="datasets", title_justify="left")
    for name in registry.datasets():
        source = registry.dataset(name)
        table.add_row(name, source.holds, str(len(source.boards)), source.licence or registry.NO_LICENCE)
    console.print(table)
    table = Table("board", "dataset", "scored split", "trained on", "task", "main metric", title="boards")
    table.title_justify = "left"
    for board in registry.boards().values():
        table.add_row(board.name, board.dataset, board.split, board.train, board.task.name, board.main)
    console.print(table)


def print_plan(plan: Plan) -> None:
    """The stages, their data with coverage, their size, and what is done."""
    from bench.config.mixtures import trained_on
    from bench.plan.code import changed_since

    config = plan.config
    validates = any(stage.validated for stage in plan.stages)
    labels = any(stage.labels or stage.labelled for stage in plan.stages)
    table = Table(
        Column("stage", no_wrap=True), "after", "trains on", "clips", "epochs", "steps",
        *(("validated on", "clips") if validates else ()),
        *(("pseudo-labels",) if labels else ()),
        "scored on", "clips", "parameters", "GFLOPs", "state",
        title=f"{config.method}, preset {config.preset}, seed {config.seed}", title_justify="left",
    )  # fmt: skip
    for stage in plan.stages:
        begun = stage.state != "new"
        table.add_row(
            stage.name,
            ", ".join(other.name for other in stage.used),
            "\n".join(trained_on(stage.config)),
            "\n".join(clips(part.manifest) for part in stage.mixture.parts) if stage.mixture else clips(stage.train),
            epochs(stage),
            str(stage.steps or ""),
            *((validation(stage), clips(stage.validated)) if validates else ()),
            *((pseudo_labels(stage),) if labels else ()),
            stage.board.name if stage.board else "",
            clips(stage.scored),
            f"{stage.parameters / 1e6:.2f} M",
            f"{stage.flops / 1e9:.3g}" if stage.board else "",
            f"{stage.state}{' by other code' if begun and changed_since(stage.folder, config.method) else ''}",
        )
    console.print(table)


def epochs(stage: PlannedStage) -> str:
    """For example `50` or `at most 50, the best of phase_1`."""
    if stage.train is None:
        return ""
    return (
        f"at most {stage.config.epochs}, the best of {stage.epochs_of.name}"
        if stage.epochs_of
        else str(stage.config.epochs)
    )


def validation(stage: PlannedStage) -> str:
    """For example `val, best mAP`."""
    from bench.plan.chosen_by import metric_of_validation

    if stage.validated is None:
        return ""
    own = stage.config.validation
    words = (f"every {own.every}" if own.every > 1 else "", f"patience {own.patience}" if own.patience else "")
    return ", ".join((str(own.split), f"{own.keep} {metric_of_validation(stage.config)}", *filter(None, words)))


def pseudo_labels(stage: PlannedStage) -> str:
    """For example `gives audio, video to train` or `reads cluster of label_1`."""
    given = f"gives {', '.join(stage.labelled)} to {'+'.join(stage.config.extract)}" if stage.labelled else ""
    read = [f"reads {stream} of {other.name}" for stream, other in stage.labels.items()]
    return "\n".join(filter(None, (given, *read)))


def clips(manifest: Manifest | None) -> str:
    """For example `1075 of 1080 (99.5%)`."""
    return f"{manifest.used} of {manifest.official} ({manifest.coverage:.1%})" if manifest else ""
