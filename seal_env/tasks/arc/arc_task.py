"""An ARC task: demonstrations of a rule, and grids to apply it to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from seal_env.tasks.arc.augment import Pair
from seal_env.tasks.arc.grid_prompts import pairs_text
from seal_env.tasks.arc.grids import grid_text
from seal_env.tasks.task import Question, Task


@dataclass(frozen=True)
class ArcTask(Task):
    """An ARC task. Its context is the text of the demonstrations, and it has a question for each test.

    Attributes:
        demonstrations: pairs of input and output that follow the rule, at least one.
        tests: pairs whose output has to be predicted, at least one.
    """

    demonstrations: tuple[Pair, ...] = ()
    tests: tuple[Pair, ...] = ()

    @classmethod
    def of(cls, name: str, demonstrations: Sequence[Pair], tests: Sequence[Pair]) -> ArcTask:
        """The task with this name, which is its id and its title.

        Raises:
            ValueError: no demonstrations or no tests.
        """
        if not demonstrations:
            raise ValueError(f"task {name!r} has no demonstrations: there is no rule to learn from it")
        if not tests:
            raise ValueError(f"task {name!r} has no tests")
        questions = tuple(
            Question(grid_text(test.input), (grid_text(test.output),), id=f"{name}-{i}") for i, test in enumerate(tests)
        )
        context = pairs_text(demonstrations).strip()
        return cls(name, context, questions, name, tuple(demonstrations), tuple(tests))
