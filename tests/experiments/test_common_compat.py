"""What stages need of Lightning's private parts is still there."""

from __future__ import annotations

import lightning as L

from experiments.common.compat import trainer_of


def test_lightning_tells_whether_a_module_has_a_trainer() -> None:
    module = L.LightningModule()
    assert trainer_of(module) is None
    module.trainer = trainer = L.Trainer(accelerator="cpu", devices=1, logger=False, barebones=True)
    assert trainer_of(module) is trainer
