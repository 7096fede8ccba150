"""Memory: keeping what the C library would hand back, how much there is to use, and what to do where it runs out."""

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

    Large tensors otherwise live in fresh pages each time, and a training loop on the CPU can spend a third of its time
    having them zeroed by the kernel. For the whole process, once; the cost is that its resident size stays at its peak.

    Returns:
        Whether the setting took (False, with a line in the log, where the C library is another one).
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
    """Memory that is free now on ``device``."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 4 << 30


# Of those that raise a plain RuntimeError: the CPU's allocator, CUDA's own, the workspaces of cuBLAS and cuDNN.
_NO_MEMORY = ("can't allocate memory", "CUDA error: out of memory", "STATUS_ALLOC_FAILED")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` says that an allocation failed, on any device."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _NO_MEMORY)


def free_cached(device: torch.device) -> None:
    """Hand back what PyTorch keeps for later allocations. Call it when the error is gone: its traceback holds tensors."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
