"""Pseudo-labels that one stage of a run gives the clips that another trains on (`stages.<stage>.labels`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench.config.schema import BenchConfig, StageConfig
from bench.errors import UserError, unknown
from datamodules.manifest.build import Manifest
from datamodules.streams.kind import Stream
from datamodules.streams.known import streams_of
from datamodules.streams.pseudo_label import PseudoLabelStream
from experiments.common.stage import Stage


def check_labels(
    stage: StageConfig, where: str, streams: Mapping[str, Stream[Any]], stages: Mapping[str, StageConfig]
) -> None:
    """Each stream of pseudo-labels has a file or a stage that gives them.

    Args:
        stage: as composed.
        where: its key, `stages.<name>`.
        streams: what its settings name to be read.
        stages: all of the configuration.

    Raises:
        UserError: naming the key.
    """
    if stage.ensemble:
        return
    labels = {name: stream for name, stream in streams.items() if isinstance(stream, PseudoLabelStream)}
    for name in stage.labels:
        if name not in labels:
            raise unknown(f"stream of kind pseudo_label ({where}.labels)", name, labels)
    for name, stream in labels.items():
        file, other = stream.options.file, stage.labels.get(name)
        setting = f"{where}.{stream.where}"
        if not file and other is None:
            raise UserError(
                f"{setting}: nothing says where its labels are from; name a stage of this run that gives them "
                f"({where}.labels.{name}=STAGE), or a file ({setting}.file=FILE)"
            )
        if file and other is not None:
            raise UserError(
                f"{setting}.file={file}: {where}.labels.{name}={other} gives this stream its labels; leave one of "
                f"the two out"
            )
        if other is not None and other in stages and not _gives_labels(stages[other]):
            raise UserError(
                f"{where}.labels.{name}: {other} gives no labels: {stages[other].module or 'an ensemble'} has no "
                f"pseudo_labels (see Stage.pseudo_labels)"
            )


def _gives_labels(stage: StageConfig) -> bool:
    own = stage.objects.stage_class
    return own is not None and own.pseudo_labels is not Stage.pseudo_labels


def columns_of(config: BenchConfig, name: str) -> dict[str, int]:
    """Column -> how many classes there may be, of the labels that other stages read of this one; none: it gives none.

    Whether they are run now or not: a stage that is done has what they need.
    """
    found: dict[str, int] = {}
    for stage in config.stages.values():
        named = [stream for stream, other in stage.labels.items() if other == name]
        streams = streams_of(stage.data.inputs) if named else {}
        for options in (streams[stream].options for stream in named if stream in streams):
            found[options.column] = min(options.classes, found.get(options.column, options.classes))
    return dict(sorted(found.items()))


def with_labels(clips: Manifest, labelled: Mapping[str, Manifest]) -> Manifest:
    """The clips that the stages which give them labels can read, too: whether these have been run makes no difference.

    Args:
        clips: of a stage's splits.
        labelled: stage -> the clips that it gives labels.
    """
    for other, theirs in labelled.items():
        clips = clips.within(theirs, f"cannot be read by {other}, which gives the labels")
    return clips
