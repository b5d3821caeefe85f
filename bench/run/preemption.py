"""Being told to stop: SIGTERM and SIGUSR1 (a scheduler wants the machine) and Ctrl-C.

While a stage trains, a signal is only noted; the training saves and stops after its step (`stopping.py`). At any other
time it stops at once: all that is written takes its place whole or not at all. Imports nothing heavy, so that a run
hears from its first moment on.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

PREEMPTED = 75
"""Exit status (EX_TEMPFAIL): told to stop by SIGTERM or SIGUSR1, all is saved, the same command goes on."""
INTERRUPTED = 130
"""Exit status after Ctrl-C."""
SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


class Preempted(BaseException):
    """Stops a run that was told to. No `Exception`: who handles faults does not handle this.

    Args:
        signum: what told it.
        step: training was saved after this one; None: it was not training.
        rank: of this process; the first one of those that stop together tells.
    """

    def __init__(self, signum: int, step: int | None = None, rank: int = 0):
        self.signum, self.step, self.rank = signum, step, rank
        super().__init__(signum, step, rank)

    @property
    def exit_status(self) -> int:
        return INTERRUPTED if self.signum == signal.SIGINT else PREEMPTED

    def __str__(self) -> str:
        if self.step is None or self.signum == signal.SIGINT:
            return "stopped; the same command goes on from here"
        return f"stopped after step {self.step}, saved; the same command goes on"


class _State:
    told: int = 0
    deferred: bool = False


def told() -> int:
    """The signal that told this process to stop; 0: none."""
    return _State.told


@contextmanager
def listening() -> Iterator[None]:
    """Hears the signals until the block ends. Signals reach the main thread only; elsewhere this does nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # Who starts a process with Ctrl-C ignored (a shell's background) wants it ignored.
    heard = [signum for signum in SIGNALS if signum != signal.SIGINT or signal.getsignal(signum) != signal.SIG_IGN]
    _State.told, _State.deferred = 0, False
    before = {signum: signal.signal(signum, _hear) for signum in heard}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def _hear(signum: int, frame: FrameType | None) -> None:
    again = _State.told != 0
    _State.told = _State.told or signum
    # One who presses Ctrl-C twice does not want to wait; a scheduler that says it twice does not mean more.
    if signum == signal.SIGINT if again else not _State.deferred:
        raise Preempted(signum)


@contextmanager
def deferred() -> Iterator[None]:
    """Signals are noted in this block and answered at its end, unless what runs in it answers before."""
    _State.deferred = True
    try:
        yield
    finally:
        _State.deferred = False
    stop_if_told()


def stop_if_told() -> None:
    """An exception that a signal raises in a place where Python swallows it (`__del__`) is raised again here."""
    if _State.told:
        raise Preempted(_State.told)
