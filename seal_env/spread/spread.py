"""Work in, results out, in order: portions go to workers, and what a lost worker had is given to another."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any

from tqdm.auto import tqdm

from seal_env.plan import Example
from seal_env.spread.crew import Crew, WorkersLost
from seal_env.spread.schedule import chunked
from seal_env.spread.worker import BaseVersion, Recipe, Refused, Reply, Ticket
from seal_env.student import Student
from seal_env.work import Asking, Done, Work

log = logging.getLogger("seal_env.spread")

Portion = tuple[int, ...]  # of the works, by index
RETRIES = 3  # of a portion whose worker was lost
TELL = 10.0  # seconds between two lines that say how far it is


class Spread:
    """Has workers do what :func:`seal_env.work.carry_out` does; one of it for each student.

    Args:
        crew: the workers.
        recipe: how each makes its student, which must be the one that :meth:`__call__` gets.
        retries: how often a portion is given to another worker after the one that had it was lost.
    """

    def __init__(self, crew: Crew, recipe: Recipe, retries: int = RETRIES) -> None:
        self.crew, self.recipe, self.retries = crew, recipe, retries
        self._owner = uuid.uuid4().hex
        self._base = BaseVersion()

    def __call__(self, student: Student, works: Sequence[Work], asking: Asking, *, progress: bool = False) -> list[Done]:
        """One result for each work, in order.

        Raises:
            WorkersLost: a portion was lost more often than ``retries``.
            Refused: workers cannot make the student of the recipe.
        """
        ticket = Ticket(self.recipe, self._version(student))
        found: list[Done | None] = [None] * len(works)
        waiting = [tuple(portion) for portion in chunked([cost(work) for work in works], self.crew.count)]
        losses, pending, told = dict[Portion, int](), dict[Future[Reply], Portion](), time.monotonic()
        try:
            with tqdm(total=len(works), unit="edit", desc="score", disable=not progress) as bar:
                while waiting or pending:
                    lost = list[Portion]()
                    while waiting and not lost:
                        portion = waiting.pop(0)
                        try:
                            pending[self.crew.submit(ticket, [works[i] for i in portion], asking)] = portion
                        except self.crew.lost:
                            lost.append(portion)
                    finished = wait(pending, TELL, FIRST_COMPLETED).done if pending and not lost else set()
                    lost += self._collect(finished, pending, ticket, found, bar)
                    if (lost or self.crew.broken) and self.crew.share_fate:
                        lost += self._collect(wait(pending, TELL).done, pending, ticket, found, bar)
                        lost += pending.values()  # Python's pool forgets what it is given in the moment in which it breaks
                        pending.clear()
                    if lost:
                        self._count(lost, losses)
                        self.crew.recover()
                        waiting = lost + waiting
                    if time.monotonic() - told >= TELL:
                        log.info("%d of %d done", len(works) - found.count(None), len(works))
                        if self.crew.note:
                            log.warning(self.crew.note)
                        told = time.monotonic()
        except BaseException:
            for future in pending:
                future.cancel()
            self.crew.stop()
            raise
        return [done for done in found if done is not None]

    def _collect(
        self,
        finished: set[Future[Reply]],
        pending: dict[Future[Reply], Portion],
        ticket: Ticket,
        found: list[Done | None],
        bar: Any,
    ) -> list[Portion]:
        """Take over what these came to; returns the portions that were lost with their workers."""
        lost = []
        for future in finished:
            portion = pending.pop(future)
            if isinstance(future.exception(), self.crew.lost):
                lost.append(portion)
                continue
            for i, done in zip(portion, _checked(future.result(), ticket)):
                found[i] = done
            bar.update(len(portion))
        return lost

    def _count(self, lost: Sequence[Portion], losses: dict[Portion, int]) -> None:
        """Say what was lost, and raise an error if it was lost too often."""
        edits = sum(map(len, lost))
        for portion in lost:
            losses[portion] = losses.get(portion, 0) + 1
        most = max(losses[portion] for portion in lost)
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
            weights = self.crew.share(student.model.state_dict())
            self._base = BaseVersion(self._owner, number, weights)
        return self._base


def cost(work: Work) -> float:
    """How long a work takes, in characters that are read."""
    learnt = 0
    if work.plan is not None:
        learnt = work.plan.epochs * sum(len(e.text if isinstance(e, Example) else e.ids) for e in work.plan.examples)
    return learnt + sum(map(len, work.prompts)) + 1


def _checked(reply: Reply, ticket: Ticket) -> list[Done]:
    if (reply.settings, reply.base) != (ticket.recipe.hash, ticket.base):
        raise Refused("a worker answered for other settings or another version of the base than it was asked for")
    return reply.done
