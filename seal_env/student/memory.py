"""Memory: how much is available, how to keep freed memory, and how to recognize that it ran out."""

from __future__ import annotations

import ctypes
import functools
import gc
import logging
import os

import torch

# glibc's <malloc.h>
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
_KEEP = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_TOP_PAD, 64 << 20))
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
    """Free memory of ``device``."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 4 << 30


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
