"""The command line: parse, call, print. Heavy imports stand in the commands, so that `--help` is quick."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Sequence
from typing import Any

from bench.commands.help_texts import (
    CHECK_HELP,
    COMPARE_HELP,
    EPILOG,
    FEATURES_HELP,
    PACK_HELP,
    REGRESS_HELP,
    SWEEP_HELP,
)
from bench.config.settings import positive
from bench.errors import UserError
from bench.run.preemption import INTERRUPTED, Preempted, listening

OWN = ("bench", "datamodules", "experiments")
"""Packages that cannot be installed separately: a missing module of theirs is a bug."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit status.

    0; 1 where a check failed; 2 with a message that the user can act on; 75 (`PREEMPTED`) or 130 where a signal or
    Ctrl-C stopped it.
    """
    # OpenMP's threads turn for milliseconds while they wait; where something else wants a core, that makes training
    # many times slower. A shorter turn costs nothing on a quiet machine. Read when torch is imported.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    options = parse(arguments)
    try:
        return options.command(options) or 0
    except UserError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in OWN:
            raise
        print(f"bench: {error}; `make setup` installs it, `. .venv/bin/activate` uses it", file=sys.stderr)
        return 2
    except Preempted as stopped:
        if stopped.rank == 0:
            print(f"bench: {stopped}", file=sys.stderr)
        return stopped.exit_status
    except (KeyboardInterrupt, SystemExit) as error:
        # Lightning ends the process itself when it is interrupted in training or measuring.
        if isinstance(error, SystemExit) and not isinstance(error.__context__, KeyboardInterrupt):
            raise
        print("bench: stopped; the same command goes on from here", file=sys.stderr)
        return INTERRUPTED


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command and its options. `key=value` may stand after options, too, which argparse leaves over."""
    parser = make_parser()
    options, rest = parser.parse_known_args(arguments)
    if rest:
        if not hasattr(options, "overrides") or not all(re.match(r"[A-Za-z_][^ =]*=", word) for word in rest):
            parser.error(f"unrecognized arguments: {' '.join(rest)}")
        options.overrides = [*options.overrides, *rest]
    return options


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "bench",
        description="AVL-Bench: trains, evaluates and compares audio-visual-language methods.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def command(name: str, function, help: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(
            name, help=help, description=help, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        sub.set_defaults(command=function)
        return sub

    run = command("run", run_method, "train and measure a method: runs its stages that are not yet done")
    run.add_argument("method")
    run.add_argument("overrides", nargs="*", metavar="key=value")
    plan = command("plan", show_plan, "show a method's stages, data, size and state without running them")
    plan.add_argument("method")
    plan.add_argument("overrides", nargs="*", metavar="key=value")
    sweep = command("sweep", run_sweep, "run methods x seeds x settings as jobs, on this machine or on Slurm")
    sweep.epilog = SWEEP_HELP
    sweep.add_argument("arguments", nargs="+", metavar="METHOD|key=value")
    sweep.add_argument("--data", nargs="+", default=[], metavar="DATASET", help="only what is measured on these")
    sweep.add_argument("--seeds", nargs="+", type=int, default=[0], metavar="SEED")
    sweep.add_argument("--grid", nargs="+", default=[], metavar="key=a,b", help="settings to combine")
    sweep.add_argument("--launcher", choices=("local", "slurm"), default="local")
    sweep.add_argument("--slurm", nargs="+", default=[], metavar="key=value", help="options of sbatch")
    sweep.add_argument("--jobs", type=positive, metavar="N", help="at once, on this machine")
    new = command("new", make_method, "make the folder of a new method: a small one that works, and its tests")
    new.add_argument("name", metavar="NAME", help="a Python identifier in lower case")
    new.add_argument("--title", default="", metavar="TITLE", help="of the paper; default: from the name")
    new.add_argument(
        "--folder", metavar="FOLDER", help="default: experiments/; elsewhere the method is a package of its own"
    )
    command("list", show_list, "list methods, datasets and boards")
    plain: Any = {"formatter_class": argparse.RawDescriptionHelpFormatter}
    data = command("data", None, "check or pack a dataset, extract features, make the sample data, list streams")
    actions = data.add_subparsers(title="actions", required=True, metavar="ACTION")
    make_sample = actions.add_parser("sample", help="make the sample data")
    make_sample.add_argument("overrides", nargs="*", metavar="key=value", help="sample_root=FOLDER")
    make_sample.set_defaults(command=make_sample_data)
    check = actions.add_parser(
        "check",
        help="report which part of a dataset can be used, and why the rest cannot",
        description=CHECK_HELP,
        **plain,
    )
    check.add_argument("dataset")
    check.add_argument("overrides", nargs="*", metavar="key=value", help="data_root=FOLDER or data.root=FOLDER")
    check.set_defaults(command=check_data)
    streams = actions.add_parser("streams", help="list the kinds of streams that a method can read, and their settings")
    streams.set_defaults(command=list_streams)
    pack = actions.add_parser("pack", help="pack a dataset for fast and remote reading", description=PACK_HELP, **plain)
    pack.add_argument("dataset")
    pack.add_argument("overrides", nargs="*", metavar="key=value", help="to=FOLDER_OR_URL splits=train+test fps=4 …")
    pack.set_defaults(command=pack_data)
    features = actions.add_parser(
        "features", help="extract 2D or 3D features from videos", description=FEATURES_HELP, **plain
    )
    features.add_argument("dataset")
    features.add_argument("overrides", nargs="*", metavar="key=value", help="to=FOLDER kind=2d model=resnet152 …")
    features.set_defaults(command=extract_features)
    weights = command("weights", None, "convert other frameworks' files of weights")
    actions = weights.add_subparsers(title="actions", required=True, metavar="ACTION")
    converted = actions.add_parser("convert", help="write a file of weights (Haiku's pickles) as one for init=FILE")
    converted.add_argument("file", metavar="FILE")
    converted.add_argument("overrides", nargs="*", metavar="key=value", help="to=FILE format=NAME")
    converted.set_defaults(command=convert_weights)
    speed = command("speed", None, "time reading, training and measuring, beside plain implementations")
    timed = speed.add_subparsers(title="what", required=True, metavar="WHAT")
    speed_data = timed.add_parser("data", help="decoding, log-mels, collation and the whole loader, on made-up clips")
    speed_data.add_argument("overrides", nargs="*", metavar="key=value", help="clips=24 rounds=6 folder=data/speed")
    speed_data.set_defaults(command=time_data)
    speed_eval = timed.add_parser("eval", help="ranks of retrieval, beside sorting every row with numpy")
    speed_eval.add_argument(
        "overrides", nargs="*", metavar="key=value", help="queries=100000 items=100000 dim=512 seed=0"
    )
    speed_eval.set_defaults(command=time_evaluation)
    speed_train = timed.add_parser("train", help="a training step, beside a plain loop and attention by hand")
    speed_train.add_argument("method")
    speed_train.add_argument("overrides", nargs="*", metavar="key=value", help="as for `bench run`")
    speed_train.add_argument("--stage", metavar="NAME", help="default: the first that trains")
    speed_train.add_argument("--steps", type=int, default=5, metavar="N", help="of a loop's turn; default: 5")
    speed_train.add_argument("--rounds", type=int, default=20, metavar="N", help="turns of each loop; default: 20")
    speed_train.add_argument("--packed", action="store_true", help="pack the data first, and read the pack")
    speed_train.set_defaults(command=time_training)
    table = command("table", show_tables, "rebuild the boards' tables from the records, and print them")
    table.add_argument("boards", nargs="*", metavar="BOARD", help="only these; a sample board is sample/BOARD")
    table.add_argument("--leaderboards", default="leaderboards", metavar="FOLDER")
    table.add_argument(
        "--check", action="store_true", help="only report what is wrong with records and tables; then exit with 1"
    )
    table.add_argument(
        "--store", default="", metavar="URL", help="first exchange records with a folder or URL, e.g. s3://bucket/avl"
    )
    page = command("page", make_page, "write the boards, methods and runs as one HTML file that needs nothing else")
    page.add_argument("--leaderboards", default="leaderboards", metavar="FOLDER")
    page.add_argument("--runs", default="runs", metavar="FOLDER", help="for curves and scores by class")
    page.add_argument("--output", metavar="FILE", help="default: page.html among the leaderboards")
    compare = command("compare", compare_methods, "compare two methods on the clips that both were measured on")
    compare.description, compare.epilog = COMPARE_HELP, None
    compare.add_argument("before", metavar="A", help="METHOD[/STAGE[/MODALITY]] or a record's id")
    compare.add_argument("after", metavar="B")
    compare.add_argument("--board", required=True, metavar="BOARD", help="a sample board is sample/BOARD")
    compare.add_argument("--seed", type=int, metavar="N", help="default: the first that both have")
    compare.add_argument("--classes", type=int, default=5, metavar="N", help="gains and losses to show; default: 5")
    compare.add_argument("--leaderboards", default="leaderboards", metavar="FOLDER")
    compare.add_argument("--runs", default="runs", metavar="FOLDER", help="where the predictions are")
    export = command("export", export_boards, "write the boards as one Parquet file, and model cards that hubs read")
    export.add_argument("folder", metavar="FOLDER")
    export.add_argument("--leaderboards", default="leaderboards", metavar="FOLDER")
    docs = command("docs", write_docs, "regenerate the tables of datasets, boards and methods in README.md and docs/")
    docs.add_argument("--check", action="store_true", help="only list the pages that are not current; then exit with 1")
    regress = command("regress", find_regressions, "has a change made anything worse? Runs a suite against a baseline")
    regress.description, regress.epilog = REGRESS_HELP, None
    regress.add_argument("--suite", default="baselines/default.yaml", metavar="FILE", help="what is run and tolerated")
    regress.add_argument("--store", action="store_true", help="store the baseline of this class of machine instead")
    regress.add_argument("--against", metavar="COMMIT", help="default: what is stored, or else the last commit")
    regress.add_argument("--devices", type=int, default=0, metavar="N", help="default: all GPUs, or one process")
    regress.add_argument("--junit", metavar="FILE", help="write JUnit XML, one test case a figure")
    regress.add_argument("--baselines", default="baselines", metavar="FOLDER", help="of the stored baselines")
    regress.add_argument("--folder", default="runs/regress", metavar="FOLDER", help="of the runs; emptied first")
    regress.add_argument("--sample-root", default="data/sample", metavar="FOLDER", help="of the sample data")
    return parser


def write_docs(options: argparse.Namespace) -> int:
    from bench.commands import docs

    pages = docs.stale() if options.check else docs.write()
    for page in pages:
        print(f"{page}: {'not current; run `python -m bench docs`' if options.check else 'written'}")
    return 1 if options.check and pages else 0


def find_regressions(options: argparse.Namespace) -> int | None:
    from pathlib import Path

    from bench.regress.gate import RegressOptions, regress, store

    settings = RegressOptions(
        suite=Path(options.suite),
        baselines=Path(options.baselines),
        folder=Path(options.folder),
        devices=options.devices,
        sample_root=Path(options.sample_root),
        junit=Path(options.junit) if options.junit else None,
        against=options.against,
    )
    if not options.store:
        return regress(settings)
    store(settings)
    return None


def run_method(options: argparse.Namespace) -> None:
    with listening():  # from here on, as the imports take seconds
        from bench.config.compose import compose
        from bench.run.execute import is_first_process, run
        from bench.tables.show import print_measured

        config = compose(options.method, options.overrides)
        plan = run(config)
        if is_first_process():
            print_measured([plan])


def run_sweep(options: argparse.Namespace) -> int:
    with listening():
        from bench.launch.sweep_run import Sweep, sweep

        wanted = Sweep(
            arguments=options.arguments,
            datasets=options.data,
            seeds=options.seeds,
            grid=options.grid,
            launcher=options.launcher,
            slurm=options.slurm,
            at_once=options.jobs,
        )
        return 0 if sweep(wanted) else 1


def show_plan(options: argparse.Namespace) -> None:
    from bench.config.compose import compose
    from bench.plan.graph import make_plan
    from bench.run.rehearsal import rehearse
    from bench.tables.show import print_plan

    plan = make_plan(compose(options.method, options.overrides))
    rehearse(plan)
    print_plan(plan)


def make_method(options: argparse.Namespace) -> None:
    from pathlib import Path

    from bench.commands.new import new

    new(options.name, options.title, Path(options.folder) if options.folder else None)


def show_list(options: argparse.Namespace) -> None:
    from bench.tables.show import print_list

    print_list()


def make_sample_data(options: argparse.Namespace) -> None:
    from pathlib import Path

    from bench.config.settings import parse_settings
    from bench.progress import track
    from datamodules import sample

    settings = parse_settings(options.overrides, sample_root="data/sample")
    sample.make(Path(settings["sample_root"]), list(sample.layouts()), track=track)
    print(f"the sample data is in {settings['sample_root']}")


def list_streams(options: argparse.Namespace) -> None:
    from bench.commands import data

    data.streams()


def check_data(options: argparse.Namespace) -> int:
    from bench.commands import data
    from bench.config.inputs import inputs_asked
    from bench.config.settings import parse_settings

    inputs, others = inputs_asked(options.overrides)
    return 0 if data.check(options.dataset, parse_settings(others, **data.CHECK), inputs) else 1


def pack_data(options: argparse.Namespace) -> None:
    from bench.commands import data
    from bench.config.inputs import inputs_asked
    from bench.config.settings import parse_settings

    inputs, others = inputs_asked(options.overrides)
    data.pack(options.dataset, parse_settings(others, **data.PACK), inputs)


def extract_features(options: argparse.Namespace) -> None:
    from bench.commands import data
    from bench.config.settings import parse_settings

    data.features(options.dataset, parse_settings(options.overrides, **data.FEATURES))


def convert_weights(options: argparse.Namespace) -> None:
    from bench.commands.convert import converted

    print(converted(options.file, options.overrides))


def time_data(options: argparse.Namespace) -> None:
    from pathlib import Path

    from bench.commands import data
    from bench.config.settings import parse_settings
    from bench.speed import loading

    settings = parse_settings(options.overrides, clips="24", rounds="6", folder="data/speed")
    loading.data(Path(settings["folder"]), data.whole(settings, "clips"), data.whole(settings, "rounds"))


def time_evaluation(options: argparse.Namespace) -> None:
    from bench.commands import data
    from bench.config.settings import parse_settings
    from bench.speed import ranking

    settings = parse_settings(options.overrides, queries="100000", items="100000", dim="512", seed="0")
    ranking.evaluation(**{key: data.whole(settings, key) for key in settings})


def time_training(options: argparse.Namespace) -> None:
    from bench.speed.training import training
    from bench.speed.training_table import print_measured

    wanted = (options.method, options.overrides, options.stage, options.steps, options.rounds, options.packed)
    print_measured(training(*wanted), options.packed)


def show_tables(options: argparse.Namespace) -> int:
    from bench.tables.show import exchange, print_all_boards, print_check

    if options.check:
        return print_check(options.leaderboards)
    if options.store:
        exchange(options.leaderboards, options.store)
    print_all_boards(options.leaderboards, options.boards)
    return 0


def export_boards(options: argparse.Namespace) -> None:
    from pathlib import Path

    from bench.tables.export import export

    for path in export(Path(options.leaderboards), Path(options.folder)):
        print(path)


def compare_methods(options: argparse.Namespace) -> None:
    from pathlib import Path

    from bench.compare.methods import compare_methods, print_compared

    folders = (Path(options.leaderboards), Path(options.runs))
    sides = (options.before, options.after)
    print_compared(compare_methods(*sides, options.board, *folders, options.seed), options.classes)


def make_page(options: argparse.Namespace) -> None:
    from pathlib import Path

    from bench.page.write import write_pages

    leaderboards = Path(options.leaderboards)
    output = Path(options.output) if options.output else leaderboards / "page.html"
    for path in write_pages(leaderboards, Path(options.runs), output):
        print(path)
