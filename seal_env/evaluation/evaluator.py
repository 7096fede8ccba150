"""What an exam is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from seal_env.chat import Prompt
from seal_env.evaluation.graders import Score
from seal_env.tasks import Task

Answers = tuple[str, ...]
Scores = tuple[Score, ...]
Verdicts = tuple[Score | None, ...]  # None: the answer is not graded, and its question left out of the score


class Evaluator(Protocol):
    """From a task to prompts, from what was written to answers, and from answers to marks and a score.

    Attributes:
        max_new_tokens: most tokens to be written after a prompt.
        stop: strings that end what is written.
    """

    max_new_tokens: int
    stop: tuple[str, ...]

    def prompts(self, task: Task) -> list[Prompt]:
        """What the student reads, text or token ids; one task may take several prompts a question."""

    def answers(self, task: Task, texts: Sequence[str]) -> Answers:
        """The answer to each of the task's questions, from what was written after each prompt."""

    def marks(self, asked: Sequence[tuple[Task, Answers]]) -> list[Verdicts]:
        """For each of these, a mark on every answer; None where it is not graded.

        Raises:
            ValueError: a grader returned something other than a verdict.
            GradingError: nobody could say whether an answer is right.
        """

    def score(self, marks: Scores) -> float:
        """Of a task whose graded answers got these marks (one at least), from 0 to 1."""


def mean(marks: Scores) -> float:
    """The mean mark."""
    return sum(marks) / len(marks)
