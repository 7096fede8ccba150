"""Processes that were started by another end with it, however that ends.

This file is also what runs beside a process to end others after it, so it imports nothing of this package.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable
from contextlib import suppress
from multiprocessing.connection import wait

PATIENCE = 5.0  # seconds in which processes may end by themselves after the one they end with


def end_with_parent() -> None:
    """From now on this process, a child of :mod:`multiprocessing`, ends when its parent does, even if that is killed.

    Ctrl-C, which a terminal sends to all of them, is left to the parent.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_watch, args=(parent.sentinel,), daemon=True).start()


def _watch(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)


def end_after_this(processes: Iterable[int]) -> subprocess.Popen[bytes]:
    """Have processes end when this one does, even if it is killed, or when the standard input of what is returned is closed.

    Args:
        processes: their numbers.

    Returns:
        The process that sees to it, after this one if need be, and ends then itself.
    """
    command = [sys.executable, "-P", __file__, *map(str, processes)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)  # Ctrl-C is not for it


def _end_after_parent(processes: Iterable[int]) -> None:
    import psutil

    alive = []
    for number in processes:
        with suppress(psutil.NoSuchProcess):
            alive.append(psutil.Process(number))  # which knows when it was started, and so is no later one of this number
    sys.stdin.buffer.read()  # nothing, until the other end is gone
    for process in psutil.wait_procs(alive, PATIENCE)[1]:
        with suppress(psutil.NoSuchProcess):
            process.kill()


if __name__ == "__main__":
    _end_after_parent(map(int, sys.argv[1:]))
