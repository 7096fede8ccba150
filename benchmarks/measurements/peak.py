"""The highest rate of floating-point operations of the machine, to which training is compared."""

from __future__ import annotations

import ctypes
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch

from seal_env.student.native import compile_library

_SOURCE = Path(__file__).with_name("peak.c")
Result = TypeVar("Result")
_STEPS = 2_000_000  # some tens of milliseconds
_REPEATS = 7


def peak_rate(device: torch.device, dtype: torch.dtype) -> tuple[float, str]:
    """Operations per second, and how they were measured.

    On the CPU in float32: fused multiply-adds in registers, with all of PyTorch's threads, which no product can exceed.
    Otherwise, and if nothing can be compiled: a square matrix product, which may be below the peak.
    """
    if device.type == "cpu" and dtype == torch.float32:
        library = compile_library(_SOURCE)
        if library is not None:
            return _multiply_add_rate(library), "fused multiply-adds in registers"
    return _matmul_rate(device, dtype), "square matrix product"


def _multiply_add_rate(library: ctypes.CDLL) -> float:
    threads = torch.get_num_threads()
    sink = torch.ones(threads)
    arguments = ctypes.c_long(_STEPS), ctypes.c_long(threads), ctypes.c_void_p(sink.data_ptr())
    rates = []
    for _ in range(_REPEATS):
        started = time.perf_counter()
        library.multiply_add(*arguments)
        rates.append(threads * _STEPS * library.operations() / (time.perf_counter() - started))
    return max(rates)


def _matmul_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Rate of the best size, the median over repeats."""
    rates = []
    for size in (512, 1024, 2048) if device.type == "cpu" else (4096, 8192):
        a, b = torch.randn(2, size, size, device=device).to(dtype)
        out = torch.empty_like(a)
        runs = []
        for _ in range(_REPEATS):
            seconds, _ = timed(device, lambda: [torch.mm(a, b, out=out) for _ in range(4)])  # noqa: B023 (called at once)
            runs.append(4 * 2 * size**3 / seconds)
        rates.append(statistics.median(runs))
    return max(rates)


def synchronize(device: torch.device) -> None:
    """Wait for all kernels on a GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def timed(device: torch.device, run: Callable[[], Result]) -> tuple[float, Result]:
    """Seconds of ``run``, with all its kernels, and what it returns."""
    synchronize(device)
    started = time.perf_counter()
    result = run()
    synchronize(device)
    return time.perf_counter() - started, result
