"""Private parts of Lightning (2.6.6) that stages need.

`tests/experiments/test_common_compat.py` fails when an update takes one of them away.
"""

from __future__ import annotations

import lightning as L


def trainer_of(module: L.LightningModule) -> L.Trainer | None:
    """The module's Trainer; `module.trainer` raises where there is none, e.g. where a step is only timed or tested."""
    return module._trainer
