"""A device with little memory: a GPU with a lower limit, or a CPU that refuses allocations as a GPU does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


@contextmanager
def limited_memory(device: torch.device, limit: int) -> Iterator[None]:
    """Context in which more than ``limit`` bytes of new tensors raise ``torch.OutOfMemoryError``."""
    if device.type != "cuda":
        with LimitedMemory(limit):
            yield
        return
    torch.cuda.empty_cache()
    total = torch.cuda.mem_get_info(device)[1]
    torch.cuda.set_per_process_memory_fraction(min(1.0, (torch.cuda.memory_reserved(device) + limit) / total), device)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)


class LimitedMemory(TorchDispatchMode):
    """Context in which an operation raises ``torch.OutOfMemoryError`` if its result does not fit, on any device.

    As with CUDA's allocator, operations in place need no memory, and tensors without references are free.

    Args:
        limit: bytes of all tensors that are allocated within.
    """

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit = limit
        self.allocations = 0
        self._live: dict[int, tuple[StorageWeakRef, int]] = {}  # a weak reference keeps an address from being used again
        self._bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        given = {_address(leaf) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor) and _address(tensor) not in given:
                self._allocated(tensor)
        return out

    def _allocated(self, tensor: Tensor) -> None:
        address, storage = _address(tensor), tensor.untyped_storage()
        if address in self._live and not self._live[address][0].expired():
            return
        self.allocations += 1
        if self._bytes + storage.nbytes() > self.limit:
            self._live = {key: (ref, size) for key, (ref, size) in self._live.items() if not ref.expired()}
            self._bytes = sum(size for _, size in self._live.values())
        if self._bytes + storage.nbytes() > self.limit:
            raise torch.OutOfMemoryError(
                f"{storage.nbytes():,} bytes do not fit: {self._bytes:,} of {self.limit:,} are in use, by a limit"
            )
        self._live[address] = StorageWeakRef(storage), storage.nbytes()
        self._bytes += storage.nbytes()


def _address(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)
