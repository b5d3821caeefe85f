"""Weights that a network's library offers (`init: imagenet`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor


def offered(load: Callable[[], Mapping[str, Tensor]], what: str, source: str) -> Mapping[str, Tensor]:
    """What `load` gives, which may download it.

    Args:
        load: the library's own function.
        what: it is, for the message.
        source: the library's name of it, or its address.

    Raises:
        ValueError: it could not be downloaded.
    """
    try:
        return load()
    except (OSError, RuntimeError) as error:  # no network (URLError is an OSError), or a damaged file
        raise ValueError(
            f"{what} could not be downloaded ({error}); fetch {source} elsewhere and set init=FILE"
        ) from error
