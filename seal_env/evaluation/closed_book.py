"""Closed-book questions: the student answers without seeing the passage (paper, section 4.1)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

from seal_env.chat import Chat, Prompt
from seal_env.evaluation.evaluator import Answers, Scores, Verdicts, mean
from seal_env.evaluation.graders import Answered, Grader, by_text, exact, grade
from seal_env.tasks import Task, question_prompt


class ClosedBook:
    """An :class:`~seal_env.evaluation.Evaluator` with one prompt a question; the score is the mean verdict.

    Args:
        grader: decides whether an answer is right, see :mod:`seal_env.evaluation.graders`; by default exact match.
        max_new_tokens: maximum number of tokens of an answer.
        stop: strings that end an answer; by default those of :func:`default_stop`.
        chat: the chat template of an instruct student; None for a base student, which continues raw text.
    """

    def __init__(
        self,
        grader: Grader | None = None,
        *,
        max_new_tokens: int = 64,
        stop: Sequence[str] | None = None,
        chat: Chat | None = None,
    ) -> None:
        self.grader = grader or by_text(exact)
        self.max_new_tokens = max_new_tokens
        self.stop = default_stop(chat) if stop is None else tuple(stop)
        self.chat = chat

    def prompts(self, task: Task) -> list[Prompt]:
        if self.chat is None:
            return [question_prompt(task.title, question.question) for question in task.questions]
        return [self.chat.prompt(question_prompt(task.title, question.question, "instruct")) for question in task.questions]

    def answers(self, task: Task, texts: Sequence[str]) -> Answers:
        return tuple(read_answer(text, self.chat) for text in texts)

    def verdicts(self, answered_tasks: Sequence[tuple[Task, Answers]]) -> list[Verdicts]:
        items = [answered(task, answers) for task, answers in answered_tasks]
        verdicts = grade(self.grader, chain.from_iterable(items))
        return [tuple(verdicts[item] for item in group) for group in items]

    def score(self, verdicts: Scores) -> float:
        return mean(verdicts)


def default_stop(chat: Chat | None) -> tuple[str, ...]:
    """The strings that end an answer: a line break for a base student, none for an instruct student, which ends its turn.

    An instruct model may begin with a line break or a block of thoughts, so stopping at a line break would give empty answers.
    """
    return ("\n",) if chat is None else ()


def read_answer(text: str, chat: Chat | None) -> str:
    """The answer in a generated text; an instruct student's thoughts are removed."""
    return text.strip() if chat is None else chat.answer(text)


def answered(task: Task, answers: Answers) -> list[Answered]:
    """The task's questions with their answers, as a grader takes them."""
    return [Answered(question.question, answer, tuple(question.answers)) for question, answer in zip(task.questions, answers)]
