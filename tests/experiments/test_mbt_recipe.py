"""MBT's recipe against the schedule of the authors' released configuration (`tests/golden/mbt_schedules.json`)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.config.compose import compose
from experiments.common.optim import peak_lr, schedule_factor

RATES = json.loads((Path(__file__).parent.parent / "golden" / "mbt_schedules.json").read_text())["rates"]
STAGES = {name: stage for name, stage in compose("mbt", ["preset=paper"]).stages.items() if stage.train}


@pytest.mark.parametrize("name", STAGES)
@pytest.mark.parametrize(("steps", "every"), [(4, 1), (318, 53)])
def test_the_rate_of_every_step_is_that_of_the_authors_scheduler(name, steps, every):
    stage = STAGES[name]
    peak = peak_lr(stage.optim, stage.batch_size)
    rates = [
        peak * schedule_factor(stage.optim, stage.batch_size, step, steps, stage.epochs)
        for step in range(0, steps * stage.epochs, every)
    ]
    assert rates == pytest.approx(RATES[str(steps)], rel=1e-5, abs=1e-7)  # theirs is computed in float32
