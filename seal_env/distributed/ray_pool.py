"""Workers on Ray: actors, one for each GPU or share of CPU threads, on this machine or a cluster."""

from __future__ import annotations

import logging
import os
import subprocess
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seal_env.distributed.lifeline import end_after_this
from seal_env.distributed.pools import WorkerPool
from seal_env.distributed.worker import ChunkContext, Reply, Weights, begin, do
from seal_env.student.requests import GenerationConfig, UpdateRequest

try:
    import psutil
    import ray
except ImportError as error:
    raise ImportError("executor='ray' needs Ray: pip install 'seal-env[ray]'") from error
from ray.exceptions import (
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    RayActorError,
    RayTaskError,
    WorkerCrashedError,
)

_REAPERS: list[subprocess.Popen[bytes]] = []  # of the Ray that was started here, if one was
_LOST = (RayActorError, WorkerCrashedError, NodeDiedError, OutOfMemoryError, ObjectLostError)


class LostWorker(RuntimeError):
    """An actor of Ray died."""


@dataclass(frozen=True)
class StoredWeights:
    """Base weights in Ray's object store, from which each machine fetches them once.

    Attributes:
        refs: one reference, in a list so that Ray sends it as it is.
    """

    refs: list[Any]

    def load(self) -> Mapping[str, Tensor]:
        stored: dict[str, tuple[NDArray[Any], str]] = ray.get(self.refs[0])
        return {name: torch.from_numpy(np.array(raw)).view(getattr(torch, dtype)) for name, (raw, dtype) in stored.items()}


class Worker:
    """An actor."""

    def __init__(self, threads: int) -> None:
        begin(threads)

    def ready(self) -> None:
        """Answered once Ray has found a place for this actor."""

    def do(self, context: ChunkContext, requests: Sequence[UpdateRequest], generation: GenerationConfig) -> Reply:
        """See :func:`seal_env.distributed.worker.do`."""
        return do(context, requests, generation)


class RayPool(WorkerPool):
    """Actors, which are started when they are first needed; one that is ready and idle takes what was submitted first.

    Ray ends them when nobody refers to them any more, and so when nobody refers to this crew.

    Ray that runs already in this process is used, otherwise the cluster that ``RAY_ADDRESS`` names; otherwise one is started
    on this machine, which ends with this process.

    Args:
        count: how many; by default one for each GPU (``device="cuda"``), or for each CPU, of Ray.
        device: of each actor, which takes a GPU, if this is one, and otherwise its share of the CPUs, though no more than torch
            uses here.

    Raises:
        ConnectionError: there is no cluster at ``RAY_ADDRESS``.
        ValueError: Ray's machines have fewer GPUs or CPUs than that takes.
    """

    lost = (LostWorker,)
    share_fate = False

    def __init__(self, count: int | None, device: str = "cpu") -> None:
        gpus = int(torch.device(device).type == "cuda")
        connect(count or 0)
        unit = "GPU" if gpus else "CPU"
        there = int(ray.cluster_resources().get(unit, 0))
        self.count = count or max(1, there)
        if self.count > there:
            raise ValueError(f"{self.count} workers need a {unit} each, and Ray has {there}: take fewer workers")
        self._unit = unit
        self.threads = 1 if gpus else max(1, min(torch.get_num_threads(), there // self.count))
        self._actor_type = ray.remote(Worker).options(num_cpus=self.threads, num_gpus=gpus)
        self._lock = threading.RLock()
        self._waiting: deque[tuple[Future[Reply], tuple[Any, ...]]] = deque()
        self._idle: list[Any] = []
        self._all: list[Any] = []
        self._ready = 0

    def submit(self, context: ChunkContext, requests: Sequence[UpdateRequest], generation: GenerationConfig) -> Future[Reply]:
        future: Future[Reply] = Future()
        with self._lock:
            self._waiting.append((future, (context, list(requests), generation)))
            self._feed()
        return future

    def share(self, weights: Mapping[str, Tensor]) -> Weights:
        stored = {}
        for name, weight in weights.items():
            plain = weight.detach().cpu().contiguous()
            stored[name] = (plain.view(torch.uint8).numpy(), str(plain.dtype).removeprefix("torch."))
        return StoredWeights([ray.put(stored)])

    def recover(self) -> None:
        """Nothing: another actor is started as soon as one dies."""

    def stop(self) -> None:
        with self._lock:
            while self._waiting:
                self._waiting.popleft()[0].cancel()
            self._idle.clear()
            self._ready = 0
            stopped, self._all = self._all, []
        for actor in stopped if ray.is_initialized() else ():
            ray.kill(actor)

    @property
    def note(self) -> str:
        missing = self.count - self._ready
        if missing <= 0 or not self._all:
            return ""
        return f"{missing} of {self.count} workers have not begun: Ray is starting them, or has no {self._unit} free for them"

    def _feed(self) -> None:
        """Give what waits to actors that are idle, and start others while there may be more."""
        while self._waiting and self._idle:
            future, asked = self._waiting.popleft()
            if not future.cancelled():
                actor = self._idle.pop()
                actor.do.remote(*asked).future().add_done_callback(partial(self._finish, actor, future))
        while self._waiting and len(self._all) < self.count:
            actor = self._actor_type.remote(self.threads)
            self._all.append(actor)
            actor.ready.remote().future().add_done_callback(partial(self._begin, actor))

    def _begin(self, actor: Any, ready: Future[None]) -> None:
        """Take in an actor that is ready; one that died before is a loss of what waited longest."""
        error = ready.exception()
        with self._lock:
            if actor not in self._all:
                return
            if error is None:
                self._ready += 1
                self._idle.append(actor)
                self._feed()
                return
            self._all.remove(actor)
            future = self._waiting.popleft()[0] if self._waiting else None
        if future is not None and not future.cancelled():
            future.set_exception(LostWorker(str(error)))

    def _finish(self, actor: Any, future: Future[Reply], done: Future[Reply]) -> None:
        error = done.exception()
        with self._lock:
            if actor in self._all:
                if isinstance(error, _LOST):
                    self._all.remove(actor)
                    self._ready -= 1
                else:
                    self._idle.append(actor)
                self._feed()
        if future.cancelled():
            return
        if isinstance(error, _LOST):
            future.set_exception(LostWorker(str(error)))
        elif error is not None:
            future.set_exception(error.cause if isinstance(error, RayTaskError) else error)
        else:
            future.set_result(done.result())


def connect(cpus: int = 0) -> None:
    """Be connected to Ray: as it is in this process, to the cluster that ``RAY_ADDRESS`` names, or to one that is started here.

    Args:
        cpus: that one which is started here is told to have at least, so that workers need not wait for each other.
    """
    if ray.is_initialized():
        return
    alone = not os.environ.get("RAY_ADDRESS")
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.WARNING}
    if alone:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing leaves this machine unasked
        options |= {
            "address": "local",
            "num_cpus": max(cpus, os.cpu_count() or 1),
            "include_dashboard": False,
        }
    ray.init(**options)
    if alone:
        # Ray's agents, when all the rest of it is gone, look for it for a minute.
        _REAPERS[:] = [end_after_this(process.pid for process in _ray_processes())]


def _ray_processes() -> Iterator[psutil.Process]:
    """Those of the Ray that this process has started, and what they have started."""
    home = str(Path(ray.__file__).parent)
    for child in psutil.Process().children():
        try:
            if home in " ".join(child.cmdline()):
                yield from (child, *child.children(recursive=True))
        except psutil.NoSuchProcess:
            continue
