"""Processes that a test starts, and whether any of them, or of those that they start, is left."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

needs_proc = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks processes up in /proc")


def marked(folder: Path) -> tuple[dict[str, str], str]:
    """An environment for a process whose descendants are to be found again, and the mark that is in it."""
    return {**os.environ, "SEAL_TEST_MARK": str(folder), "OMP_NUM_THREADS": "1"}, f"SEAL_TEST_MARK={folder}"


def started_with(mark: str) -> dict[int, str]:
    """Commands of living processes with this mark in their environment, by number."""
    found = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            environment = (folder / "environ").read_bytes().split(b"\0")
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue  # it ended, or is somebody else's
        if mark.encode() in environment:
            found[int(folder.name)] = command
    return found


def left_of(mark: str, patience: float = 30.0) -> dict[int, str]:
    """Those of :func:`started_with` that are still there after so many seconds."""
    end = time.monotonic() + patience
    while (left := started_with(mark)) and time.monotonic() < end:
        time.sleep(0.2)
    return left
