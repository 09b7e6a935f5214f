"""Ctrl-C and termination, heard at a moment of our choice."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def interruptible() -> Iterator[Callable[[], None]]:
    """Give a `check` that leaves by SystemExit (128 + signal) once SIGINT or SIGTERM has come.

    Inside, the first signal is only noted: an exception that is raised while a C library calls us back is
    printed and lost, and the signal with it. A second one is raised at once. A signal that no `check` saw is
    raised at the end. Signals that are ignored stay so; outside the main thread nothing is changed.
    """
    received: list[int] = []

    def note(number: int, frame: object) -> None:
        received.append(number)
        if len(received) > 1:
            check()

    def check() -> None:
        if received:
            raise SystemExit(128 + received[0])

    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, note)
    try:
        yield check
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    check()
