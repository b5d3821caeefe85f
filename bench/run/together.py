"""The processes that train together on one machine end together, also if one of them is killed.

Those of torchrun and srun are watched by these; here it is those that Lightning's launcher starts from the first one.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time

from bench.config import launched
from bench.run.compat import observe_ranks
from bench.run.faults import GO_ON, LOST_RANK

PR_SET_PDEATHSIG = 1
GRACE_SECONDS = 60.0
"""For the first process to end by itself when another one has reported an error and ended."""


def end_together() -> None:
    """To be called by each process before it trains."""
    observe_ranks(watch)
    if launched.launched() is None and int(os.environ.get("LOCAL_RANK", 0)) > 0 and sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def watch(others: list[subprocess.Popen]) -> None:
    """Takes the place of Lightning's observer, which kills this process without a word, even where it is saving."""
    threading.Thread(target=_watch, args=(others,), daemon=True).start()


def _watch(others: list[subprocess.Popen]) -> None:
    while True:
        time.sleep(1)
        ended = [status for other in others if (status := other.poll())]
        if ended:
            break
    if ended[0] > 0:  # it reported its error
        time.sleep(GRACE_SECONDS)
        os._exit(ended[0])
    print(f"bench: {LOST_RANK}: {GO_ON}", file=sys.stderr, flush=True)
    os._exit(2)
