"""What a method sees of a mixture of datasets: batches of its parts, each made as if it were alone, put together.

What a dataset lacks, a stream or labels, is zeros in the shape that the others have, and a mask that says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from datamodules.errors import DataError
from datamodules.parts import PartSpec, RawParts
from datamodules.streams.example import example_batch
from datamodules.streams.known import streams_of
from datamodules.types import Batch, RawBatch


class Joined:
    """How batches of the parts become one.

    Args:
        parts: the stage's own first.
        mixes: whether a batch has clips of all parts.

    Raises:
        DataError: clips of two parts would lie in one batch, and a stream has not the same shape in both.
    """

    def __init__(self, parts: Sequence[PartSpec], mixes: bool):
        self.parts, self.mixes = parts, mixes
        self.examples = [
            self._of_part(place, example_batch(part.inputs, part.num_classes, 1, "meta"))
            for place, part in enumerate(parts)
        ]
        if mixes:
            self._require_same_shapes()

    def _require_same_shapes(self) -> None:
        first: dict[str, tuple[str, Tensor]] = {}
        for part, example in zip(self.parts, self.examples, strict=True):
            for key, value in example.items():
                if not isinstance(value, Tensor):
                    continue
                other, there = first.setdefault(key, (part.name, value))
                if (there.shape, there.dtype) != (value.shape, value.dtype):
                    raise DataError(
                        f"clips of {other} and {part.name} are to be in one batch, but {key} is "
                        f"{list(there.shape[1:])} of {there.dtype} of one and {list(value.shape[1:])} of "
                        f"{value.dtype} of the other; give it the same settings in data.inputs of both"
                    )

    def __call__(self, batches: Mapping[int, Mapping[str, Any]]) -> Batch:
        """One batch of those of the parts, in their order."""
        each = {place: self._of_part(place, batch) for place, batch in sorted(batches.items())}
        if not self.mixes:
            ((place, batch),) = each.items()
            return cast(Batch, batch | {"part_name": self.parts[place].name})
        keys = dict.fromkeys(key for example in self.examples for key in example)
        return cast(Batch, {key: self._column(key, each) for key in keys})

    def _of_part(self, place: int, batch: Mapping[str, Any]) -> dict[str, Any]:
        """The part's batch with masks, and its labels under their key."""
        part, found = self.parts[place], dict(batch)
        labels = {key: found.pop(key) for key in ("label", *(f"{row}_label" for row in part.inputs.rows))}
        clips, device = len(labels["label"]), labels["label"].device
        there = torch.ones(clips, dtype=torch.bool, device=device)
        if part.label:
            found |= {key.removesuffix("label") + part.label: value for key, value in labels.items()}
            found[f"{part.label}_there"] = there
        elif place == 0 or not self.mixes:
            found |= {"label": torch.zeros_like(labels["label"]), "label_there": ~there}
        if self.mixes:
            found |= {f"{name}_there": there for name in streams_of(part.inputs)}
        found["part"] = torch.full((clips,), place, device=device)
        return found

    def _column(self, key: str, batches: Mapping[int, Mapping[str, Any]]) -> Any:
        """What all clips have under a key."""
        usual = next(example[key] for example in self.examples if key in example)
        each = []
        for batch in batches.values():
            clips, device = len(batch["part"]), batch["part"].device
            if key in batch:
                each.append(batch[key])
            elif isinstance(usual, Tensor):
                each.append(torch.zeros(clips, *usual.shape[1:], dtype=usual.dtype, device=device))
            else:
                each.append([""] * clips)
        return torch.cat(each) if isinstance(usual, Tensor) else sum(each, [])


class JoinedFeatures(nn.Module):
    """What the workers decoded of the parts -> what a method sees.

    Args:
        parts: of each part, what makes its batch.
        joined: puts them together.
    """

    def __init__(self, parts: Sequence[nn.Module], joined: Joined):
        super().__init__()
        self.parts, self.joined = nn.ModuleList(parts), joined

    def forward(self, raw: RawBatch | RawParts, train: bool) -> Batch:
        """Of a batch of the first part alone, as in evaluation, too."""
        parts = cast(RawParts, raw)["parts"] if "parts" in raw else {0: raw}
        return self.joined({place: self.parts[place](of_part, train) for place, of_part in parts.items()})


def joined_example(parts: Sequence[PartSpec], mixes: bool, clips: int, device: torch.device | str) -> Batch:
    """A batch of zeros, all of the first part."""
    first = example_batch(parts[0].inputs, parts[0].num_classes, clips, device)
    return Joined(parts, mixes)({0: first})
