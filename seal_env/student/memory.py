"""Memory: how much is available, how to keep freed memory, and how to recognize that it ran out."""

from __future__ import annotations

import ctypes
import functools
import gc
import logging
import os
from pathlib import Path

import torch

# glibc's <malloc.h>
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
_KEEP = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_TOP_PAD, 64 << 20))
_MEMINFO, _CGROUP = Path("/proc/meminfo"), Path("/sys/fs/cgroup")
_log = logging.getLogger(__name__)


@functools.cache
def keep_freed_memory() -> bool:
    """Tell glibc to keep freed memory for the next allocation instead of returning it to the system.

    Otherwise large tensors get fresh pages each time, and a training loop on the CPU can spend a third of its time in the
    kernel, which zeroes them. The setting is for the whole process, whose resident size then stays at its peak.

    Returns:
        Whether it could be set (False, with a line in the log, for other C libraries).
    """
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
        kept = all(mallopt(option, value) == 1 for option, value in _KEEP)
    except (OSError, AttributeError):
        kept = False
    if not kept:
        _log.warning(
            "freed memory cannot be kept here (no glibc, or mallopt refused): training on the CPU may be a third slower"
        )
    return kept


def available_bytes(device: torch.device) -> int:
    """Memory of ``device`` that can be allocated. On the CPU, files in the page cache do not count as used."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    bounds = [bound for bound in (_available_in_system(), _available_in_container()) if bound is not None]
    return min(bounds, default=4 << 30)


def _available_in_system() -> int | None:
    try:
        return _number_of(_MEMINFO, "MemAvailable:") << 10
    except (OSError, ValueError):  # not Linux
        pass
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def _available_in_container() -> int | None:
    """What the process's control group leaves; None if it has no limit."""
    try:
        limit, used = (int((_CGROUP / name).read_text()) for name in ("memory.max", "memory.current"))
        return max(0, limit - used + _number_of(_CGROUP / "memory.stat", "inactive_file"))
    except (OSError, ValueError):  # no such files, or "max"
        return None


def _number_of(file: Path, name: str) -> int:
    """The number after ``name`` in a file of lines ``name number``."""
    for line in file.read_text().splitlines():
        if line.split()[:1] == [name]:
            return int(line.split()[1])
    raise ValueError(f"{file} has no {name}")


# In the messages of plain RuntimeErrors: the CPU's allocator, CUDA, the workspaces of cuBLAS and cuDNN.
_NO_MEMORY = ("can't allocate memory", "CUDA error: out of memory", "STATUS_ALLOC_FAILED")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` says that an allocation failed, on any device."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(message in str(error) for message in _NO_MEMORY)


def free_cached(device: torch.device) -> None:
    """Free PyTorch's cached memory. Call it outside of the except clause, as the traceback of an error holds tensors."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
