"""Which adapters take their next optimizer step together. Pure Python: nothing here touches a tensor.

Every plan is a *lane*: a queue of steps that must run in its own order, each a number of sequences and the length of the
longest. Lanes are independent, so at any moment those whose next steps have nearly the same length can be batched with
little padding while the others wait. That keeps every adapter exact (its steps and their order never change) and still
fills the batch: with lengths as uneven as SEAL's, taking all lanes in lock-step would make most of a batch padding.

Where the network needs no padding, any lanes go together: those with the most left to do, as many as a batch holds.

With padding the choice is greedy: the group with the most useful tokens per unit of cost, where a group costs its padded
tokens plus a constant for starting it. Once no more plans wait to enter, a token of a lane with more left to do counts for
more, so that lanes finish together and there is company to the end; and a lane that would still be running alone after all
others had finished takes part whenever something runs.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class StepShape:
    """One optimizer step: ``rows`` sequences, the longest ``length`` tokens, ``tokens`` without padding."""

    rows: int
    length: int
    tokens: int


@dataclass
class Lane:
    """A plan in flight: the adapter's slot and the steps it has yet to take."""

    job: int
    slot: int
    steps: deque[StepShape]
    remaining: float = field(init=False)

    def __post_init__(self) -> None:
        self.remaining = 0.0  # cost of the remaining steps if each ran alone; kept by the scheduler


class Scheduler:
    """Chooses groups of lanes.

    Args:
        max_tokens: most padded tokens in a group (a single step may be larger).
        overhead_tokens: what starting a group costs, in tokens.
        length_class: steps of different classes are never grouped (see ``Network.length_class``).
        padded: sequences of a group are padded to one length, and all its steps have the same number of them.
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
        self.lanes: list[Lane] = []
        self._work = 0.0  # unpadded tokens still to train, of all lanes

    def add(self, lane: Lane) -> None:
        lane.remaining = sum(self._cost(1, step) for step in lane.steps)
        self._work += sum(step.tokens for step in lane.steps)
        self.lanes.append(lane)

    def next_group(self, more_to_come: bool = False) -> list[Lane]:
        """The lanes to step now; their ``steps[0]`` says with what. Call :meth:`advance` afterwards.

        ``more_to_come`` says that other plans wait for a slot.
        """
        if not self.padded:
            return self._fullest_group()
        by_kind: dict[tuple[int, int], list[Lane]] = {}
        for lane in self.lanes:
            step = lane.steps[0]
            by_kind.setdefault((step.rows, self.length_class(step.length)), []).append(lane)
        longest = max(self.lanes, key=lambda lane: (lane.remaining, -lane.job))
        must = longest if longest.remaining > 0.5 * self._work else None
        best: list[Lane] = []
        best_score = -1.0
        for lanes in by_kind.values():
            lanes.sort(key=lambda lane: (-lane.steps[0].length, -lane.remaining, lane.job))
            for first in range(len(lanes)):
                group, score = self._group_from(lanes, first, must, 0.0 if more_to_come else 1.0 / longest.remaining)
                if score > best_score:
                    best, best_score = group, score
        return best

    def advance(self, group: list[Lane]) -> list[Lane]:
        """Take the steps of ``group``; return the lanes that are thereby finished, which leave."""
        for lane in group:
            step = lane.steps.popleft()
            lane.remaining -= self._cost(1, step)
            self._work -= step.tokens
        finished = [lane for lane in group if not lane.steps]
        self._leave(finished)
        return finished

    def drop(self, lane: Lane) -> None:
        """Let a lane leave before its steps are done."""
        self._work -= sum(step.tokens for step in lane.steps)
        self._leave([lane])

    def clear(self) -> None:
        """Let all lanes leave."""
        self.lanes, self._work = [], 0.0

    def _leave(self, lanes: list[Lane]) -> None:
        gone = {id(lane) for lane in lanes}
        self.lanes = [lane for lane in self.lanes if id(lane) not in gone]

    def _fullest_group(self) -> list[Lane]:
        group: list[Lane] = []
        room = self.max_tokens
        for lane in sorted(self.lanes, key=lambda lane: (-lane.remaining, lane.job)):
            if not group or lane.steps[0].tokens <= room:
                group.append(lane)
                room -= lane.steps[0].tokens
        return group

    def _cost(self, lanes: int, step: StepShape) -> float:
        return self.overhead_tokens + (lanes * step.rows * step.length if self.padded else step.tokens)

    def _group_from(self, lanes: list[Lane], first: int, must: Lane | None, balance: float) -> tuple[list[Lane], float]:
        """The best group whose longest step is that of ``lanes[first]``, and its score."""
        head = lanes[first].steps[0]
        most = max(1, self.max_tokens // (head.rows * head.length))
        best, best_score, useful = 1, -1.0, 0.0
        has_must = must is None
        for count, lane in enumerate(lanes[first : first + most], start=1):
            useful += lane.steps[0].tokens * (lane.remaining * balance if balance else 1.0)
            has_must = has_must or lane is must
            score = useful / self._cost(count, head) if has_must else -1.0
            if score > best_score:
                best, best_score = count, score
        return lanes[first : first + best], best_score
