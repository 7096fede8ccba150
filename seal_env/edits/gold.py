"""Edits made from a task's questions and answers: what an update teaches at best, and what wrong edits do."""

from __future__ import annotations

from seal_env.edits.split import pairs_text
from seal_env.tasks import Task


def gold_statements(task: Task) -> str:
    """Every question with its answer as a statement, one a line."""
    return "\n".join(_statement(question.question, question.answers[0]) for question in task.questions)


def gold_pairs(task: Task) -> str:
    """Every question with its answer, as an edit of the format ``self-qa``."""
    return pairs_text((question.question, question.answers[0]) for question in task.questions)


def half_wrong_statements(task: Task) -> str:
    """:func:`gold_statements`, where every second statement has the answer of another question, if answers differ."""
    answers = [question.answers[0] for question in task.questions]
    lines = []
    for i, question in enumerate(task.questions):
        others = [answer for answer in answers[i + 1 :] + answers[:i] if answer != answers[i]]
        lines.append(_statement(question.question, others[0] if i % 2 == 0 and others else answers[i]))
    return "\n".join(lines)


def _statement(question: str, answer: str) -> str:
    return f'The answer to "{question.strip()}" is {answer.strip()}.'
