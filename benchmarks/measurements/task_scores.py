"""Scores of given edits on given tasks, and how they are printed; what the scripts ``benchmarks.measure_*`` share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import gymnasium as gym

import seal_env  # noqa: F401  registers the environments
from benchmarks.reports.intervals import Estimate, mean_interval
from seal_env.chat import Template
from seal_env.edits import ParsedEdit
from seal_env.evaluation import ClosedBook
from seal_env.evaluation.scoring import ScoreRequest
from seal_env.tasks import Task, open_book_prompt


class TaskScorer:
    """Updates and evaluates a student as an environment does, on tasks of any source.

    Args:
        env_id: of the environment.
        options: its keywords.
    """

    def __init__(self, env_id: str, **options: Any) -> None:
        engine = gym.make_vec(env_id, num_envs=1, **options).unwrapped.engine  # type: ignore[attr-defined]
        self.config, self.student, self.domain = engine.config, engine.student, engine.domain
        self._scorer = engine.scorer

    def score(self, tasks: Sequence[Task], edits: Iterable[ParsedEdit]) -> list[float]:
        """The score of each task after the update on its edit."""
        requests = [ScoreRequest((task,), edit.update) for task, edit in zip(tasks, edits, strict=True)]
        return [outcome.score for outcome in self._scorer.score(requests)]

    def score_open_book(self, tasks: Sequence[Task]) -> list[float]:
        """The scores of knowledge tasks without an update, with the passage in each prompt, of the tasks with a verdict."""
        evaluator = self.domain.evaluator
        assert isinstance(evaluator, ClosedBook)
        chat = evaluator.chat
        template: Template = "base" if chat is None else "instruct"
        prompts = []
        for task in tasks:
            texts = [open_book_prompt(task.title, task.context, q.question, template) for q in task.questions]
            prompts.append([text if chat is None else chat.prompt(text) for text in texts])
        adapters = self.student.zero(len(prompts))
        groups = self.student.answer(adapters, prompts, max_new_tokens=evaluator.max_new_tokens, stop=evaluator.stop)
        answers = [(task, evaluator.answers(task, [answer.text for answer in group])) for task, group in zip(tasks, groups)]
        graded = [[verdict for verdict in verdicts if verdict is not None] for verdicts in evaluator.verdicts(answers)]
        return [evaluator.score(tuple(verdicts)) for verdicts in graded if verdicts]


def percent(scores: Sequence[float]) -> str:
    """The mean of ``scores`` in percent, with its 95 % interval over tasks."""
    return _percent(mean_interval(scores))


def print_row(name: str, scores: Sequence[float]) -> Estimate:
    """Print a row of a table; returns the mean, as a share, with its interval over tasks."""
    estimate = mean_interval(scores)
    print(f"{name:<44} {_percent(estimate)}", flush=True)
    return estimate


def _percent(estimate: Estimate) -> str:
    low, high = estimate.low or 0.0, estimate.high or 0.0
    return f"{100 * estimate.value:5.1f} %   [{100 * low:5.1f}, {100 * high:5.1f}]"
