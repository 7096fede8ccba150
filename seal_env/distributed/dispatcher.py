"""Work in, results out, in order: portions go to workers, and what a lost worker had is given to another."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any

from tqdm.auto import tqdm

from seal_env.distributed.chunks import chunked
from seal_env.distributed.pools import WorkerPool, WorkersLost
from seal_env.distributed.worker import BaseVersion, ChunkContext, Recipe, Refused, Reply
from seal_env.student import Student
from seal_env.student.requests import GenerationConfig, UpdateRequest, UpdateResult
from seal_env.update import Example

log = logging.getLogger("seal_env.distributed")

Chunk = tuple[int, ...]  # of the works, by index
RETRIES = 3  # of a portion whose worker was lost
TELL = 10.0  # seconds between two lines that say how far it is


class Dispatcher:
    """Has workers do what :func:`seal_env.student.requests.run_updates` does; one of it for each student.

    Args:
        crew: the workers.
        recipe: how each makes its student, which must be the one that :meth:`__call__` gets.
        retries: how often a portion is given to another worker after the one that had it was lost.
    """

    def __init__(self, pool: WorkerPool, recipe: Recipe, retries: int = RETRIES) -> None:
        self.pool, self.recipe, self.retries = pool, recipe, retries
        self._owner = uuid.uuid4().hex
        self._base = BaseVersion()

    def __call__(
        self, student: Student, requests: Sequence[UpdateRequest], generation: GenerationConfig, *, progress: bool = False
    ) -> list[UpdateResult]:
        """One result for each work, in order.

        Raises:
            WorkersLost: a portion was lost more often than ``retries``.
            Refused: workers cannot make the student of the recipe.
        """
        context = ChunkContext(self.recipe, self._version(student))
        found: list[UpdateResult | None] = [None] * len(requests)
        waiting = [tuple(chunk) for chunk in chunked([cost(request) for request in requests], self.pool.count)]
        losses, pending, told = dict[Chunk, int](), dict[Future[Reply], Chunk](), time.monotonic()
        try:
            with tqdm(total=len(requests), unit="edit", desc="score", disable=not progress) as bar:
                while waiting or pending:
                    lost = list[Chunk]()
                    while waiting and not lost:
                        chunk = waiting.pop(0)
                        try:
                            pending[self.pool.submit(context, [requests[i] for i in chunk], generation)] = chunk
                        except self.pool.lost:
                            lost.append(chunk)
                    finished = wait(pending, TELL, FIRST_COMPLETED).done if pending and not lost else set()
                    lost += self._collect(finished, pending, context, found, bar)
                    if (lost or self.pool.broken) and self.pool.share_fate:
                        lost += self._collect(wait(pending, TELL).done, pending, context, found, bar)
                        lost += pending.values()  # Python's pool forgets what it is given in the moment in which it breaks
                        pending.clear()
                    if lost:
                        self._count(lost, losses)
                        self.pool.recover()
                        waiting = lost + waiting
                    if time.monotonic() - told >= TELL:
                        log.info("%d of %d done", len(requests) - found.count(None), len(requests))
                        if self.pool.note:
                            log.warning(self.pool.note)
                        told = time.monotonic()
        except BaseException:
            for future in pending:
                future.cancel()
            self.pool.stop()
            raise
        return [done for done in found if done is not None]

    def _collect(
        self,
        finished: set[Future[Reply]],
        pending: dict[Future[Reply], Chunk],
        context: ChunkContext,
        found: list[UpdateResult | None],
        bar: Any,
    ) -> list[Chunk]:
        """Take over what these came to; returns the portions that were lost with their workers."""
        lost = []
        for future in finished:
            chunk = pending.pop(future)
            if isinstance(future.exception(), self.pool.lost):
                lost.append(chunk)
                continue
            for i, done in zip(chunk, _checked(future.result(), context)):
                found[i] = done
            bar.update(len(chunk))
        return lost

    def _count(self, lost: Sequence[Chunk], losses: dict[Chunk, int]) -> None:
        """Say what was lost, and raise an error if it was lost too often."""
        edits = sum(map(len, lost))
        for chunk in lost:
            losses[chunk] = losses.get(chunk, 0) + 1
        most = max(losses[chunk] for chunk in lost)
        if most > self.retries:
            raise WorkersLost(
                f"workers died {most} times with the same edits, {edits} of which are not scored: killed from outside, out of"
                " memory, an edit that no worker survives, or a script that starts processes without if __name__ == '__main__'"
            )
        log.warning("a worker died: its %d edits go to another (retry %d of %d)", edits, most, self.retries)

    def _version(self, student: Student) -> BaseVersion:
        """The student's base as workers know it; new weights are put where they can fetch them."""
        number = student.base_version
        if number != self._base.number:
            weights = self.pool.share(student.model.state_dict())
            self._base = BaseVersion(self._owner, number, weights)
        return self._base


def cost(request: UpdateRequest) -> float:
    """How long a work takes, in characters that are read."""
    learnt = 0
    if request.update is not None:
        learnt = request.update.config.epochs * sum(
            len(e.text if isinstance(e, Example) else e.ids) for e in request.update.examples
        )
    return learnt + sum(map(len, request.prompts)) + 1


def _checked(reply: Reply, context: ChunkContext) -> list[UpdateResult]:
    if (reply.settings, reply.base) != (context.recipe.hash, context.base):
        raise Refused("a worker answered for other settings or another version of the base than it was asked for")
    return reply.done
