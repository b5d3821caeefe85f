"""Errors that a user can cure: shown as one message without a traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class UserError(Exception):
    """What is wrong, and what to do about it. The command line prints it and exits with 2."""


def unknown(kind: str, name: str, valid: Iterable[str]) -> UserError:
    """For example `no such method: 'mavli'. Did you mean 'mavil'? There are: ...`."""
    names = sorted(valid)
    folded = {each.casefold(): each for each in names}
    near = difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=0.5)
    hint = f" Did you mean {folded[near[0]]!r}?" if near else ""
    return UserError(f"no such {kind}: {name!r}.{hint} There are: {', '.join(names) or 'none'}")


@contextmanager
def as_user_error(what: str) -> Iterator[None]:
    """Turns a method's `ValueError` (settings or weights that do not fit) into a `UserError` that names `what`."""
    try:
        yield
    except ValueError as error:
        raise UserError(f"{what}: {error}") from error
