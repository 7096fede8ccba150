"""Which updates take their next optimizer step together. Pure Python: nothing here touches a tensor.

Each update has a queue of steps that run in its own order; a step is a number of sequences and the length of the longest.
Updates are independent of each other, so that those whose next steps have nearly the same length can be batched with little
padding while the others wait. No update changes (its steps and their order stay as they are), and batches are full: with
lengths as uneven as SEAL's, one step of every update at a time would make most of a batch padding.

Where the network needs no padding, any updates go together: those with the most left to do, as many as a batch holds.

With padding the choice is greedy: the batch with the most useful tokens per unit of cost, where a batch costs its padded
tokens plus a constant for starting it. Once no more updates wait for a slot, a token of an update with more left to do weighs
more, so that updates finish together; and an update that would still run alone after all others had finished is part of every
batch.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class StepShape:
    """One optimizer step: ``rows`` sequences, the longest ``length`` tokens, ``tokens`` without padding."""

    rows: int
    length: int
    tokens: int


@dataclass
class StepQueue:
    """The steps that an update has yet to take.

    Attributes:
        index: of the update.
        steps: in their order.
        slot: of its adapter; -1 while the update waits for one.
        cost: of the remaining steps if each ran alone; the scheduler keeps it.
    """

    index: int
    steps: deque[StepShape]
    slot: int = -1
    cost: float = 0.0

    @property
    def tokens(self) -> int:
        """Tokens of the remaining steps, without padding."""
        return sum(step.tokens for step in self.steps)


class Scheduler:
    """Chooses the updates of each training batch.

    Args:
        max_tokens: most padded tokens in a batch (a single step may be larger).
        overhead_tokens: cost of starting a batch, in tokens.
        length_class: steps of different classes never share a batch (see ``Network.length_class``).
        padded: sequences of a batch are padded to one length, and all its steps have the same number of them.
    """

    def __init__(
        self,
        max_tokens: int,
        overhead_tokens: int,
        length_class: Callable[[int], int] = lambda length: 0,
        *,
        padded: bool = True,
    ) -> None:
        self.padded = padded
        self.max_tokens = max_tokens
        self.overhead_tokens = overhead_tokens
        self.length_class = length_class
        self.queues: list[StepQueue] = []
        self._tokens = 0.0  # still to train, without padding, in all queues

    def add(self, queue: StepQueue) -> None:
        """Let an update take part."""
        queue.cost = sum(self._cost(1, step) for step in queue.steps)
        self._tokens += queue.tokens
        self.queues.append(queue)

    def next_batch(self, more_to_come: bool = False) -> list[StepQueue]:
        """The queues whose ``steps[0]`` run now. Call :meth:`advance` afterwards.

        ``more_to_come`` is whether other updates wait for a slot.
        """
        if not self.padded:
            return self._fullest_batch()
        by_kind: dict[tuple[int, int], list[StepQueue]] = {}
        for queue in self.queues:
            step = queue.steps[0]
            by_kind.setdefault((step.rows, self.length_class(step.length)), []).append(queue)
        longest = max(self.queues, key=lambda queue: (queue.cost, -queue.index))
        required = longest if longest.cost > 0.5 * self._tokens else None
        best: list[StepQueue] = []
        best_score = -1.0
        for queues in by_kind.values():
            queues.sort(key=lambda queue: (-queue.steps[0].length, -queue.cost, queue.index))
            for first in range(len(queues)):
                batch, score = self._batch_from(queues, first, required, 0.0 if more_to_come else 1.0 / longest.cost)
                if score > best_score:
                    best, best_score = batch, score
        return best

    def advance(self, batch: list[StepQueue]) -> list[StepQueue]:
        """Remove the steps that ran; return the queues that are empty now, which leave."""
        for queue in batch:
            step = queue.steps.popleft()
            queue.cost -= self._cost(1, step)
            self._tokens -= step.tokens
        finished = [queue for queue in batch if not queue.steps]
        self._remove(finished)
        return finished

    def drop(self, queue: StepQueue) -> None:
        """Let an update leave before its last step."""
        self._tokens -= queue.tokens
        self._remove([queue])

    def clear(self) -> None:
        """Let all updates leave."""
        self.queues, self._tokens = [], 0.0

    def _remove(self, queues: list[StepQueue]) -> None:
        removed = {id(queue) for queue in queues}
        self.queues = [queue for queue in self.queues if id(queue) not in removed]

    def _fullest_batch(self) -> list[StepQueue]:
        batch: list[StepQueue] = []
        room = self.max_tokens
        for queue in sorted(self.queues, key=lambda queue: (-queue.cost, queue.index)):
            if not batch or queue.steps[0].tokens <= room:
                batch.append(queue)
                room -= queue.steps[0].tokens
        return batch

    def _cost(self, queues: int, step: StepShape) -> float:
        return self.overhead_tokens + (queues * step.rows * step.length if self.padded else step.tokens)

    def _batch_from(
        self, queues: list[StepQueue], first: int, required: StepQueue | None, balance: float
    ) -> tuple[list[StepQueue], float]:
        """The best batch whose longest step is that of ``queues[first]``, and its score."""
        head = queues[first].steps[0]
        most = max(1, self.max_tokens // (head.rows * head.length))
        best, best_score, useful = 1, -1.0, 0.0
        complete = required is None
        for count, queue in enumerate(queues[first : first + most], start=1):
            useful += queue.steps[0].tokens * (queue.cost * balance if balance else 1.0)
            complete = complete or queue is required
            score = useful / self._cost(count, head) if complete else -1.0
            if score > best_score:
                best, best_score = count, score
        return queues[first : first + best], best_score
