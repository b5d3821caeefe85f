"""Signals that stop a run: SIGTERM and SIGUSR1 (a scheduler wants the machine) and Ctrl-C.

While a stage trains, a signal is only noted; the training saves and stops after its step (`stopping.py`). At any other
time it stops at once: all that is written takes its place whole or not at all. Imports nothing heavy, so that a run
handles signals from its first moment on.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

PREEMPTED = 75
"""Exit status (EX_TEMPFAIL) after SIGTERM or SIGUSR1: all is saved, and the same command goes on."""
INTERRUPTED = 130
"""Exit status after Ctrl-C."""
SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


class Preempted(BaseException):
    """Stops a run that received a signal. Not an `Exception`, so that handlers of faults do not catch it.

    Args:
        signum: the signal.
        step: training was saved after this one; None: it was not training.
        rank: of this process; of those that stop together the first one prints.
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
    received: int = 0
    deferred: bool = False


def signal_received() -> int:
    """The signal that this process has received; 0: none."""
    return _State.received


@contextmanager
def listening() -> Iterator[None]:
    """Handles the signals until the block ends. Signals reach the main thread only; elsewhere this does nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # A process that was started with Ctrl-C ignored (in a shell's background) goes on ignoring it.
    handled = [signum for signum in SIGNALS if signum != signal.SIGINT or signal.getsignal(signum) != signal.SIG_IGN]
    _State.received, _State.deferred = 0, False
    before = {signum: signal.signal(signum, _handle) for signum in handled}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def _handle(signum: int, frame: FrameType | None) -> None:
    again = _State.received != 0
    _State.received = _State.received or signum
    # A user who presses Ctrl-C twice does not want to wait; a scheduler's second signal means nothing more.
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
    stop_if_signalled()


def stop_if_signalled() -> None:
    """Raises again what a signal raised where Python swallows exceptions (`__del__`)."""
    if _State.received:
        raise Preempted(_State.received)
