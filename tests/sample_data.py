"""Sample data for tests that read it. Those of how it is made call `datamodules.sample.make`."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from unittest import mock

from datamodules import sample
from datamodules.sample.media import Clip, write


@dataclass(frozen=True)
class SampleMaker:
    """Makes sample data of any size; every clip is rendered once, whichever test wants it first.

    Args:
        rendered: the folder of the clips that are there, which several processes may share.
    """

    rendered: Path

    def __call__(
        self, root: Path, datasets: Sequence[str], counts: Mapping[str, Mapping[str, int]] | None = None
    ) -> None:
        """Arguments as of `sample.make`."""
        with mock.patch.object(sample, "write", self._write):
            sample.make(root, datasets, counts=counts, workers=1)

    def _write(self, clip: Clip) -> None:
        """Copies: tests change files."""
        if clip.begin is not None:
            write(clip)
            return
        content = repr((clip.scene, clip.flaw, clip.path.suffix, clip.features is None, clip.still is None))
        kept = self.rendered / hashlib.sha256(content.encode()).hexdigest()
        if not kept.exists():
            self._render(clip, kept)
        for file in kept.iterdir():
            if file.suffix == clip.path.suffix:
                shutil.copy(file, clip.path)
            elif file.suffix == ".jpg":
                assert clip.still is not None
                shutil.copy(file, clip.still)
            else:
                assert clip.features is not None
                shutil.copy(file, clip.features / f"{clip.path.stem}{file.name.removeprefix('clip')}")

    def _render(self, clip: Clip, kept: Path) -> None:
        """Writes the clip's files into a folder, which appears when it is complete."""
        self.rendered.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(dir=self.rendered))
        place, still = partial / f"clip{clip.path.suffix}", clip.still and partial / "clip.jpg"
        write(replace(clip, path=place, features=clip.features and partial, still=still))
        with suppress(OSError):  # another process was faster
            partial.rename(kept)
