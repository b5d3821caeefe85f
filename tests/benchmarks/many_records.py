"""How long the tables of very many records take, and how much memory: made-up records, one a row. Run it by hand:

    python -m tests.benchmarks.many_records [count=100000] [folder=/tmp/many-records]

Writes the records (kept for the next time), then rebuilds all tables in a process of its own; its memory and that of
the processes that it starts is looked at ten times a second (`Pss`: shared pages are counted once).
"""

from __future__ import annotations

import json
import multiprocessing
import random
import re
import sys
import time
from pathlib import Path

from bench import registry
from bench.progress import track
from bench.records.archive import hash_of
from bench.records.record import Record, json_text
from bench.tables import boards
from bench.tasks import task_of

TEMPLATE = Path("leaderboards/results")


def make(folder: Path, count: int) -> None:
    """`count` records of all boards in turn, like a real one but for what a row differs in."""
    real = Record.model_validate_json(min(TEMPLATE.glob("*.json")).read_bytes())
    content = json.loads(real.to_json())
    rng = random.Random(0)
    known = list(registry.boards().values())
    folder.mkdir(parents=True, exist_ok=True)
    for i in track(range(count), "making records", count):
        board, number = known[i % len(known)], i // len(known)
        content |= {
            "method": f"method{number % 40}",
            "variant": f"v{number // 40}",
            "board": board.name,
            "protocol": board.protocol(),
            "seed": 0,
            "fold": "",
            "created": f"2026-{1 + i % 12:02}-{1 + i % 28:02}T{i % 24:02}:{i % 60:02}:00.{i:06}Z",
            "modality": ("a", "v", "av", "avt")[number % 4],
            "dirty": i % 7 == 0,
            "config_hash": f"{i:08x}",
            "identity": f"{i:010x}",
            "chance": {},
            "metrics": {name: metric(info.highest, rng) for name, info in task_of(board).metrics.items()},
            "id": f"method{number % 40}-train-{board.name}-{i:016x}",
        }
        content["cost"] |= {"parameters": rng.randrange(10**9), "total_device_hours": rng.uniform(0, 1000)}
        name = content["id"].rpartition("-")[0]
        content["id"] = f"{name}-{hash_of(json_text(content | {'id': 'draft'}), 'draft')}"
        (folder / f"{content['id']}.json").write_text(json_text(content))


def metric(highest: float, rng: random.Random) -> dict[str, float]:
    scale = 1.0 if highest == 1 else 100.0
    value = scale * rng.uniform(0.05, 0.95)
    return {"value": value, "low": value - 0.02 * scale, "high": value + 0.02 * scale}


def rebuild(leaderboards: Path) -> None:
    began = time.monotonic()
    tables = boards.rebuild(leaderboards, sample=False)
    print(f"{sum(len(table.rows) for table in tables):,} rows in {time.monotonic() - began:.1f} s")


def memory_of(process: int) -> int:
    """Bytes of a process and of those that it started."""
    try:
        own = 1024 * int(
            re.search(r"^Pss:\s*(\d+)", Path(f"/proc/{process}/smaps_rollup").read_text(), re.MULTILINE)[1]
        )
        children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    except (OSError, TypeError):  # has ended
        return 0
    return own + sum(memory_of(int(child)) for child in children)


def main(count: str = "100000", folder: str = "/tmp/many-records") -> None:
    results = boards.records_folder(Path(folder), sample=False)
    if len([*results.glob("*.json")]) != int(count):
        make(results, int(count))
    process = multiprocessing.get_context("spawn").Process(target=rebuild, args=(Path(folder),))
    began, peak = time.monotonic(), 0
    process.start()
    while process.is_alive():
        peak = max(peak, memory_of(process.pid))
        process.join(0.1)
    print(f"the process took {time.monotonic() - began:.1f} s, with all that it started {peak / 2**20:,.0f} MiB")


if __name__ == "__main__":
    main(**dict(argument.split("=") for argument in sys.argv[1:]))
