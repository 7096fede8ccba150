"""The evaluator protocol: how an updated student is questioned and scored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from seal_env.chat import Prompt
from seal_env.evaluation.graders import Score
from seal_env.tasks import Task

Answers = tuple[str, ...]
Scores = tuple[Score, ...]
Verdicts = tuple[Score | None, ...]  # None: the answer is ungraded and its question left out of the score


class Evaluator(Protocol):
    """Turns a task into prompts, generated texts into answers, and answers into verdicts and a score.

    Attributes:
        max_new_tokens: maximum number of tokens generated for a prompt.
        stop: strings that end a generated text.
    """

    max_new_tokens: int
    stop: tuple[str, ...]

    def prompts(self, task: Task) -> list[Prompt]:
        """The prompts for the task's questions, texts or token ids. A question may take several prompts."""

    def answers(self, task: Task, texts: Sequence[str]) -> Answers:
        """One answer to each of the task's questions, read from the texts generated for :meth:`prompts`."""

    def verdicts(self, answered_tasks: Sequence[tuple[Task, Answers]]) -> list[Verdicts]:
        """The verdict on every answer, for each task; None where an answer is ungraded.

        Raises:
            ValueError: the grader returned something other than a verdict.
            GradingError: the grader could not decide whether an answer is right.
        """

    def score(self, verdicts: Scores) -> float:
        """The score of a task, 0 to 1, from the verdicts on its graded answers. There is at least one."""


def mean(verdicts: Scores) -> float:
    """The mean verdict."""
    return sum(verdicts) / len(verdicts)
