"""A question about a clip, and its answer."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pandas as pd
import torch
from torch import Tensor

from datamodules.errors import DataError
from datamodules.streams.kind import LENGTH, Excluding
from datamodules.streams.named_files import require_column
from datamodules.streams.reading import ClipReader
from datamodules.streams.tokens import Tokenised
from datamodules.types import TextInputs

if TYPE_CHECKING:
    from datamodules.source import Source

ANSWER = "answer"


@dataclass
class QuestionInputs(TextInputs):
    """Questions by the tokenizer of the method's text branch, and the answers among which it chooses."""

    column: str = "question"
    """Of the dataset's table, with the question."""
    answer_column: str = "answer"
    """Of the dataset's table, with the answer as text."""
    answers: list[str] = field(default_factory=list)
    """In the order of their indices; none = the dataset's classes."""


class QuestionStream(Tokenised[QuestionInputs]):
    """[B, L] int64 token ids of the question, 0 after the end; its length in tokens; `<name>_answer` [B] int64, the
    answer's index."""

    kind = "question"
    options_type = QuestionInputs
    part_names = (LENGTH, ANSWER)

    def wants(self) -> Hashable:
        return self.name, self.options.column, self.options.answer_column, tuple(self.options.answers)

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.options.column, self.options.answer_column)

    def find(self, table: pd.DataFrame, source: Source, exclusions: Excluding) -> None:
        """Adds the column <name>_answer with the answer's index."""
        options = self.options
        asked = require_column(table, options.column, source, f"{self.where}.column")
        answer = require_column(table, options.answer_column, source, f"{self.where}.answer_column")
        answers = options.answers or list(source.classes)
        if twice := sorted({each for each in answers if answers.count(each) > 1}):
            raise DataError(f"{self.where}.answers: {twice[0]!r} stands there twice")
        index = pd.Index(answers).get_indexer(answer)
        exclusions.add("no question", asked.fillna("").str.strip() == "")
        exclusions.add("no answer", answer.fillna("") == "")
        exclusions.add("an answer that is none of those to choose from", index < 0)
        table[f"{self.name}_{ANSWER}"] = index.astype("int64")

    def read(self, clip: ClipReader) -> dict[str, Tensor]:
        answer = torch.tensor(clip.row.value(f"{self.name}_{ANSWER}"))
        return {**self.ids(clip.row.value(self.options.column)), ANSWER: answer}

    def example(self, clips: int, device: torch.device | str) -> dict[str, Tensor]:
        answer = torch.zeros(clips, dtype=torch.int64, device=device)
        return {**super().example(clips, device), ANSWER: answer}

    def made_up(self, clips: int, draw: torch.Generator) -> dict[str, Tensor]:
        answer = torch.randint(max(1, len(self.options.answers)), (clips,), generator=draw)
        return {**super().made_up(clips, draw), ANSWER: answer}
