"""Where a plan finds its data."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any, cast

from bench.config.schema import BenchConfig, StageConfig
from bench.progress import track
from datamodules import sample
from datamodules.loading.windows import seconds_needed
from datamodules.manifest.build import Manifest, build_manifest
from datamodules.manifest.checks import Checks
from datamodules.manifest.relabel import relabelled
from datamodules.manifest.share import share_of
from datamodules.packing.shards import open_pack
from datamodules.source import MediaKind, Source, find_root
from datamodules.streams.known import streams_of
from datamodules.types import Inputs, TextInputs


class Data:
    """Finds the data of a plan: the user's, or the sample data, which is made where it is not yet there."""

    def __init__(self, config: BenchConfig):
        self.config = config
        self.cache = Path(config.runs) / "cache"
        self._manifests: dict[Any, Manifest] = {}

    @cached_property
    def _makes_sample(self) -> bool:
        """Whether the user names no data, so that the sample data is used, and made where it is not yet there."""
        stages = self.config.stages.values()
        read = [stage.data for stage in stages]
        read += [part.data for stage in stages for part in stage.mixture.parts.values()]
        roots = [data.root or data.packed for data in read]
        return self.config.data_root is None and not any(roots)

    def source(self, stage: StageConfig) -> Source:
        """The stage's dataset.

        Raises:
            DataError: saying which folders and files were looked for.
        """
        source = stage.objects.source
        if self._makes_sample:
            sample.make_for(source, Path(self.config.sample_root), track)
            return source(find_root(source, Path(self.config.sample_root)), self.cache, track)
        root = Path(stage.data.root) if stage.data.root else find_root(source, Path(str(self.config.data_root)))
        found = source(root, self.cache, track)
        for name in source.required_files():
            found.find(name)
        return found

    def train_manifest(self, stage: StageConfig, inputs: Inputs) -> Manifest:
        """The clips to train on: all, or the share that the stage reads, with other labels where it names a file."""
        clips = share_of(self.manifest(stage, tuple(stage.train), inputs), stage.data.train_share)
        if stage.data.train_labels_file is None:
            return clips
        return relabelled(clips, Path(stage.data.train_labels_file), self.source(stage).class_codes)

    def manifest(self, stage: StageConfig, splits: tuple[str, ...], inputs: Inputs) -> Manifest:
        """The clips of the splits that have what the inputs want, and are long enough for their windows."""
        needs = frozenset(stream.wants() for stream in streams_of(inputs).values())
        key = (stage.dataset, stage.data.root, stage.data.packed, stage.data.media, splits, needs)
        if key not in self._manifests and stage.data.packed:
            self._manifests[key] = open_pack(stage.data.packed, list(splits), inputs, stage.dataset)
        if key not in self._manifests:
            checks = Checks(self.cache / "checks" / stage.dataset, track=track)
            self._manifests[key] = build_manifest(
                self.source(stage), splits, inputs, checks, cast(MediaKind | None, stage.data.media)
            )
        return self._manifests[key].at_least(seconds_needed(inputs))

    def class_text(self, stage: StageConfig, text: TextInputs | None) -> list[list[int]]:
        """Token ids of each class's name."""
        from datamodules.streams.text import make_tokenizer  # its libraries take a second to import

        assert text is not None  # `combinations.py` asks for it
        tokenizer = make_tokenizer(text)
        return [tokenizer(name).tolist() for name in self.source(stage).class_texts]
