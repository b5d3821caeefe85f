"""What is said of a clip or in it, as token ids."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

from datamodules.errors import DataError
from datamodules.source.titles import titles_of
from datamodules.streams.kind import LENGTH, Excluding, Stream, Transform
from datamodules.streams.packed import Format
from datamodules.streams.padding import pad_to
from datamodules.streams.reading import ClipReader
from datamodules.types import AugmentConfig, TextInputs

if TYPE_CHECKING:
    import pandas as pd

    from datamodules.source import Source
    from datamodules.streams.text import Tokenizer

Texts = TypeVar("Texts", bound=TextInputs)


class Tokenised(Stream[Texts]):
    """Text of a clip by a tokenizer: [B, L] int64 token ids, 0 after the end; its length in tokens."""

    mixes = False

    tokenizer: Tokenizer | None = None

    def prepare(self) -> None:
        from datamodules.streams.text import make_tokenizer  # its libraries take a second to import

        self.tokenizer = make_tokenizer(self.options)

    def ids(self, text: str) -> dict[str, Tensor]:
        """What is read of a clip with this text."""
        assert self.tokenizer is not None, "the stream was not prepared"
        ids = torch.from_numpy(self.tokenizer(text))
        return {"": ids, LENGTH: torch.tensor(len(ids))}

    def require_packed(self, format: Format, url: str) -> None:
        """A pack's table has the text."""

    def transform(self, augment: AugmentConfig) -> Transform:
        return PadTransform(self.options.length)

    def example(self, clips: int, device: torch.device | str) -> dict[str, Tensor]:
        return {
            "": torch.zeros(clips, self.options.length, dtype=torch.int64, device=device),
            LENGTH: torch.zeros(clips, dtype=torch.int64, device=device),
        }

    def made_up(self, clips: int, draw: torch.Generator) -> dict[str, Tensor]:
        made = super().made_up(clips, draw)
        return {**made, "": torch.randint(1, 50, made[""].shape, generator=draw)}


class TokenStream(Tokenised[TextInputs]):
    """[B, L] int64 token ids, 0 after the end; its length in tokens, 0 where a clip has no words. With N candidates,
    [B, N, L] and [B, N]."""

    kind = "tokens"
    options_type = TextInputs
    modality = "t"
    reads_text = True

    def find(self, table: pd.DataFrame, source: Source, exclusions: Excluding) -> None:
        """A clip's text is its own, its video's title, or what is said in its video; adds the column text, or
        caption_row for the latter."""
        if self.options.reads == "titles":
            table["text"] = titles_of(source, table)
        elif "text" in table:
            exclusions.add("no text", table["text"].fillna("") == "")
        elif source.captions is not None:
            rows = source.captions.rows(table["video_id"])
            exclusions.add("no captions", rows.isna())
            table["caption_row"] = rows.fillna(-1).astype("int64")
        else:
            raise DataError(f"{source.title} has no text; that of a table is read with data.inputs.text.reads=titles")

    def read(self, clip: ClipReader) -> dict[str, Tensor]:
        own = self._prompted(clip.moment.text)
        candidates = self.options.candidates
        if candidates == 1:
            return own
        texts = [own, *map(self._prompted, clip.moment.beside)]
        ids_NL, length_N = torch.zeros(candidates, self.options.length, dtype=torch.int64), torch.zeros(candidates)
        for place, text in enumerate(texts):
            ids_NL[place, : len(text[""])] = text[""]
            length_N[place] = text[LENGTH]
        return {"": ids_NL, LENGTH: length_N.long()}

    def _prompted(self, text: str) -> dict[str, Tensor]:
        return self.ids(f"{self.options.prompt} {text}" if self.options.prompt and text.strip() else text)

    def transform(self, augment: AugmentConfig) -> Transform:
        return super().transform(augment) if self.options.candidates == 1 else Transform()

    def example(self, clips: int, device: torch.device | str) -> dict[str, Tensor]:
        one = super().example(clips, device)
        if self.options.candidates == 1:
            return one
        return {key: value[:, None].repeat_interleave(self.options.candidates, 1) for key, value in one.items()}

    def made_up(self, clips: int, draw: torch.Generator) -> dict[str, Tensor]:
        """The last of several candidates has no words."""
        candidates = self.options.candidates
        made = super().made_up(clips, draw)
        if candidates > 1:
            made[LENGTH] = made[LENGTH][:, None].repeat_interleave(candidates, 1)
            made[LENGTH][:, -1] = 0
            made[""][:, -1] = 0
        return made


class PadTransform(Transform):
    """Pads to one length, so that all batches have the same shape."""

    def __init__(self, length: int):
        super().__init__()
        self.length = length

    def forward(self, raw: dict[str, Tensor], key_B: Tensor, train: bool) -> dict[str, Tensor]:
        return {**raw, "": pad_to(raw[""], self.length)}
