"""The command that repeats a record's run."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from functools import cache
from typing import Any

from bench.config.folds import base_name
from bench.config.starts import NAMED
from bench.errors import UserError
from bench.records.record import Package, Record

# What a plain word of YAML may be; others are quoted.
WORD = re.compile(r"(?!(?i:null|true|false|yes|no|on|off)$)[A-Za-z_][A-Za-z0-9_./+-]*")
# Where things lie on a machine, which records do not have.
PLACES = re.compile(r"\.(root|packed|file|\w+_file)$")
FILE = re.compile(r"\.(file|\w+_file)$")


def command(record: Record) -> str:
    """The command line, with the settings in which the record differs from its preset; before it, in comments, what it
    needs that is outside the suite: packages and files."""
    stages = record.config.get("stages")
    stage = f"{record.stage}_{record.fold}" if record.fold else record.stage
    if not isinstance(stages, Mapping) or stage not in stages:
        stage = record.stage
    words = [f"preset={record.preset}", f"stage={stage}", f"seed={record.seed}"]
    if record.variant:
        words.insert(1, f"variant={record.variant}")
    if not record.sample:
        words.append("data_root=/datasets")
    words += [f"{key}={_yaml(value)}" for key, value in _changes(record).items()]
    line = " ".join(["python -m bench run", record.method, *map(shlex.quote, words)])
    return "\n".join([*map(_needed, record.packages), *_needed_files(record), line])


def _needed(package: Package) -> str:
    """`# method theirs: their-package 1.2, commit 0123abcd`: one line, whatever stands in the record."""
    state = f"commit {package.commit}" if package.commit else f"source SHA-256 {package.source_sha256}"
    dirty = f" with uncommitted changes (source SHA-256 {package.source_sha256})" if package.dirty else ""
    named = f"{package.role} {package.name}: {package.distribution} {package.version}, {state}{dirty}"
    return "# needs " + " ".join(named.split())


def _needed_files(record: Record) -> Iterator[str]:
    """`# needs stages.x.data.train_labels_file: the file with SHA-256 0123…`: of settings that name a file, and of
    checkpoints, records have but the hash."""
    usual = _preset(record.method, record.preset, record.variant)
    leaves = dict(_leaves(record.config))
    found = [(name, value) for name, value in leaves.items() if FILE.search(name) and value]
    given = [name for name, value in leaves.items() if value and _is_file(name, value)]
    start = given[0] if len(given) == 1 else "init"
    found += [(start, each.identity) for each in record.parents if each.stage == "init" and each.identity not in NAMED]
    for name, value in found:
        if usual.get(name) != value:
            key = _without_fold(name, usual) if name in usual else name
            yield " ".join(f"# needs {key}: the file with SHA-256 {str(value)[:16]}".split())


def _changes(record: Record) -> dict[str, Any]:
    """Key -> value of what the record has unlike the preset; keys that are no longer there are left out."""
    usual = _preset(record.method, record.preset, record.variant)
    return {
        _without_fold(name, usual): value
        for name, value in _leaves(record.config)
        if name in usual and usual[name] != value and not PLACES.search(name) and not _is_file(name, value)
    }


def _is_file(name: str, value: Any) -> bool:
    """Whether a stage starts from a file, of which the record has the hash."""
    return name.endswith(".init") and value not in NAMED


@cache
def _preset(method: str, preset: str, variant: str) -> dict[str, Any]:
    """Its settings by their dotted keys; none where the method, the preset or the variant is not here."""
    from bench.config.compose import compose  # imports the method, and torch

    try:
        config = compose(method, [f"preset={preset}", *([f"variant={variant}"] if variant else [])])
    except UserError:
        return {}
    settings = {
        "model": asdict(config.model),
        "stages": {name: asdict(stage) for name, stage in config.stages.items()},
        "trainer": asdict(config.trainer),
    }
    return dict(_leaves(json.loads(json.dumps(settings))))  # lists where it has tuples, as a record has


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted key and value of all that is no mapping."""
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _leaves(item, f"{path}.{key}" if path else str(key))
    else:
        yield path, value


def _without_fold(name: str, usual: Mapping[str, Any]) -> str:
    """`stages.x_fold1.lr` -> `stages.x.lr`: the configuration knows the stage, not its folds."""
    parts = name.split(".")
    if parts[0] == "stages":
        parts[1] = base_name(parts[1], usual[f"stages.{parts[1]}.fold"])
    return ".".join(parts)


def _yaml(value: Any) -> str:
    if isinstance(value, str) and WORD.fullmatch(value):
        return value
    if isinstance(value, list):
        return f"[{','.join(map(_yaml, value))}]"
    return json.dumps(value)
