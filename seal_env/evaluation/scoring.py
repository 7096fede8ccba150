"""Jobs in, outcomes out: updates the student by each job and asks it the tasks' questions.

This is the whole of a SEAL reward. An outcome is a function of its job, the base weights and the scorer's settings: scoring
jobs together, or elsewhere, only saves time. What an un-updated student answers is the same for all edits of a task, so it is
kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from seal_env.evaluation import Answers, Evaluator, Scores, Verdicts, mean
from seal_env.student import FitReport, Student
from seal_env.student.requests import GenerationConfig, UpdateRequest, UpdateResult, run_updates, tensor
from seal_env.tasks import Task
from seal_env.update import Update


class RunUpdates(Protocol):
    """Whoever has work done: see :func:`seal_env.student.requests.run_updates`."""

    def __call__(
        self, student: Student, requests: Sequence[UpdateRequest], generation: GenerationConfig, *, progress: bool = False
    ) -> list[UpdateResult]: ...


@dataclass(frozen=True)
class Job:
    """One self-edit to be scored.

    Attributes:
        tasks: what is asked after the update.
        update: what the edit turned into.
        start: adapter to go on from, ``(adapter_size,)``; a fresh one, seeded by the update, by default.
    """

    tasks: tuple[Task, ...]
    update: Update
    start: Tensor | None = None


@dataclass(frozen=True)
class TaskResult:
    """How one task's questions were answered, in their order, before and after the update.

    Attributes:
        correct_before: verdict on each of ``answers_before``; a mark from 0 to 1 where the grader gives marks, None where the
            answer is not graded.
        correct: verdict on each of ``answers``.
        score_before: of the task before the update, as the exam counts. Both scores are about the questions that are graded
            before and after, so that their difference is one of answers and not of questions; without any, both are 0.
        score: after it.
    """

    task: Task
    answers_before: Answers
    answers: Answers
    correct_before: Verdicts
    correct: Verdicts
    score_before: float
    score: float

    @classmethod
    def of(
        cls,
        task: Task,
        answers_before: Answers,
        answers: Answers,
        correct_before: Verdicts,
        correct: Verdicts,
        score: Callable[[Scores], float] = mean,
    ) -> TaskResult:
        """The result of these verdicts, where ``score`` is how the exam counts them."""
        graded = [(was, now) for was, now in zip(correct_before, correct) if was is not None and now is not None]
        before, after = (score(marks) for marks in zip(*graded)) if graded else (0.0, 0.0)
        return cls(task, answers_before, answers, correct_before, correct, before, after)

    @property
    def graded(self) -> int:
        """How many questions the scores are about: those with a verdict before and after the update."""
        return sum(was is not None and now is not None for was, now in zip(self.correct_before, self.correct))


@dataclass(frozen=True)
class Outcome:
    """What came of a job.

    Attributes:
        results: of each of its tasks.
        fit: what happened in training; where nothing was trained, answers are those of before.
        adapter: after the update, ``(adapter_size,)``; None where the scorer was to leave it out.
    """

    results: tuple[TaskResult, ...]
    fit: FitReport
    adapter: Tensor | None

    @property
    def score_before(self) -> float:
        """Mean over the tasks with a graded question; 0 where no task has one."""
        return self._mean([result.score_before for result in self.results if result.graded])

    @property
    def score(self) -> float:
        """The same after the update."""
        return self._mean([result.score for result in self.results if result.graded])

    @staticmethod
    def _mean(scores: Sequence[float]) -> float:
        return sum(scores) / len(scores) if scores else 0.0

    @property
    def gain(self) -> float:
        """How much the update improved the score."""
        return self.score - self.score_before

    @property
    def graded(self) -> int:
        """How many questions the scores are about."""
        return sum(result.graded for result in self.results)

    @property
    def ungraded(self) -> int:
        """How many questions the scores leave out, for want of a verdict before or after the update."""
        return sum(len(result.correct) for result in self.results) - self.graded


class Scorer:
    """Scores jobs.

    Args:
        student: updated and asked; its base may change between calls by :meth:`Student.merge` and :meth:`Student.load_base`.
        exam: how it is asked and marked. Answers are marked in this process, wherever they were written.
        carry_out: where updates are fitted and prompts answered: by ``student``, in this process, or by workers that each
            hold its like (:class:`seal_env.distributed.Dispatcher`).
        adapters: whether outcomes hold the adapters, which can be large.
    """

    def __init__(
        self, student: Student, evaluator: Evaluator, run_updates: RunUpdates = run_updates, *, adapters: bool = True
    ) -> None:
        self.student = student
        self.evaluator = evaluator
        self._run_updates = run_updates
        self._generation = GenerationConfig(evaluator.max_new_tokens, tuple(evaluator.stop), adapters)
        self._before: dict[Task, Answers] = {}
        self._base_version = student.base_version

    def score(self, jobs: Sequence[Job], *, progress: bool = False) -> list[Outcome]:
        """Update and ask; one outcome a job, in order.

        Raises:
            ValueError: the grader returned something other than a verdict.
            GradingError: the grader could not say of every answer whether it is right.
            WorkersLost: workers were lost again and again.
        """
        jobs = list(jobs)
        if not jobs:
            return []
        if self.student.base_version != self._base_version:
            self._before.clear()
            self._base_version = self.student.base_version
        unseen = list({task: None for job in jobs if job.start is None for task in job.tasks if task not in self._before})
        # Evaluations of one edit go on from one adapter: it is asked once.
        started = list({(id(job.start), job.tasks): job for job in jobs if job.start is not None}.values())
        prompts = {task: self.evaluator.prompts(task) for task in dict.fromkeys(task for job in jobs for task in job.tasks)}

        def request(tasks: Sequence[Task], update: Update | None = None, start: Tensor | None = None) -> UpdateRequest:
            asked = tuple(prompt for task in tasks for prompt in prompts[task])
            return UpdateRequest(asked, update, None if start is None else start.numpy())

        def answers(tasks: Sequence[Task], done: UpdateResult) -> list[Answers]:
            texts = iter(done.texts or ())
            return [self.evaluator.answers(task, [next(texts) for _ in prompts[task]]) for task in tasks]

        requests = [
            *(request((task,)) for task in unseen),
            *(request(job.tasks, None, job.start) for job in started),
            *(request(job.tasks, job.update, job.start) for job in jobs),
        ]
        done = iter(self._run_updates(self.student, requests, self._generation, progress=progress))
        for task in unseen:
            (self._before[task],) = answers((task,), next(done))
        own = {(id(job.start), job.tasks): answers(job.tasks, next(done)) for job in started}
        groups, rest = list[list[tuple[Task, Answers, Answers]]](), list(done)
        for job, one in zip(jobs, rest):
            before = own.get((id(job.start), job.tasks)) or [self._before[task] for task in job.tasks]
            after = before if one.texts is None else answers(job.tasks, one)
            groups.append(list(zip(job.tasks, before, after)))
        results = iter(examined(self.evaluator, [part for group in groups for part in group]))
        return [
            Outcome(tuple(next(results) for _ in group), one.report, None if one.adapter is None else tensor(one.adapter))
            for group, one in zip(groups, rest)
            if one.report is not None
        ]


def examined(evaluator: Evaluator, parts: Sequence[tuple[Task, Answers, Answers]]) -> list[TaskResult]:
    """The results of tasks with the answers before and after an update.

    Raises:
        ValueError: the grader returned something other than a verdict.
        GradingError: the grader could not say of every answer whether it is right.
    """
    marks = iter(evaluator.marks([(task, answers) for task, *both in parts for answers in both]))
    found = []
    for task, before, after in parts:
        found.append(TaskResult.of(task, before, after, next(marks), next(marks), evaluator.score))
    return found
