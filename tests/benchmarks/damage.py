"""Two thousand damaged files: what becomes of each kind of damage, and what decoding them costs and leaves behind.

python tests/benchmarks/damage.py [good files a container, 40]
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter, defaultdict
from itertools import tee
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from datamodules.media.decode import REASONS, check
from tests.datamodules.damage import BREAKS, CONTAINERS, damaged_files
from tests.datamodules.examine import Outcome, examine_all

LIMIT_SECONDS = 5.0
TOLERANCE_SECONDS = 0.55
"""What `check` tolerates, and a frame."""
MEGABYTE = 1e6


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 40
    with tempfile.TemporaryDirectory() as folder:
        files, again = tee(damaged_files(Path(folder), count))
        outcomes = examine_all((broken for *_, broken in again), LIMIT_SECONDS)
        results, whole = [], {}
        for (container, name, good, _), outcome in zip(files, outcomes, strict=True):
            if good not in whole:
                whole[good] = check(good, need_audio=True, need_video=True).duration
            results.append((container, name, outcome, outcome.duration - whole[good]))
            if any(verdict not in ("read", *REASONS) for verdict in outcome.verdicts):
                print(outcome)
    table(results)
    costs([outcome for _, _, outcome, _ in results])


def table(results: list[tuple[str, str, Outcome, float]]) -> None:
    """Break x container -> how often which verdict, and the slowest file.

    Files that are read are counted apart where their duration differs from the good file's.
    """
    verdicts, slowest = defaultdict(Counter), Counter()
    for container, name, outcome, change in results:
        other = f"read, {'shorter' if change < 0 else 'longer'}" if abs(change) > TOLERANCE_SECONDS else outcome.check
        verdicts[name, container][other] += 1
        slowest[name] = max(slowest[name], outcome.seconds)
    for name in BREAKS:
        print(f"\n{name}: at most {slowest[name]:.2f} s a file")
        for container in CONTAINERS:
            counts = ", ".join(f"{count} {verdict}" for verdict, count in verdicts[name, container].most_common())
            print(f"  {container:5} {counts}")


def costs(outcomes: list[Outcome]) -> None:
    measured = [outcome for outcome in outcomes if outcome.memory]
    first, middle, last = measured[0], measured[len(measured) // 2], measured[-1]
    print(f"\n{len(outcomes)} files in {sum(outcome.seconds for outcome in outcomes):.0f} s of examining")
    slowest = max(outcomes, key=lambda outcome: outcome.seconds)
    print(f"slowest: {slowest.seconds:.2f} s, {slowest.path.name}")
    for title, outcome in (("first", first), ("middle", middle), ("last", last)):
        print(f"after the {title} file: {outcome.memory / MEGABYTE:.0f} MB resident, {outcome.handles} open handles")
    steps = [(after.peak - before.peak, after) for before, after in zip(measured, measured[1:], strict=False)]
    step, outcome = max(steps, key=lambda pair: pair[0])
    print(f"peak {last.peak / MEGABYTE:.0f} MB; the greatest step {step / MEGABYTE:.0f} MB, at {outcome.path.name}")


if __name__ == "__main__":
    main()
