"""Child processes that exit when the process that started them does, even if that is killed.

This file also runs as a script beside the parent process, so it imports nothing of this package.
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

GRACE_SECONDS = 5.0  # for processes to exit by themselves before they are killed


def exit_with_parent() -> None:
    """Make this process, a child of :mod:`multiprocessing`, exit when its parent does, even if that is killed.

    Ctrl-C, which a terminal sends to all of its processes, is left to the parent.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_exit_after, args=(parent.sentinel,), daemon=True).start()


def _exit_after(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)


def kill_with_this_process(pids: Iterable[int]) -> subprocess.Popen[bytes]:
    """Start a process that kills others when this process exits, even if it is killed, or when its standard input is closed.

    Args:
        pids: ids of the processes to kill; they have five seconds to exit by themselves.
    """
    command = [sys.executable, "-P", __file__, *map(str, pids)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)  # Ctrl-C does not reach it


def _kill_after_parent(pids: Iterable[int]) -> None:
    import psutil

    alive = []
    for pid in pids:
        with suppress(psutil.NoSuchProcess):
            alive.append(psutil.Process(pid))  # remembers its start time, so a later process with this id is never killed
    sys.stdin.buffer.read()  # returns when the parent has closed its end
    for process in psutil.wait_procs(alive, GRACE_SECONDS)[1]:
        with suppress(psutil.NoSuchProcess):
            process.kill()


if __name__ == "__main__":
    _kill_after_parent(map(int, sys.argv[1:]))
