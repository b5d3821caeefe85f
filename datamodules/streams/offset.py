"""By how much two windows of a clip are shifted: the target of methods that learn whether sound and pictures match."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from datamodules.errors import DataError
from datamodules.frozen import Freezable
from datamodules.streams.kind import Stream
from datamodules.streams.packed import Format
from datamodules.streams.reading import ClipReader


@dataclass
class OffsetInputs(Freezable):
    """The shift of another window against the stream's own one."""

    of: str = ""
    """Of `data.inputs.windows`, the other window; empty = the clip's own. Of several of a name, each is compared with
    the one at the same place."""


class OffsetStream(Stream[OffsetInputs]):
    """[B] float32 seconds by which the window `of` begins later than the one of this stream; negative: earlier."""

    kind = "offset"
    options_type = OffsetInputs
    mixes = False
    part_names = ()

    def read(self, clip: ClipReader) -> dict[str, Tensor]:
        if self.options.of == self.window:
            return {"": torch.tensor(0.0)}
        theirs = clip.begins.get(self.options.of)
        if theirs is None:
            there = ", ".join(name for name in clip.begins if name) or "none"
            raise DataError(
                f"{self.where}.of={self.options.of}: data.inputs.windows has no such window; it has {there}"
            )
        if len(theirs) not in (1, self.windows):
            raise DataError(
                f"{self.where}.of={self.options.of}: there are {len(theirs)} such windows, and {self.windows} of "
                f"{self.window or 'its own'}; let it have one, or as many"
            )
        own, other = clip.begin, theirs[clip.number if len(theirs) > 1 else 0]
        assert own is not None and other is not None  # where windows are placed, all are
        return {"": torch.tensor(other - own)}

    def require_packed(self, format: Format, url: str) -> None:
        """Nothing is read of files."""

    def example(self, clips: int, device: torch.device | str) -> dict[str, Tensor]:
        return {"": torch.zeros(clips, device=device)}

    def made_up(self, clips: int, draw: torch.Generator) -> dict[str, Tensor]:
        return {"": torch.rand(clips, generator=draw) - 0.5}
