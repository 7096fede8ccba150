"""Runs update requests on a worker pool: small chunks, longest first, pulled by free workers, and retried if a worker dies."""

from __future__ import annotations

import logging
import time
import uuid
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait

from tqdm.auto import tqdm

from seal_env.distributed.pools import WorkerPool, WorkersLost
from seal_env.distributed.worker import BaseVersion, ChunkContext, StudentSpec
from seal_env.student import Student
from seal_env.student.requests import GenerationConfig, UpdateRequest, UpdateResult
from seal_env.update import Example

log = logging.getLogger("seal_env.distributed")

MAX_CHUNK = 64  # requests: enough to fill a student's batches
MIN_CHUNK = 4  # requests: a student is slow with fewer, so a chunk may be a worker's full fair share to have as many
SHARES = 2  # chunks that a fair share is otherwise split into
RETRIES = 3  # of a chunk whose worker died
LOG_INTERVAL = 10.0  # seconds between two progress lines

Chunk = tuple[int, ...]  # indices of requests


def chunked(
    costs: Sequence[float], workers: int, *, max_size: int = MAX_CHUNK, min_size: int = MIN_CHUNK, shares: float = SHARES
) -> list[Chunk]:
    """Split requests into chunks, in the order in which they should start.

    This is guided self-scheduling (Polychronopoulos and Kuck 1987). Chunks are large enough for a student to batch updates, and
    no larger than a part of each worker's fair share of what is left, so that all workers end at about the same time. ``python
    -m benchmarks.measurements.scale`` simulates this and other schedules; the default sizes were chosen with it.

    Args:
        costs: of each request, in any unit.
        workers: number of workers that pull chunks.
        max_size: maximum number of requests in a chunk.
        min_size: minimum number of requests in a chunk, unless they cost more than a worker's fair share.
        shares: a larger chunk costs at most a fair share divided by this.

    Returns:
        Indices of the requests of each chunk. Every request is in one chunk, and the most expensive come first.
    """
    order = sorted(range(len(costs)), key=lambda i: -costs[i])
    left, start, chunks = float(sum(costs)), 0, list[Chunk]()
    min_size = max(1, min(min_size, len(order) // max(1, workers)))
    while start < len(order):
        fair_share, end, cost = left / workers, start + 1, costs[order[start]]
        while end < len(order) and end - start < max_size:
            larger = cost + costs[order[end]]
            if larger > (fair_share if end - start < min_size else fair_share / shares):
                break
            end, cost = end + 1, larger
        chunks.append(tuple(order[start:end]))
        start, left = end, left - cost
    return chunks


def estimated_cost(request: UpdateRequest) -> float:
    """Relative cost of a request: the number of characters that the student reads."""
    trained = 0
    if update := request.update:
        lengths = (len(e.text if isinstance(e, Example) else e.ids) for e in update.examples)
        trained = update.config.epochs * sum(lengths)
    return trained + sum(map(len, request.prompts)) + 1


class Dispatcher:
    """Has a worker pool do what :func:`seal_env.student.requests.run_updates` does. Each student needs its own dispatcher.

    Args:
        pool: the workers.
        spec: how each worker loads its student; it must be the student that :meth:`__call__` gets.
        retries: how often a chunk is run again after its worker died.
    """

    def __init__(self, pool: WorkerPool, spec: StudentSpec, retries: int = RETRIES) -> None:
        self.pool, self.spec, self.retries = pool, spec, retries
        self._owner = uuid.uuid4().hex
        self._base = BaseVersion()

    def __call__(
        self, student: Student, requests: Sequence[UpdateRequest], generation: GenerationConfig, *, progress: bool = False
    ) -> list[UpdateResult]:
        """One result for each request, in order.

        Raises:
            WorkersLost: workers died more than ``retries`` times with the same chunk.
            WorkerMismatch: a worker cannot provide this student.
        """
        context = ChunkContext(self.spec, self._publish_base(student))
        with tqdm(total=len(requests), unit="edit", desc="score", disable=not progress) as bar:
            batch = _Batch(self.pool, self.retries, context, requests, generation, bar)
            try:
                return batch.run()
            except BaseException:
                batch.cancel()
                raise

    def _publish_base(self, student: Student) -> BaseVersion:
        """The version of the student's base weights; new weights are stored where workers can load them."""
        number = student.base_version
        if number != self._base.number:
            self._base = BaseVersion(self._owner, number, self.pool.store_weights(student.model.state_dict()))
        return self._base


class _Batch:
    """The requests of one call: the chunks that wait, those that run, and the results so far."""

    def __init__(
        self,
        pool: WorkerPool,
        retries: int,
        context: ChunkContext,
        requests: Sequence[UpdateRequest],
        generation: GenerationConfig,
        bar: tqdm,
    ) -> None:
        self.pool, self.retries, self.context = pool, retries, context
        self.requests, self.generation, self.bar = requests, generation, bar
        self.results: list[UpdateResult | None] = [None] * len(requests)
        self.waiting = chunked([estimated_cost(request) for request in requests], pool.count)
        self.running: dict[Future[list[UpdateResult]], Chunk] = {}
        self.losses = Counter[Chunk]()
        self.last_log = time.monotonic()

    def run(self) -> list[UpdateResult]:
        while self.waiting or self.running:
            lost = self._submit_waiting() or self._collect(wait(self.running, LOG_INTERVAL, FIRST_COMPLETED).done)
            if (lost or self.pool.broken) and self.pool.fails_together:
                lost += self._collect(wait(self.running, LOG_INTERVAL).done)
                lost += self.running.values()  # a ProcessPoolExecutor never completes what was submitted while it broke
                self.running.clear()
            if lost:
                self._retry(lost)
            self._log_progress()
        return [result for result in self.results if result is not None]

    def cancel(self) -> None:
        for future in self.running:
            future.cancel()
        self.pool.stop()

    def _submit_waiting(self) -> list[Chunk]:
        """Submit the waiting chunks; stops at a chunk that cannot be submitted because a worker died, and returns it."""
        while self.waiting:
            chunk = self.waiting.pop(0)
            try:
                future = self.pool.submit(self.context, [self.requests[i] for i in chunk], self.generation)
            except self.pool.worker_died:
                return [chunk]
            self.running[future] = chunk
        return []

    def _collect(self, finished: Iterable[Future[list[UpdateResult]]]) -> list[Chunk]:
        """Take the results of finished chunks; returns the chunks whose workers died."""
        lost = []
        for future in finished:
            chunk = self.running.pop(future)
            if isinstance(future.exception(), self.pool.worker_died):
                lost.append(chunk)
                continue
            for i, result in zip(chunk, future.result()):
                self.results[i] = result
            self.bar.update(len(chunk))
        return lost

    def _retry(self, lost: list[Chunk]) -> None:
        """Put lost chunks first in the queue, unless workers died too often with one of them."""
        self.losses.update(lost)
        most, edits = max(self.losses[chunk] for chunk in lost), sum(map(len, lost))
        if most > self.retries:
            raise WorkersLost(
                f"workers died {most} times with the same edits, {edits} of which are not scored: killed from outside, out of"
                " memory, an edit that no worker survives, or a script that starts processes without if __name__ == '__main__'"
            )
        log.warning("a worker died: its %d edits go to another (retry %d of %d)", edits, most, self.retries)
        self.pool.recover()
        self.waiting = lost + self.waiting

    def _log_progress(self) -> None:
        if time.monotonic() - self.last_log < LOG_INTERVAL:
            return
        log.info("%d of %d done", len(self.requests) - self.results.count(None), len(self.requests))
        if self.pool.warning:
            log.warning(self.pool.warning)
        self.last_log = time.monotonic()
