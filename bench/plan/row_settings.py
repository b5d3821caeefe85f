"""The settings of a planned stage by which tables distinguish a method's rows."""

from __future__ import annotations

import json
from typing import Any

from bench import registry
from bench.config.configured import chosen_precision, model_settings, of_row, stage_settings, trainer_settings
from bench.config.schema import BenchConfig
from bench.plan.graph import PlannedStage
from bench.plan.identity import contents, parts_that_count


def row_settings(config: BenchConfig, stage: PlannedStage) -> dict[str, Any]:
    """What distinguishes a row of a table, as plain data: see `configured.of_row`."""
    chain = (*stage.ancestors, stage)
    model: dict[str, Any] = {}
    for each in chain:
        model |= model_settings(config.model, each.config, each.stage_class)
    trainer = trainer_settings(config.trainer, trains=any(each.config.train for each in chain))
    trainer |= chosen_precision(config.trainer.precision)
    stages = {
        each.name: contents(stage_settings(each.config)) | parts_that_count(each.config, each.stage_class, each.parts)
        for each in chain
    }
    sources = [source for each in chain for source in (each.config.objects.source, *each.config.objects.parts.values())]
    datasets = {source.name: source.version for source in sources}
    found = of_row(stages, model, trainer, registry.method_version(config.method), datasets)
    if stage.learns_from_sample and not stage.is_sample:
        found |= {"training_data": "made-up"}  # real data may be named by the same configuration
    return json.loads(json.dumps(found, sort_keys=True))  # lists where it has tuples
