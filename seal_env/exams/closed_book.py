"""Questions about a passage that is out of sight (paper, section 4.1)."""

from __future__ import annotations

from collections.abc import Sequence

from seal_env.exams.base import Answers, Marks, Verdicts, mean
from seal_env.grading import Answered, Grader, by_text, exact, grade
from seal_env.tasks import Task, question_prompt


class ClosedBook:
    """One prompt a question; the score is the mean mark of the questions that are graded.

    Args:
        grader: was this answer right? See :mod:`seal_env.grading`; by default exact match.
        max_new_tokens: most tokens of an answer.
        stop: strings that end an answer.
    """

    def __init__(self, grader: Grader | None = None, *, max_new_tokens: int = 64, stop: Sequence[str] = ("\n",)) -> None:
        self.grader = grader or by_text(exact)
        self.max_new_tokens = max_new_tokens
        self.stop = tuple(stop)

    def prompts(self, task: Task) -> list[str]:
        return [question_prompt(task.title, one.question) for one in task.questions]

    def answers(self, task: Task, texts: Sequence[str]) -> Answers:
        return tuple(text.strip() for text in texts)

    def marks(self, asked: Sequence[tuple[Task, Answers]]) -> list[Verdicts]:
        verdicts = grade(self.grader, (one for task, answers in asked for one in answered(task, answers)))
        return [tuple(verdicts[one] for one in answered(task, answers)) for task, answers in asked]

    def score(self, marks: Marks) -> float:
        return mean(marks)


def answered(task: Task, answers: Answers) -> list[Answered]:
    """What a grader is shown of the answers to a task's questions."""
    return [Answered(one.question, answer, tuple(one.answers)) for one, answer in zip(task.questions, answers)]
