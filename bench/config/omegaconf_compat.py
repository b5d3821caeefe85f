"""Private parts of OmegaConf (2.4.0) that show what a schema allows, where its public functions show only values.

Without them a configuration's valid keys could not be listed, nor the one nearest to an unknown key be suggested.
`tests/bench/test_compat.py` fails when an update takes one of them away.
"""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig


def is_missing(config: DictConfig) -> bool:
    """Whether the node itself is `???`; the public function asks its parent."""
    return bool(config._is_missing())


def is_none(config: DictConfig) -> bool:
    """Whether the node itself is None; a DictConfig that is None is an object all the same."""
    return bool(config._is_none())


def declared_type(config: DictConfig) -> Any:
    """The class that the node's field is declared as, also where its value is None."""
    return config._metadata.ref_type


def element_type(config: DictConfig) -> Any:
    """`str` of a field like `dict[str, str]`."""
    return config._metadata.element_type


def node(config: DictConfig, name: str) -> Any:
    """A child as a node; indexing would give None of one whose value is None, and lose its type."""
    return config._get_node(name)
