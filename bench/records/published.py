"""What papers themselves report: `leaderboards/published.yaml`, each number with where it stands and how it is known.

Only what was read somewhere stands on a board; numbers that are recalled wait until somebody gives their source.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from bench.errors import UserError
from bench.records.record import Count, Name, Number, Slug
from bench.tasks import metric_infos
from datamodules.types import Modality

Text = Annotated[str, Field(min_length=1)]


class _PublishedPart(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False, str_max_length=500)


class PublishedRow(_PublishedPart):
    """What one variant of a method scored on one benchmark."""

    benchmark: Text
    """Dataset, split and protocol in the paper's words."""
    board: Slug | None
    """The board that measures the same; None if there is none."""
    modality: Modality
    """All that takes part; an image is `v`, speech and music are `a`."""
    variant: Text
    metrics: Annotated[dict[Name, Number], Field(min_length=1)]
    """As printed. Of those that a task measures, what tables show in percent is in percent; others have the paper's
    names and units."""
    place: str = ""
    """The table or page where the numbers stand."""
    known: Literal["repository", "page", "memory"]
    """Read in a code repository; read in a paper, be it a later one, or on a page; or recalled."""
    source: str = ""
    """Where they were read: repository and path, or page."""
    verified: bool
    pretraining: str = ""
    parameters: Count | None = None
    note: str = ""
    """What a reader must know before comparing."""

    @field_validator("metrics")
    @classmethod
    def _possible(cls, metrics: dict[str, float]) -> dict[str, float]:
        infos = metric_infos()
        for name, value in metrics.items():
            if info := infos.get(name):
                scale = 100 if info.percent else 1
                low, high = scale * info.lowest, scale * info.highest
                if not low <= value <= high:
                    raise ValueError(f"{name} is {value}, not in {low:g} to {high:g}")
        return metrics

    @model_validator(mode="after")
    def _verified_says_where(self) -> Self:
        if self.verified and self.known == "memory":
            raise ValueError(
                "verified: what is known from memory is not; read it, then set `known`, `place` and `source`"
            )
        if self.verified and not (self.source.strip() and self.place.strip()):
            raise ValueError("verified: `source` and `place` must say where it was read")
        return self


class PublishedMethod(_PublishedPart):
    """A paper with its main rows."""

    name: Slug
    title: Text
    arxiv: Annotated[str, Field(pattern=r"^\d{4}\.\d{4,5}$")]
    venue: str = ""
    note: str = ""
    """What could not be found."""
    rows: Annotated[tuple[PublishedRow, ...], Field(strict=False)]  # YAML has lists

    @property
    def has_verified(self) -> bool:
        """Whether any of its numbers may stand on a board."""
        return any(row.verified for row in self.rows)


def read(path: Path) -> list[PublishedMethod]:
    """The methods of a file, in its order.

    Raises:
        UserError: naming the file, the method, the row and each wrong field.
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: no UTF-8, or an impossible date
        raise UserError(f"{path}: not YAML: {error}") from None
    if not isinstance(content, list):
        raise UserError(f"{path}: expected a list of methods")
    methods: dict[str, PublishedMethod] = {}
    for number, entry in enumerate(content, 1):
        try:
            method = PublishedMethod.model_validate(entry)
        except ValidationError as error:
            raise UserError(f"{path}: {_reasons(error, entry, number)}") from None
        if method.name in methods:
            raise UserError(f"{path}: {method.name}: name: comes twice; put all of its rows in one place")
        methods[method.name] = method
    return list(methods.values())


def on_board(published: Iterable[PublishedMethod], board: str) -> list[tuple[PublishedMethod, PublishedRow]]:
    """The verified rows of a board, each with its method."""
    return [(method, row) for method in published for row in method.rows if row.verified and row.board == board]


_SafeLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_SafeLoader):
    """Refuses keys that come twice, of which YAML would keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        if twice := [key for key in keys if keys.count(key) > 1]:
            raise yaml.constructor.ConstructorError(None, None, f"{twice[0]} comes twice", node.start_mark)
        return super().construct_mapping(node, deep)


def _reasons(error: ValidationError, entry: Any, number: int, shown: int = 10) -> str:
    """`mavil: row 3 (VGGSound test): known: …; …`, of the first few wrong fields."""
    name = entry.get("name") if isinstance(entry, dict) else None
    reasons = []
    for item in error.errors(include_url=False)[:shown]:
        where = list(item["loc"])
        if where[:1] == ["rows"] and len(where) > 1 and isinstance(where[1], int):
            row = entry["rows"][where[1]]
            benchmark = row.get("benchmark", "") if isinstance(row, dict) else ""
            where[:2] = [f"row {where[1] + 1} ({benchmark!s:.80})"]
        given = f" (got {item['input']!r:.60})" if item["type"] not in ("missing", "value_error") else ""
        reasons.append(": ".join([*map(str, where), item["msg"].removeprefix("Value error, ") + given]))
    more = error.error_count() - shown
    return f"{name or f'method {number}'}: " + "; ".join(reasons) + (f"; and {more} more" if more > 0 else "")
