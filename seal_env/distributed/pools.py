"""Worker pools: how chunks reach workers, and how dead workers are replaced."""

from __future__ import annotations

import atexit
import shutil
import tempfile
import weakref
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from seal_env.distributed.lifetime import exit_with_parent
from seal_env.distributed.worker import ChunkContext, LoadWeights, init_worker, run_chunk
from seal_env.errors import SealError
from seal_env.student.requests import GenerationConfig, UpdateRequest, UpdateResult

ExecutorName = Literal["spawn", "ray"]
EXECUTORS: tuple[str, ...] = get_args(ExecutorName)


class WorkersLost(SealError):
    """Workers died too often, or cannot be replaced; what they had not finished is not done."""


class WorkerPool(ABC):
    """A number of workers that run chunks of update requests.

    Attributes:
        count: number of workers.
        worker_died: what :meth:`submit` or a future raises when a worker died.
        fails_together: whether all workers are lost when one is.
    """

    count: int
    fails_together: bool = True
    worker_died: tuple[type[BaseException], ...] = (BrokenExecutor,)

    @property
    def warning(self) -> str:
        """Why the pool is slower than it should be; empty if it is not."""
        return ""

    @property
    def broken(self) -> bool:
        """Whether workers were lost; where ``fails_together``, not every future raises ``worker_died``."""
        return False

    @abstractmethod
    def submit(
        self, context: ChunkContext, requests: Sequence[UpdateRequest], generation: GenerationConfig
    ) -> Future[list[UpdateResult]]:
        """Run a chunk on the next free worker, see :func:`seal_env.distributed.worker.run_chunk`."""

    @abstractmethod
    def store_weights(self, weights: Mapping[str, Tensor]) -> LoadWeights:
        """Store base weights where all workers can load them, and return the function that does."""

    @abstractmethod
    def recover(self) -> None:
        """Replace the workers that died.

        Raises:
            WorkersLost: they cannot be replaced.
        """

    @abstractmethod
    def stop(self) -> None:
        """Cancel all chunks at once and end the workers that this pool started. They start again when they are needed."""


class LocalPool(WorkerPool):
    """Workers on this machine, which load base weights from files.

    Args:
        count: number of workers.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._folder = Path(tempfile.mkdtemp(prefix="seal-env-"))
        self._versions = 0
        weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)

    @abstractmethod
    def executor(self) -> Executor:
        """The executor that runs all chunks."""

    @property
    def broken(self) -> bool:
        return bool(getattr(self.executor(), "_broken", False))

    def submit(
        self, context: ChunkContext, requests: Sequence[UpdateRequest], generation: GenerationConfig
    ) -> Future[list[UpdateResult]]:
        try:
            return self.executor().submit(run_chunk, context, requests, generation)
        except Exception as error:
            if self.broken:  # an executor that breaks while it starts a worker closes the pipes that it is about to use
                raise BrokenExecutor("a worker died while another was started") from error
            raise

    def store_weights(self, weights: Mapping[str, Tensor]) -> LoadWeights:
        path = self._folder / f"{self._versions}.safetensors"
        self._versions += 1
        save_file({name: weight.detach().cpu().contiguous().clone() for name, weight in weights.items()}, path)
        load = partial(load_file, path)
        weakref.finalize(load, path.unlink, missing_ok=True)  # once the next version has replaced it
        return load


class ExecutorPool(LocalPool):
    """An executor that the user made and shuts down.

    Args:
        executor: of :mod:`concurrent.futures`, on this machine.

    Raises:
        ValueError: its workers are forked.
    """

    def __init__(self, executor: Executor) -> None:
        context = getattr(executor, "_mp_context", None)
        if context is not None and context.get_start_method() == "fork":
            raise ValueError(
                "this executor forks its workers, which then have torch's locks but not its threads and can hang: make it with"
                " mp_context=multiprocessing.get_context('spawn')"
            )
        super().__init__(getattr(executor, "_max_workers", 1))
        self._executor = executor

    def executor(self) -> Executor:
        return self._executor

    def recover(self) -> None:
        raise WorkersLost("the executor lost a worker and accepts no more work: make a new one")

    def stop(self) -> None:
        """Does nothing: the user shuts the executor down."""


class ProcessPool(LocalPool):
    """Spawned processes of this machine. They start when they are first needed and end with this process.

    Args:
        count: number of processes, by default one for each GPU (``device="cuda"``) or for each thread that torch uses here. The
            processes share these threads.
        device: of each process; with ``cuda`` they take the GPUs of this machine in turn.
    """

    def __init__(self, count: int | None = None, device: str = "cpu") -> None:
        self._gpus = torch.cuda.device_count() if device == "cuda" else 0
        count = count or self._gpus or torch.get_num_threads()
        self._threads = max(1, torch.get_num_threads() // count)
        self._executor: ProcessPoolExecutor | None = None  # its processes end when it is garbage-collected
        super().__init__(count)
        _PROCESS_POOLS.add(self)

    def executor(self) -> ProcessPoolExecutor:
        if self._executor is None:
            context = get_context("spawn")
            settings = (self._threads, self._gpus, context.Value("i", 0))
            self._executor = ProcessPoolExecutor(self.count, context, initializer=_init_process, initargs=settings)
        return self._executor

    def recover(self) -> None:
        self.stop()

    def stop(self) -> None:
        executor, self._executor = self._executor, None
        if executor is not None:
            processes = list((executor._processes or {}).values())
            executor.shutdown(wait=False, cancel_futures=True)
            for process in processes:
                process.terminate()


def _init_process(threads: int, gpus: int, started: Any) -> None:
    exit_with_parent()
    init_worker(threads)
    if gpus:
        with started.get_lock():
            torch.cuda.set_device(started.value % gpus)
            started.value += 1


_PROCESS_POOLS: weakref.WeakSet[ProcessPool] = weakref.WeakSet()


@atexit.register
def _stop_process_pools() -> None:
    """Without this, an executor that is left to the interpreter's shutdown prints errors."""
    for pool in list(_PROCESS_POOLS):
        pool.stop()


_SHARED_POOLS: weakref.WeakValueDictionary[tuple[str, int | None, str], WorkerPool] = weakref.WeakValueDictionary()


def shared_pool(executor: ExecutorName, workers: int | None, device: str) -> WorkerPool:
    """The pool of this process for these arguments, which environments share. Its workers end when nothing refers to it.

    Args:
        executor: ``spawn``, processes of this machine, or ``ray``.
        workers: number of workers; by default one for each GPU, on a CPU one for each thread that torch uses here or each CPU
            that Ray has.
        device: of each worker.

    Raises:
        ImportError: Ray is not installed.
        ValueError: there are more workers than GPUs or CPUs.
    """
    key = (executor, workers, device)
    pool = _SHARED_POOLS.get(key)
    if pool is None:
        if executor == "ray":
            from seal_env.distributed.ray_pool import RayPool

            pool = RayPool(workers, device)
        else:
            pool = ProcessPool(workers, device)
        _SHARED_POOLS[key] = pool
    return pool
