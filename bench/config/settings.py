"""`key=value` settings of the commands that need no method's configuration."""

from __future__ import annotations

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
