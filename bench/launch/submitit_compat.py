"""Private parts of submitit that launching needs, with the version it was written against.

Nothing else in `bench` may use these; `tests/bench/test_compat.py` fails when an update takes one of them away.
"""

from __future__ import annotations

import signal

from submitit.local.local import LocalJob


def send_signal(job: LocalJob[None], number: signal.Signals) -> None:
    """Sends a signal to a job's process, if it has started (submitit 1.5.4).

    `LocalJob.cancel` would send SIGINT, which ends a job without saving.
    """
    if job._process is not None:
        job._process.send_signal(number)
