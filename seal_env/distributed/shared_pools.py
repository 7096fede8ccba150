"""The workers of this process, by what was asked for: environments that ask for the same share them."""

from __future__ import annotations

import weakref
from typing import Literal, get_args

from seal_env.distributed.pools import ProcessPool, WorkerPool

ExecutorName = Literal["spawn", "ray"]
EXECUTORS: tuple[str, ...] = get_args(ExecutorName)

_POOLS: weakref.WeakValueDictionary[tuple[str, int | None, str], WorkerPool] = weakref.WeakValueDictionary()


def shared_pool(executor: ExecutorName, workers: int | None, device: str) -> WorkerPool:
    """The workers of this kind; they end when nobody uses them any more.

    Args:
        executor: ``spawn``, processes of this machine, or ``ray``.
        workers: how many; by default one for each GPU, on a CPU one for each thread that torch uses here or CPU that Ray has.
        device: of each worker.

    Raises:
        ImportError: Ray is not installed.
        ValueError: more workers than there are GPUs or CPUs.
    """
    key = (executor, workers, device)
    pool = _POOLS.get(key)
    if pool is None:
        if executor == "ray":
            from seal_env.distributed.ray_pool import RayPool

            pool = RayPool(workers, device)
        else:
            pool = ProcessPool(workers, device)
        _POOLS[key] = pool
    return pool
