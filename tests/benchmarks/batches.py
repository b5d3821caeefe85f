"""Hashes of the batches that every stage of every method reads of the sample data, one line a stage.

Two commits that print the same lines on one machine read the same, to the bit:

    python -m tests.benchmarks.batches [METHOD …] [key=value …] > before.txt
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator, Mapping
from itertools import islice
from types import SimpleNamespace
from typing import Any

import torch

from bench import registry
from bench.config.compose import compose
from bench.errors import UserError
from bench.plan.graph import PlannedStage, make_plan
from bench.plan.layout import DONE
from bench.run.execute import data_module

BATCHES = 2
"""Of training, and of what is scored."""


def digest(value: Any, into: Any) -> None:
    """Adds a batch, or a part of one, to a hash."""
    if isinstance(value, torch.Tensor):
        into.update(f"{value.dtype}{tuple(value.shape)}".encode())
        into.update(value.contiguous().numpy().tobytes())
    elif isinstance(value, Mapping):
        for name in sorted(value):
            into.update(name.encode())
            digest(value[name], into)
    else:
        into.update(repr(value).encode())


def hashes(stage: PlannedStage) -> Iterator[str]:
    """Of the first training batches and of the first that are scored, as the stage's network sees them."""
    data = data_module(stage, stage.scored)
    for training, clips in ((True, stage.train), (False, stage.scored)):
        if clips is None:
            yield "-"
            continue
        data.trainer = SimpleNamespace(  # type: ignore[assignment]  # all that it asks of one
            training=training,
            num_devices=1,
            world_size=1,
            global_rank=0,
            global_step=0,
            accumulate_grad_batches=1,
            strategy=SimpleNamespace(root_device=torch.device("cpu")),
        )
        into = hashlib.sha256()
        for batch in islice(data.train_dataloader() if training else data.test_dataloader(), BATCHES):
            digest(data.on_after_batch_transfer(batch, 0), into)
        yield into.hexdigest()[:16]


def main() -> None:
    methods = [word for word in sys.argv[1:] if "=" not in word] or registry.methods()
    settings = [word for word in sys.argv[1:] if "=" in word]
    for method in methods:
        for name in compose(method, []).stages:
            try:
                stage = make_plan(compose(method, [f"stage={name}", "data.loader.workers=0", *settings])).stages[-1]
            except UserError as error:
                print(method, name, f"not planned: {str(error).splitlines()[0][:120]}", flush=True)
                continue
            if missing := [other.name for other in stage.features.values() if not (other.folder / DONE).is_file()]:
                print(method, name, f"features of {missing} are not there", flush=True)
                continue
            print(method, name, *hashes(stage), flush=True)


if __name__ == "__main__":
    main()
