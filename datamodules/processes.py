"""Processes that work for this one."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import active_children, parent_process, resource_tracker
from multiprocessing.connection import wait
from multiprocessing.context import SpawnContext, SpawnProcess
from multiprocessing.process import BaseProcess

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
"""Signals that stop a run, often sent to the whole process group at once."""
SECONDS_TO_END = 5.0
"""From the moment at which a process that is killed no longer answers to its end; far longer than that ever takes."""


def end_with_parent() -> None:
    """Ends this process when the one that started it is gone, even killed; a pool's would wait for work forever.

    The `initializer` of a pool.
    """

    def follow() -> None:
        parent = parent_process()
        assert parent is not None
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


class WorkerProcess(SpawnProcess):
    """A loader's process. It is spawned: decoders keep threads of their own, which a fork would not carry over.

    It ends with its work, as a forked one does, and not by way of Python's own end: that stops the thread that still
    sends batches in the middle of torch's C++, which aborts the process (`terminate called without an active
    exception`), and the run takes it for a worker that was killed.
    """

    def run(self) -> None:
        end_with_parent()
        super().run()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


class WorkerContext(SpawnContext):
    """What a DataLoader takes its `WorkerProcess`es from."""

    Process = WorkerProcess


def any_ends(processes: Sequence[BaseProcess]) -> bool:
    """Whether one of them is gone. Of one that is killed, its connections end a moment before itself.

    Those that are gone are gone wholly: of a loader's worker, torch's handler of SIGCHLD would otherwise raise its
    error whenever the signal comes, in the middle of what follows.
    """
    gone = wait([process.sentinel for process in processes], SECONDS_TO_END)
    for process in processes:
        if process.sentinel in gone:
            process.join(SECONDS_TO_END)
    return bool(gone)


@contextmanager
def deaf_processes() -> Iterator[None]:
    """Processes that are started in this block ignore `STOP_SIGNALS`: the process that started them ends them.

    The signals are held back here, too, until the block ends; a new process inherits that and keeps it.
    """
    resource_tracker.ensure_running()  # its start would let the signals through again
    others = set(active_children())
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        for process in set(active_children()) - others:
            atexit.register(_kill, process)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _kill(process: BaseProcess) -> None:
    """Before the end of Python, where multiprocessing sends SIGTERM to what is still there and waits for it to end."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's handler reports a loader's worker that was killed
    process.kill()
