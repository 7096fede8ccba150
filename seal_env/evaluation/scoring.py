"""Scoring self-edits: update the student, question it before and after the update, and grade the answers.

This is all of a SEAL reward but its last step, from an :class:`Outcome` to a number. An outcome is a function of its request,
the base weights and the scorer's settings. Scoring requests together, or on workers, only saves time. What the student answers
without an update is the same for all edits of a task, so it is cached, for large models on disk.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Protocol

from torch import Tensor

from seal_env.chat import Prompt
from seal_env.evaluation import Answers, Evaluator, Scores, Verdicts, mean
from seal_env.evaluation.answer_cache import AnswerCache
from seal_env.student import FitReport, Student
from seal_env.student.requests import GenerationConfig, UpdateRequest, UpdateResult, adapter_tensor, run_updates
from seal_env.tasks import Task
from seal_env.update import Update


class RunUpdates(Protocol):
    """Runs update requests, see :func:`seal_env.student.requests.run_updates`."""

    def __call__(
        self, student: Student, requests: Sequence[UpdateRequest], generation: GenerationConfig, *, progress: bool = False
    ) -> list[UpdateResult]: ...


@dataclass(frozen=True)
class ScoreRequest:
    """A self-edit to score.

    Attributes:
        tasks: whose questions the student answers after the update.
        update: what the edit was parsed into.
        adapter: ``(adapter_size,)``, where training starts; None starts from a new adapter, seeded by ``update``.
    """

    tasks: tuple[Task, ...]
    update: Update
    adapter: Tensor | None = None


@dataclass(frozen=True)
class TaskResult:
    """Answers to one task's questions, in their order, before and after the update.

    Attributes:
        correct_before: verdicts on ``answers_before``: a bool or a number from 0 to 1, None where the answer is ungraded.
        correct: verdicts on ``answers``.
        score_before: the task's score before the update. Both scores cover the questions that are graded before and after, so
            that their difference is one of answers and not of questions; both are 0 if there are none.
        score: the task's score after the update.
    """

    task: Task
    answers_before: Answers
    answers: Answers
    correct_before: Verdicts
    correct: Verdicts
    score_before: float
    score: float

    @classmethod
    def from_verdicts(
        cls,
        task: Task,
        answers_before: Answers,
        answers: Answers,
        correct_before: Verdicts,
        correct: Verdicts,
        score: Callable[[Scores], float] = mean,
    ) -> TaskResult:
        """Compute both scores from the verdicts with ``score``, see :meth:`Evaluator.score`."""
        graded = [(was, now) for was, now in zip(correct_before, correct) if was is not None and now is not None]
        before, after = (score(verdicts) for verdicts in zip(*graded)) if graded else (0.0, 0.0)
        return cls(task, answers_before, answers, correct_before, correct, before, after)

    @property
    def graded(self) -> int:
        """Number of questions with a verdict before and after the update."""
        return sum(was is not None and now is not None for was, now in zip(self.correct_before, self.correct))


@dataclass(frozen=True)
class Outcome:
    """The outcome of a self-edit; a reward is a function of it.

    Attributes:
        results: one for each task.
        fit: the training report. Where nothing was trained, the answers are those before the update.
        adapter: ``(adapter_size,)`` after the update; None if the scorer does not return adapters.
    """

    results: tuple[TaskResult, ...]
    fit: FitReport
    adapter: Tensor | None

    @property
    def score_before(self) -> float:
        """Mean score before the update over the tasks with a graded question; 0 if there are none."""
        return self._mean([result.score_before for result in self.results if result.graded])

    @property
    def score(self) -> float:
        """Mean score after the update over the tasks with a graded question; 0 if there are none."""
        return self._mean([result.score for result in self.results if result.graded])

    @staticmethod
    def _mean(scores: Sequence[float]) -> float:
        return sum(scores) / len(scores) if scores else 0.0

    @property
    def gain(self) -> float:
        """``score - score_before``."""
        return self.score - self.score_before

    @property
    def graded(self) -> int:
        """Number of questions that the scores cover."""
        return sum(result.graded for result in self.results)

    @property
    def ungraded(self) -> int:
        """Number of questions without a verdict before or after the update, which the scores leave out."""
        return sum(len(result.correct) for result in self.results) - self.graded


class Scorer:
    """Scores self-edits.

    Args:
        student: the model that is updated. Its base may change between calls by :meth:`Student.merge` and
            :meth:`Student.load_base`.
        evaluator: questions the student and grades its answers. Answers are graded in this process.
        run_updates: where updates run: in this process by default, or on workers
            (:class:`seal_env.distributed.Dispatcher`).
        return_adapters: whether outcomes hold the adapters, which can be large.
    """

    def __init__(
        self, student: Student, evaluator: Evaluator, run_updates: RunUpdates = run_updates, *, return_adapters: bool = True
    ) -> None:
        self.student = student
        self.evaluator = evaluator
        self._run_updates = run_updates
        self._generation = GenerationConfig(evaluator.max_new_tokens, tuple(evaluator.stop), return_adapters)
        self._base_answers: dict[Task, Answers] = {}
        self._cache = AnswerCache(student, self._generation) if AnswerCache.suits(student) else None
        self._base_version = student.base_version

    def score(self, requests: Sequence[ScoreRequest], *, progress: bool = False) -> list[Outcome]:
        """One outcome for each request, in order.

        Raises:
            ValueError: the grader returned something other than a verdict.
            GradingError: the grader could not decide whether an answer is right.
            WorkersLost: workers died too often.
        """
        if not requests:
            return []
        all_tasks = dict.fromkeys(task for request in requests for task in request.tasks)
        prompts = {task: self.evaluator.prompts(task) for task in all_tasks}
        baselines = self._missing_baselines(requests, prompts)
        results = self._run_updates(
            self.student,
            [
                *(_update_request(prompts, tasks, adapter) for tasks, adapter in baselines),
                *(_update_request(prompts, request.tasks, request.adapter, request.update) for request in requests),
            ],
            self._generation,
            progress=progress,
        )
        # By adapter: what the student answered with it before the update. Answers of the base are kept for the next call.
        answers_before = defaultdict[int, dict[Task, Answers]](dict, {id(None): self._base_answers})
        for (tasks, adapter), result in zip(baselines, results):
            if self._cache and adapter is None and result.texts is not None:
                self._cache.put([prompt for task in tasks for prompt in prompts[task]], result.texts)
            answers_before[id(adapter)] |= self._read_answers(prompts, tasks, result)
        results = results[len(baselines) :]
        answers: list[tuple[Task, Answers, Answers]] = []
        for request, result in zip(requests, results):
            before = answers_before[id(request.adapter)]
            after = before if result.texts is None else self._read_answers(prompts, request.tasks, result)
            answers += [(task, before[task], after[task]) for task in request.tasks]
        task_results = iter(self._grade(answers))
        return [_outcome(tuple(islice(task_results, len(r.tasks))), result) for r, result in zip(requests, results)]

    def _missing_baselines(
        self, requests: Sequence[ScoreRequest], prompts: Mapping[Task, list[Prompt]]
    ) -> list[tuple[tuple[Task, ...], Tensor | None]]:
        """Tasks, and the adapter to answer them with, whose answers before the update are not cached."""
        if self.student.base_version != self._base_version:
            self._base_answers.clear()
            self._base_version, self._cache = self.student.base_version, None
        tasks = dict.fromkeys(task for request in requests if request.adapter is None for task in request.tasks)
        if cache := self._cache:
            kept = {task: cache.get(prompts[task]) for task in tasks if task not in self._base_answers}
            self._base_answers |= {task: self.evaluator.answers(task, texts) for task, texts in kept.items() if texts}
        # Repeated evaluations of one edit start from the same adapter, which answers once.
        adapted = {(id(request.adapter), request.tasks): request for request in requests if request.adapter is not None}
        return [
            *(((task,), None) for task in tasks if task not in self._base_answers),
            *((request.tasks, request.adapter) for request in adapted.values()),
        ]

    def _read_answers(
        self, prompts: Mapping[Task, list[Prompt]], tasks: Sequence[Task], result: UpdateResult
    ) -> dict[Task, Answers]:
        texts = iter(result.texts or ())
        return {task: self.evaluator.answers(task, list(islice(texts, len(prompts[task])))) for task in tasks}

    def _grade(self, answers: Sequence[tuple[Task, Answers, Answers]]) -> list[TaskResult]:
        """The result of each task, from its answers before and after the update."""
        verdicts = iter(self.evaluator.verdicts([(task, given) for task, *both in answers for given in both]))
        return [
            TaskResult.from_verdicts(task, before, after, next(verdicts), next(verdicts), self.evaluator.score)
            for task, before, after in answers
        ]


def _update_request(
    prompts: Mapping[Task, list[Prompt]], tasks: Sequence[Task], adapter: Tensor | None, update: Update | None = None
) -> UpdateRequest:
    task_prompts = tuple(chain.from_iterable(prompts[task] for task in tasks))
    return UpdateRequest(task_prompts, update, None if adapter is None else adapter.numpy())


def _outcome(results: tuple[TaskResult, ...], update: UpdateResult) -> Outcome:
    assert update.report is not None
    return Outcome(results, update.report, None if update.adapter is None else adapter_tensor(update.adapter))
