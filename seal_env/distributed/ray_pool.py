"""Workers on Ray: actors on this machine or a cluster, each with a GPU or a share of the CPUs."""

from __future__ import annotations

import logging
import os
import subprocess
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seal_env.distributed.lifetime import kill_with_this_process
from seal_env.distributed.pools import WorkerPool
from seal_env.distributed.worker import ChunkContext, LoadWeights, init_worker, run_chunk
from seal_env.student.requests import GenerationConfig, UpdateRequest, UpdateResult

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

_REAPERS: list[subprocess.Popen[bytes]] = []  # keep the standard input of the process that ends a Ray started here open
_WORKER_DIED = (RayActorError, WorkerCrashedError, NodeDiedError, OutOfMemoryError, ObjectLostError)


class ActorDied(RuntimeError):
    """A Ray actor died."""


def load_stored_weights(refs: list[Any]) -> Mapping[str, Tensor]:
    """Load base weights from Ray's object store, from which each machine fetches them once.

    Args:
        refs: a list of one reference; Ray would send a bare reference as the weights themselves.
    """
    stored: dict[str, tuple[NDArray[Any], str]] = ray.get(refs[0])
    return {name: torch.from_numpy(np.array(raw)).view(getattr(torch, dtype)) for name, (raw, dtype) in stored.items()}


class Worker:
    """The class of the actors."""

    def __init__(self, threads: int) -> None:
        init_worker(threads)

    def ready(self) -> None:
        """Returns once Ray has started this actor."""

    def run_chunk(
        self, context: ChunkContext, requests: Sequence[UpdateRequest], generation: GenerationConfig
    ) -> list[UpdateResult]:
        """See :func:`seal_env.distributed.worker.run_chunk`."""
        return run_chunk(context, requests, generation)


class RayPool(WorkerPool):
    """Ray actors. They start when they are first needed, and idle ones take chunks in the order of submission.

    Ray ends the actors when nothing refers to them, and so when nothing refers to this pool. The pool uses the Ray that this
    process is connected to, otherwise the cluster at ``RAY_ADDRESS``; otherwise it starts Ray on this machine, which ends with
    this process.

    Args:
        count: number of actors; by default one for each GPU (``device="cuda"``) or for each CPU of Ray.
        device: of each actor. With ``cuda`` an actor takes a GPU, otherwise its share of the CPUs, but no more than torch uses
            threads here.

    Raises:
        ConnectionError: there is no cluster at ``RAY_ADDRESS``.
        ValueError: Ray has fewer GPUs or CPUs than actors.
    """

    worker_died = (ActorDied,)
    fails_together = False

    def __init__(self, count: int | None, device: str = "cpu") -> None:
        gpus = int(torch.device(device).type == "cuda")
        connect(count or 0)
        unit = "GPU" if gpus else "CPU"
        available = int(ray.cluster_resources().get(unit, 0))
        self.count = count or max(1, available)
        if self.count > available:
            raise ValueError(f"{self.count} workers need a {unit} each, and Ray has {available}: use fewer workers")
        self._unit = unit
        self.threads = 1 if gpus else max(1, min(torch.get_num_threads(), available // self.count))
        self._actor_type = ray.remote(Worker).options(num_cpus=self.threads, num_gpus=gpus)
        self._lock = threading.RLock()
        self._waiting: deque[tuple[Future[list[UpdateResult]], tuple[Any, ...]]] = deque()
        self._idle: list[Any] = []
        self._actors: list[Any] = []
        self._ready = 0

    def submit(
        self, context: ChunkContext, requests: Sequence[UpdateRequest], generation: GenerationConfig
    ) -> Future[list[UpdateResult]]:
        future: Future[list[UpdateResult]] = Future()
        with self._lock:
            self._waiting.append((future, (context, list(requests), generation)))
            self._schedule()
        return future

    def store_weights(self, weights: Mapping[str, Tensor]) -> LoadWeights:
        stored = {}
        for name, weight in weights.items():
            plain = weight.detach().cpu().contiguous()
            stored[name] = (plain.view(torch.uint8).numpy(), str(plain.dtype).removeprefix("torch."))
        return partial(load_stored_weights, [ray.put(stored)])

    def recover(self) -> None:
        """Does nothing: an actor that died is replaced as soon as a chunk waits."""

    def stop(self) -> None:
        with self._lock:
            while self._waiting:
                self._waiting.popleft()[0].cancel()
            self._idle.clear()
            self._ready = 0
            stopped, self._actors = self._actors, []
        for actor in stopped if ray.is_initialized() else ():
            ray.kill(actor)

    @property
    def warning(self) -> str:
        missing = self.count - self._ready
        if missing <= 0 or not self._actors:
            return ""
        return f"{missing} of {self.count} workers have not started: Ray is starting them, or has no free {self._unit} for them"

    def _schedule(self) -> None:
        """Give waiting chunks to idle actors, and start actors if chunks still wait."""
        while self._waiting and self._idle:
            future, chunk = self._waiting.popleft()
            if future.set_running_or_notify_cancel():  # from now on it cannot be cancelled between a check and its result
                actor = self._idle.pop()
                actor.run_chunk.remote(*chunk).future().add_done_callback(partial(self._on_finished, actor, future))
        while self._waiting and len(self._actors) < self.count:
            actor = self._actor_type.remote(self.threads)
            self._actors.append(actor)
            actor.ready.remote().future().add_done_callback(partial(self._on_ready, actor))

    def _on_ready(self, actor: Any, ready: Future[None]) -> None:
        """An actor is ready. If it died instead, the chunk that waited longest fails, so that retries are limited."""
        error = ready.exception()
        with self._lock:
            if actor not in self._actors:
                return
            if error is None:
                self._ready += 1
                self._idle.append(actor)
                self._schedule()
                return
            self._actors.remove(actor)
            future = self._waiting.popleft()[0] if self._waiting else None
        if future is not None and future.set_running_or_notify_cancel():
            future.set_exception(ActorDied(str(error)))

    def _on_finished(self, actor: Any, future: Future[list[UpdateResult]], done: Future[list[UpdateResult]]) -> None:
        """A chunk is done: pass its result or error on, and give the actor the next chunk."""
        error = done.exception()
        with self._lock:
            if actor in self._actors:
                if isinstance(error, _WORKER_DIED):
                    self._actors.remove(actor)
                    self._ready -= 1
                else:
                    self._idle.append(actor)
                self._schedule()
        if isinstance(error, _WORKER_DIED):
            future.set_exception(ActorDied(str(error)))
        elif error is not None:
            future.set_exception(error.cause if isinstance(error, RayTaskError) else error)
        else:
            future.set_result(done.result())


def connect(cpus: int = 0) -> None:
    """Connect to Ray, unless this process is connected: to the cluster at ``RAY_ADDRESS``, else to a Ray that is started here.

    Args:
        cpus: minimum number of CPUs that a Ray started here assumes, so that workers need not wait for each other.
    """
    if ray.is_initialized():
        return
    local = not os.environ.get("RAY_ADDRESS")
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.WARNING}
    if local:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # offline by default
        options |= {
            "address": "local",
            "num_cpus": max(cpus, os.cpu_count() or 1),
            "include_dashboard": False,
        }
    ray.init(**options)
    if local:
        # Ray's agents would survive for a minute after everything else has exited.
        _REAPERS[:] = [kill_with_this_process(process.pid for process in _ray_processes())]


def _ray_processes() -> Iterator[psutil.Process]:
    """The processes of the Ray that this process has started, and their children."""
    home = str(Path(ray.__file__).parent)
    for child in psutil.Process().children():
        try:
            if home in " ".join(child.cmdline()):
                yield from (child, *child.children(recursive=True))
        except psutil.NoSuchProcess:
            continue
