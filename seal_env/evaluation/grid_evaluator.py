"""Grid prediction from demonstrations: several views of a test input and a majority vote (paper, section 4.2).

Each test input is presented as it is, transposed, flipped and rotated, each view with several orders of the demonstrations. The
predictions are transformed back, and the two most common grids are the attempts. A task is solved if every test has a correct
attempt.
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
_SEPARATOR = "\n\n"  # between the attempts of an answer


class GridEvaluator:
    """An :class:`~seal_env.evaluation.Evaluator` for few-shot tasks; see the module's docstring.

    An answer is the text of up to two attempts, the most common first, see :func:`attempts`.

    Args:
        prompts: formats demonstrations and test inputs as prompts.
        views: number of :data:`VIEWS`, beginning with the identity.
        orders: number of orders of the demonstrations in each view: as given, rotated by one, ...
        max_new_tokens: maximum number of tokens of a grid.

    Raises:
        ValueError: a count that is not an integer from 1, or more views than there are.
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
        prompts = []
        for test in task.tests:
            for view in self.views:
                demonstrations = view.pairs(task.demonstrations)
                for i in range(self._orders(task)):
                    prompts.append(self._prompts.prompt(demonstrations[i:] + demonstrations[:i], view.apply(test.input)))
        return prompts

    def answers(self, task: Task, texts: Sequence[str]) -> Answers:
        assert isinstance(task, ArcTask)
        orders = self._orders(task)
        grids = [self._prompts.read(text) for text in texts]
        predicted = [self.views[i // orders % len(self.views)].invert(grid) if grid else None for i, grid in enumerate(grids)]
        per_test = len(self.views) * orders
        return tuple(_vote(predicted[i : i + per_test]) for i in range(0, len(predicted), per_test))

    def verdicts(self, answered_tasks: Sequence[tuple[Task, Answers]]) -> list[Verdicts]:
        return [
            tuple(question.answers[0] in answer.split(_SEPARATOR) for question, answer in zip(task.questions, answers))
            for task, answers in answered_tasks
        ]

    def score(self, verdicts: Scores) -> float:
        return float(all(verdicts))

    def _orders(self, task: ArcTask) -> int:
        """Number of orders: n demonstrations have only n rotations."""
        return min(self.orders, len(task.demonstrations))


def _vote(predicted: Sequence[Grid | None]) -> str:
    """The text of the most common grids; ties go to the earlier grid."""
    counted = Counter(grid for grid in predicted if grid)  # keeps the order of appearance, as most_common does
    return _SEPARATOR.join(grid_text(grid) for grid, _ in counted.most_common(ATTEMPTS))


def attempts(answer: str) -> list[Grid]:
    """The grids of an answer, at most two."""
    return [grid for text in answer.split(_SEPARATOR) if (grid := read_grid(text))]
