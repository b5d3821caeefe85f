"""The commands on a dataset's files: check, pack, features."""

from __future__ import annotations

from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, cast, get_args

from rich.markup import escape
from rich.table import Table

from bench import registry
from bench.errors import UserError, unknown
from bench.progress import track
from bench.tables.show import console
from datamodules import sample
from datamodules.files import write_json
from datamodules.manifest.checks import Checks
from datamodules.source import DataError, MediaKind, Source, find_root

if TYPE_CHECKING:  # it imports torch
    from datamodules.survey.facts import Survey
    from datamodules.types import FeatureInputs, Inputs

SETTINGS = {
    "data_root": "",
    "data__root": "",
    "data__media": "",
    "runs": "runs",
    "sample_root": "data/sample",
    "workers": "0",
}
"""What all of these commands understand."""
CHECK = SETTINGS | {"data__min_coverage": "0.85", "features": "", "kinds": ""}
PACK = SETTINGS | {"to": "", "splits": "", "sample_rate": "16000", "fps": "4", "size": "256"}
FEATURES = SETTINGS | {
    **{"to": "", "splits": "", "kind": "2d", "model": "", "weights": "", "pretrained": "false"},
    **{"device": "cpu", "batch": "32"},
}


def say(text: str) -> None:
    """A line that is as long as it is: names of files are not broken."""
    console.print(text, soft_wrap=True)


def open_source(name: str, settings: dict[str, str]) -> Source:
    """The dataset where the settings say it is: in its own folder, under a data root, or the sample data."""
    source = registry.dataset(name)
    if settings["data.root"]:
        root = Path(settings["data.root"])
        if not root.is_dir():
            raise UserError(f"data.root={root}: there is no such folder")
    elif settings["data_root"]:
        root = find_root(source, Path(settings["data_root"]))
    else:
        sample.make_for(source, Path(settings["sample_root"]), track)
        root = find_root(source, Path(settings["sample_root"]))
    return source(root, Path(settings["runs"]) / "cache", track)


def open_checks(name: str, settings: dict[str, str]) -> Checks:
    """The checks of a dataset's media that are kept below `runs`."""
    folder = Path(settings["runs"]) / "cache" / "checks" / name
    return Checks(folder, workers=whole(settings, "workers"), track=track)


def whole(settings: dict[str, str], key: str) -> int:
    """A setting as a whole number."""
    try:
        return int(settings[key])
    except ValueError:
        raise UserError(f"{key}={settings[key]}: expected a whole number") from None


def number(settings: dict[str, str], key: str) -> float:
    """A setting as a number."""
    try:
        return float(settings[key])
    except ValueError:
        raise UserError(f"{key}={settings[key]}: expected a number") from None


def media_kind(settings: dict[str, str]) -> MediaKind | None:
    """The setting `data.media`; None = whatever the dataset says."""
    kinds = get_args(MediaKind)
    if settings["data.media"] and settings["data.media"] not in kinds:
        raise unknown("data.media", settings["data.media"], kinds)
    return cast(MediaKind, settings["data.media"]) if settings["data.media"] else None


def streams() -> None:
    """Prints the kinds of streams that there are, and their settings."""
    from datamodules.streams.known import kind, kinds

    table = Table("kind", "modality", "reads", "settings")
    for name, place in sorted(kinds().items()):
        found = kind(name)
        about = (found.__doc__ or "").strip().partition("\n")[0]
        settings = ", ".join(field.name for field in fields(found.options_type))
        origin = "" if place.startswith("datamodules.") else f" ({place.partition(':')[0]})"
        table.add_row(name + origin, found.modality or "any", escape(about), settings or "none")
    console.print(table)
    say("data.inputs.streams.NAME={kind: KIND, SETTING: …}; each with its meaning in docs/reference/streams.md")


def check(name: str, settings: dict[str, str], inputs: Inputs) -> bool:
    """Surveys a dataset, prints what was found and writes it down; whether all of its boards can be measured and all
    streams of the inputs be read."""
    from datamodules.survey.walk import survey

    try:
        source = open_source(name, settings)
        coverage = number(settings, "data.min_coverage")
        features = feature_inputs(settings)
        found = survey(source, open_checks(name, settings), media_kind(settings), coverage, features, inputs)
    except DataError as error:
        raise UserError(str(error)) from error
    report = Path(settings["runs"]) / "cache" / "reports" / f"{name}.json"
    write_json(report, asdict(found))
    print_survey(found)
    say(f"report: {report}")
    return _has_something(found) and not any(found.boards.values()) and not found.unread


def feature_inputs(settings: dict[str, str]) -> FeatureInputs | None:
    """The feature files that are to be looked for, if any."""
    from datamodules.types import FeatureInputs

    if not settings["kinds"]:
        return None
    return FeatureInputs(root=settings["features"] or None, kinds=settings["kinds"].split(","))


def _has_something(found: Survey) -> bool:
    """Whether there is any clip that a method could read."""
    counts = [usable.clips for facts in found.splits.values() for usable in facts.usable.values()]
    return any(counts) or any(count for facts in found.splits.values() for count in facts.with_features.values())


def pack(name: str, settings: dict[str, str], wanted: Inputs) -> None:
    """Packs a dataset's splits (see `datamodules.packing.shards`), with the files that the wanted streams read."""
    from datamodules.manifest.build import build_manifest
    from datamodules.packing.pack import pack as pack_split
    from datamodules.packing.shards import PackedFormat, files_to_pack
    from datamodules.types import AudioInputs, Inputs, TextInputs, VideoInputs

    if not settings["to"]:
        raise UserError("to= is missing: a folder, or any fsspec URL such as s3://bucket/folder")
    files = files_to_pack(wanted)
    format = PackedFormat(
        whole(settings, "sample_rate"), number(settings, "fps"), whole(settings, "size"), tuple(files)
    )
    try:
        format.require(wanted, settings["to"])
        source = open_source(name, settings)
        splits = settings["splits"].split("+") if settings["splits"] else source.splits
        for split in splits:
            inputs = Inputs(
                AudioInputs() if format.sample_rate else None,
                VideoInputs() if format.fps else None,
                TextInputs() if source.has_text(split) else None,
                streams=wanted.streams,
                windows=wanted.windows,
                rows=wanted.rows,
            )
            manifest = build_manifest(source, [split], inputs, open_checks(name, settings), media_kind(settings))
            packed = pack_split(
                manifest, name, split, settings["to"], format, files, workers=whole(settings, "workers"), track=track
            )
            say(
                f"{split}: {len(packed):,} of {packed.official:,} clips are in {settings['to']}/{split}; "
                f"read them with data.packed={settings['to']}"
            )
    except DataError as error:
        raise UserError(str(error)) from error


def features(name: str, settings: dict[str, str]) -> None:
    """Extracts 2D or 3D features from a dataset's videos (see `datamodules.features.extract`)."""
    from datamodules.features.extract import Extractor2D, Extractor3D, extract
    from datamodules.manifest.build import build_manifest
    from datamodules.types import Inputs, VideoInputs

    extractors = {"2d": Extractor2D, "3d": Extractor3D}
    if settings["kind"] not in extractors:
        raise unknown("kind of features", settings["kind"], extractors)
    if not settings["to"]:
        raise UserError("to= is missing: the folder for the feature files")
    try:
        source = open_source(name, settings)
        splits = settings["splits"].split("+") if settings["splits"] else source.splits
        checks = open_checks(name, settings)
        videos: dict[str, Path] = {}
        for split in splits:
            table = build_manifest(source, [split], Inputs(None, VideoInputs()), checks, media_kind(settings)).table
            videos |= {video: Path(path) for video, path in zip(table["video_id"], table["video_path"], strict=True)}
        weights = Path(settings["weights"]) if settings["weights"] else None
        extractor = extractors[settings["kind"]](
            settings["model"] or {"2d": "resnet152", "3d": "r3d_18"}[settings["kind"]],
            weights,
            pretrained=settings["pretrained"] == "true",
            device=settings["device"],
        )
        report = extract(videos, Path(settings["to"]), settings["kind"], extractor, whole(settings, "batch"), track)
    except DataError as error:
        raise UserError(str(error)) from error
    say(f"features {settings['kind']} in {settings['to']}: {report}")
    for video, reason in list(report.excluded.items())[:10]:
        say(f"  {video}: {reason}")


def print_survey(found: Survey) -> None:
    """A table of what was found of each split, and what follows from it."""
    source = registry.dataset(found.dataset)
    table = Table("split", "official", "listed", "with", "usable", "coverage", "excluded", "for example")
    table.title, table.title_justify = f"{source.title} in {found.root}", "left"
    for split, facts in found.splits.items():
        shown = {need: usable for need, usable in facts.usable.items() if usable.clips} or facts.usable
        shown |= facts.streams
        for i, (need, usable) in enumerate(shown.items()):
            table.add_row(
                *((split, f"{facts.official:,}", f"{facts.listed:,}") if i == 0 else ("", "", "")),
                need,
                f"{usable.clips:,}",
                f"{usable.coverage:.1%}",
                "\n".join(f"{count:,} {reason}" for reason, count in usable.excluded.items()),
                "\n".join((usable.examples.get(reason) or [""])[0] for reason in usable.excluded),
                end_section=i == len(shown) - 1,
            )
    for split, problem in found.problems.items():
        table.add_row(split, "", "", "", "", "", problem, "")
    console.print(table)

    columns = ("with", "seconds", "too short", "silent", "still picture", "with text", "with features")
    table = Table("split", *columns, "clips of a class", "classes without clips")
    table.title, table.title_justify = "what is in the usable clips (5 %, median, 95 %)", "left"
    for split, facts in found.splits.items():
        counts = sorted(facts.clips_of_class.values())
        spread = f"{counts[0]:,} to {counts[-1]:,}, median {counts[len(counts) // 2]:,}" if counts else "no classes"
        empty = [name for name, count in facts.clips_of_class.items() if not count]
        named = f"{len(empty)}" + (f" ({', '.join(empty[:3])}{', …' if len(empty) > 3 else ''})" if empty else "")
        listed = f" of {facts.listed_seconds:.1f}" if facts.listed_seconds else ""
        table.add_row(
            split,
            facts.need,
            _distribution(facts.seconds, ".1f") + listed,
            f"{facts.short:,}",
            f"{facts.silent:,}",
            f"{facts.still:,}",
            "" if facts.with_text is None else f"{facts.with_text:,}",
            ", ".join(f"{count:,} {kind}" for kind, count in facts.with_features.items()),
            spread,
            named,
        )
    console.print(table)

    if len(found.splits) > 1 and not found.shared_videos:
        say("no source video is in two splits")
    if (sound := found.log_mel) is not None:
        say(
            f"log-mel ({sound.sample_rate} Hz, {sound.mel_bins} bins) of {sound.clips} clips: mean {sound.mean:.3f}, "
            f"std {sound.std:.3f}; assumed for this dataset: mean {sound.assumed_mean:.3f}, std {sound.assumed_std:.3f}"
        )
        say(f"their level, dB below full scale (RMS; 5 %, median, 95 %): {_distribution(sound.level, '.0f')}")
    for finding in found.findings:
        say(f"[bold]{escape(finding.what)}[/]\n  next: {escape(finding.next_step)}")
    if found.sample:
        say("this is made-up sample data, whose clips are short and clean on purpose")
    for stream in found.unread:
        say(f"stream {stream}: [bold red]cannot be read[/]: there is nothing of it in any split")
    for board, obstacle in found.boards.items():
        say(f"board {board}: " + (f"[bold red]cannot be measured[/]: {escape(obstacle)}" if obstacle else "ready"))


def _distribution(quantiles: list[float], form: str) -> str:
    return ", ".join(f"{value:{form}}" for value in quantiles[1:4])
