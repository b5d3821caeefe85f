"""`key=value` settings of the commands that need no method's configuration."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from bench.errors import UserError, unknown


def parse_options(options: Sequence[str]) -> dict[str, str]:
    """`key=value`, of any keys.

    Raises:
        UserError: for what is something else.
    """
    for option in options:
        if "=" not in option:
            raise UserError(f"{option!r} is not key=value")
    return {key: value for key, _, value in (option.partition("=") for option in options)}


def parse_settings(overrides: Sequence[str], **defaults: str) -> dict[str, str]:
    """The defaults (`__` in a name stands for a dot), changed by `key=value`.

    Raises:
        UserError: for a key that has no default, with the nearest one that has.
    """
    settings = {name.replace("__", "."): value for name, value in defaults.items()}
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals:
            raise UserError(f"{override!r} is not key=value")
        if key not in settings:
            raise unknown("setting", key, settings)
        settings[key] = value
    return settings


def positive(text: str) -> int:
    """A whole number above 0; anything else is an error of the command line."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)
