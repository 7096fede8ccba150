"""Grids to be predicted from demonstrations: several views of a test, and a vote (paper, section 4.2).

The test is put in several ways: as it is, turned, flipped and transposed, each with the demonstrations in several orders. What
is predicted is turned back, the two commonest grids are the attempts, and a task is solved if every test has a right one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from seal_env.chat import Prompt
from seal_env.checks import check_count
from seal_env.evaluation.evaluator import Answers, Scores, Verdicts
from seal_env.tasks import Task
from seal_env.tasks.arc.arc_task import ArcTask
from seal_env.tasks.arc.augment import FLIPS, IDENTITY, ROTATIONS, TRANSPOSITION
from seal_env.tasks.arc.grid_prompts import ArcPrompts
from seal_env.tasks.arc.grids import Grid, grid_text, read_grid

VIEWS = (IDENTITY, TRANSPOSITION, *FLIPS, *ROTATIONS)
ATTEMPTS = 2
_BETWEEN = "\n\n"  # attempts in an answer


class GridEvaluator:
    """See the module's docstring.

    An answer is the text of up to two attempts, the commonest first, see :func:`attempts`.

    Args:
        prompts: how tasks are put.
        views: how many of :data:`VIEWS`, from the first, the test as it is.
        orders: of the demonstrations, for each view: as they are, then moved on by one, ...
        max_new_tokens: most tokens of a grid.
    """

    def __init__(self, prompts: ArcPrompts, *, views: int = len(VIEWS), orders: int = 2, max_new_tokens: int = 1024) -> None:
        for name, value in (("views", views), ("orders", orders), ("max_new_tokens", max_new_tokens)):
            check_count(name, value)
        if views > len(VIEWS):
            raise ValueError(f"views must be at most {len(VIEWS)}, got {views}")
        self.views, self.orders = VIEWS[:views], orders
        self.max_new_tokens = max_new_tokens
        self.stop = prompts.stop
        self._prompts = prompts

    def prompts(self, task: Task) -> list[Prompt]:
        assert isinstance(task, ArcTask)
        found = []
        for test in task.tests:
            for view in self.views:
                shown = view.pairs(task.demonstrations)
                for order in range(self._orders(task)):
                    found.append(self._prompts.prompt(shown[order:] + shown[:order], view.apply(test.input)))
        return found

    def answers(self, task: Task, texts: Sequence[str]) -> Answers:
        assert isinstance(task, ArcTask)
        orders = self._orders(task)
        read = [self._prompts.read(text) for text in texts]
        seen = [self.views[i // orders % len(self.views)].invert(grid) if grid else None for i, grid in enumerate(read)]
        each = len(self.views) * orders
        return tuple(_vote(seen[first : first + each]) for first in range(0, len(seen), each))

    def marks(self, asked: Sequence[tuple[Task, Answers]]) -> list[Verdicts]:
        return [
            tuple(question.answers[0] in answer.split(_BETWEEN) for question, answer in zip(task.questions, answers))
            for task, answers in asked
        ]

    def score(self, marks: Scores) -> float:
        return float(all(marks))

    def _orders(self, task: ArcTask) -> int:
        """Two demonstrations have no more than two."""
        return min(self.orders, len(task.demonstrations))


def _vote(predicted: Sequence[Grid | None]) -> str:
    """The commonest grids, of equally common ones the first, as text."""
    counted = Counter(grid for grid in predicted if grid)  # in order of appearance, which most_common keeps
    return _BETWEEN.join(grid_text(grid) for grid, _ in counted.most_common(ATTEMPTS))


def attempts(answer: str) -> list[Grid]:
    """The grids of an answer, at most two."""
    return [grid for text in answer.split(_BETWEEN) if (grid := read_grid(text))]
