"""Find the processes that a test started, and their descendants, by a variable in their environment."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

needs_proc = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds processes in /proc")


def tagged_environment(folder: Path) -> tuple[dict[str, str], str]:
    """Environment variables for a process, and the tag among them by which it and its descendants are found."""
    return {**os.environ, "SEAL_TEST_TAG": str(folder), "OMP_NUM_THREADS": "1"}, f"SEAL_TEST_TAG={folder}"


def running(tag: str) -> dict[int, str]:
    """Command lines of the running processes with this tag, by process id."""
    commands = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            environment = (folder / "environ").read_bytes().split(b"\0")
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue  # it ended, or belongs to another user
        if tag.encode() in environment:
            commands[int(folder.name)] = command
    return commands


def still_running(tag: str, timeout: float = 30.0) -> dict[int, str]:
    """Those of :func:`running` that have not ended after ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    while (commands := running(tag)) and time.monotonic() < deadline:
        time.sleep(0.2)
    return commands
