"""Workers: how work gets to them, and what is done when they are lost."""

from __future__ import annotations

import atexit
import shutil
import tempfile
import weakref
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from seal_env.distributed.lifeline import end_with_parent
from seal_env.distributed.worker import ChunkContext, Reply, SavedWeights, Weights, begin, do
from seal_env.errors import SealError
from seal_env.student.requests import GenerationConfig, UpdateRequest


class WorkersLost(SealError):
    """Workers died again and again, or cannot be replaced; what they had not done is not done."""


class WorkerPool(ABC):
    """Some workers.

    Attributes:
        count: how many.
        lost: what :meth:`submit` or a future raises when a worker died.
        share_fate: whether all are lost when one is.
    """

    count: int
    share_fate: bool = True
    lost: tuple[type[BaseException], ...] = (BrokenExecutor,)

    @property
    def note(self) -> str:
        """Why it goes slower than it should; nothing if it does not."""
        return ""

    @property
    def broken(self) -> bool:
        """Whether workers were lost, which a future need not say where all share their fate."""
        return False

    @abstractmethod
    def submit(self, context: ChunkContext, requests: Sequence[UpdateRequest], generation: GenerationConfig) -> Future[Reply]:
        """Have this done by whoever is free next."""

    @abstractmethod
    def share(self, weights: Mapping[str, Tensor]) -> Weights:
        """Put base weights where all workers can fetch them."""

    @abstractmethod
    def recover(self) -> None:
        """See to it that work goes to other workers than those that were lost.

        Raises:
            WorkersLost: this cannot be done.
        """

    @abstractmethod
    def stop(self) -> None:
        """End what is being done, at once, and the workers that this crew started; others are started when they are needed."""


class LocalPool(WorkerPool):
    """Workers on this machine, which fetch base weights from a file.

    Args:
        count: how many.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._folder = Path(tempfile.mkdtemp(prefix="seal-env-"))
        self._versions = 0
        weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)

    @abstractmethod
    def executor(self) -> Executor:
        """To which everything is submitted."""

    @property
    def broken(self) -> bool:
        return bool(getattr(self.executor(), "_broken", False))

    def submit(self, context: ChunkContext, requests: Sequence[UpdateRequest], generation: GenerationConfig) -> Future[Reply]:
        try:
            return self.executor().submit(do, context, requests, generation)
        except Exception as error:
            if self.broken:  # in the middle of this, Python's pool closes what it would have started another worker with
                raise BrokenExecutor("a worker died while another was started") from error
            raise

    def share(self, weights: Mapping[str, Tensor]) -> Weights:
        path = self._folder / f"{self._versions}.safetensors"
        self._versions += 1
        save_file({name: weight.detach().cpu().contiguous().clone() for name, weight in weights.items()}, path)
        saved = SavedWeights(path)
        weakref.finalize(saved, path.unlink, missing_ok=True)  # when the next version has taken its place
        return saved


class ExecutorPool(LocalPool):
    """Somebody else's executor.

    Args:
        executor: of :mod:`concurrent.futures`, on this machine.

    Raises:
        ValueError: it forks.
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
        raise WorkersLost("the executor lost a worker and takes no more work: make a new one")

    def stop(self) -> None:
        """Nothing: it is not ours."""


class ProcessPool(LocalPool):
    """Processes of this machine, spawned when they are first needed, which end with this one.

    Args:
        count: how many, by default one for each GPU (``device="cuda"``), or for each thread that torch uses here; each has its
            share of these threads.
        device: of each; with ``cuda`` they take the GPUs of this machine in turn.
    """

    def __init__(self, count: int | None = None, device: str = "cpu") -> None:
        self._gpus = torch.cuda.device_count() if device == "cuda" else 0
        count = count or self._gpus or torch.get_num_threads()
        self._threads = max(1, torch.get_num_threads() // count)
        self._pool: ProcessPoolExecutor | None = None  # whose processes end when nobody refers to it any more
        super().__init__(count)
        _ALL.add(self)

    def executor(self) -> ProcessPoolExecutor:
        if self._pool is None:
            context = get_context("spawn")
            about = (self._threads, self._gpus, context.Value("i", 0))
            self._pool = ProcessPoolExecutor(self.count, context, initializer=_begin, initargs=about)
        return self._pool

    def recover(self) -> None:
        self.stop()

    def stop(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            processes = list((pool._processes or {}).values())
            pool.shutdown(wait=False, cancel_futures=True)
            for process in processes:
                process.terminate()


_ALL: weakref.WeakSet[ProcessPool] = weakref.WeakSet()


@atexit.register
def _stop_all() -> None:
    """A pool that is left to the end of Python finds half of Python gone, and says so."""
    for pool in list(_ALL):
        pool.stop()


def _begin(threads: int, gpus: int, begun: Any) -> None:
    end_with_parent()
    begin(threads)
    if gpus:
        with begun.get_lock():
            torch.cuda.set_device(begun.value % gpus)
            begun.value += 1
