"""Jobs in, outcomes out: updates the student on each job's plan and asks it the tasks' questions.

This is the whole of a SEAL reward. An outcome is a function of its job, the base weights and the scorer's settings; scoring
jobs together only saves time. What an un-updated student answers is the same for all edits of a task, so it is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from seal_env.exams import Answers, Exam, Marks, mean
from seal_env.plan import UpdatePlan
from seal_env.student import FitReport, Student
from seal_env.tasks import Task


@dataclass(frozen=True)
class Job:
    """One self-edit to be scored.

    Attributes:
        tasks: what is asked after the update.
        plan: what the edit turned into.
        start: adapter to go on from, ``(adapter_size,)``; a fresh one, seeded by the plan, by default.
    """

    tasks: tuple[Task, ...]
    plan: UpdatePlan
    start: Tensor | None = None


@dataclass(frozen=True)
class TaskResult:
    """How one task's questions were answered, in their order, before and after the update.

    Attributes:
        correct_before: verdict on each of ``answers_before``; a mark from 0 to 1 where the grader gives marks.
        correct: verdict on each of ``answers``.
        score_before: of the task before the update, as the exam counts.
        score: after it.
    """

    task: Task
    answers_before: Answers
    answers: Answers
    correct_before: Marks
    correct: Marks
    score_before: float
    score: float

    @classmethod
    def of(
        cls,
        task: Task,
        answers_before: Answers,
        answers: Answers,
        correct_before: Marks,
        correct: Marks,
        score: Callable[[Marks], float] = mean,
    ) -> TaskResult:
        """The result of these marks, where ``score`` is how the exam counts them."""
        return cls(task, answers_before, answers, correct_before, correct, score(correct_before), score(correct))


@dataclass(frozen=True)
class Outcome:
    """What came of a job.

    Attributes:
        results: of each of its tasks.
        fit: what happened in training; where nothing was trained, answers are those of before.
        adapter: after the update, ``(adapter_size,)``.
    """

    results: tuple[TaskResult, ...]
    fit: FitReport
    adapter: Tensor

    @property
    def score_before(self) -> float:
        """Mean over the tasks."""
        return sum(result.score_before for result in self.results) / len(self.results)

    @property
    def score(self) -> float:
        """Mean over the tasks, after the update."""
        return sum(result.score for result in self.results) / len(self.results)

    @property
    def gain(self) -> float:
        """How much the update improved the score."""
        return self.score - self.score_before


class Scorer:
    """Scores jobs in this process.

    Args:
        student: updated and asked; its base may change between calls by :meth:`Student.merge` and :meth:`Student.load_base`.
        exam: how it is asked and marked.
    """

    def __init__(self, student: Student, exam: Exam) -> None:
        self.student = student
        self.exam = exam
        self._before: dict[Task, Answers] = {}
        self._base_version = student.base_version

    def score(self, jobs: Sequence[Job], *, progress: bool = False) -> list[Outcome]:
        """Update and ask; one outcome a job, in order.

        Raises:
            GradingError: the grader could not say of every answer whether it is right.
        """
        jobs = list(jobs)
        if not jobs:
            return []
        fresh = self.student.fresh([job.plan.seed for job in jobs])
        start = torch.stack([row if job.start is None else job.start for job, row in zip(jobs, fresh)])
        fitted = self.student.fit([job.plan for job in jobs], start, progress=progress)
        before = self._answers_before(jobs)
        changed = [i for i, r in enumerate(fitted.reports) if r.status.learnt]
        after = dict(zip(changed, self.ask(fitted.adapters[changed], [jobs[i].tasks for i in changed])))
        groups = [list(zip(job.tasks, before[i], after.get(i, before[i]))) for i, job in enumerate(jobs)]
        results = iter(examined(self.exam, [part for group in groups for part in group]))
        return [
            Outcome(tuple(next(results) for _ in group), report, adapter)
            for group, report, adapter in zip(groups, fitted.reports, fitted.adapters)
        ]

    def ask(self, adapters: Tensor, tasks: Sequence[Sequence[Task]]) -> list[list[Answers]]:
        """Answers of each adapter ``(n, adapter_size)`` to its own tasks' questions."""
        exam = self.exam
        prompts = [[exam.prompts(task) for task in group] for group in tasks]
        flat = [[prompt for own in group for prompt in own] for group in prompts]
        texts_of = self.student.answer(adapters, flat, max_new_tokens=exam.max_new_tokens, stop=exam.stop)
        found = []
        for group, own, answers in zip(tasks, prompts, texts_of):
            texts = iter([answer.text for answer in answers])
            found.append([exam.answers(task, [next(texts) for _ in asked]) for task, asked in zip(group, own)])
        return found

    def _answers_before(self, jobs: list[Job]) -> list[list[Answers]]:
        if self.student.base_version != self._base_version:
            self._before.clear()
            self._base_version = self.student.base_version
        unseen = list({task: None for job in jobs if job.start is None for task in job.tasks if task not in self._before})
        for task, (answers,) in zip(unseen, self.ask(self.student.zero(len(unseen)), [[task] for task in unseen])):
            self._before[task] = answers
        # Evaluations of one edit go on from one adapter: it is asked once.
        started = {(id(job.start), job.tasks): job.start for job in jobs if job.start is not None}
        asked = self.ask(torch.stack(list(started.values())), [tasks for _, tasks in started]) if started else []
        own = dict(zip(started, asked))
        return [own.get((id(job.start), job.tasks)) or [self._before[task] for task in job.tasks] for job in jobs]


def examined(exam: Exam, parts: Sequence[tuple[Task, Answers, Answers]]) -> list[TaskResult]:
    """The results of tasks with the answers before and after an update.

    Raises:
        GradingError: the grader could not say of every answer whether it is right.
    """
    marks = iter(exam.marks([(task, answers) for task, *both in parts for answers in both]))
    found = []
    for task, before, after in parts:
        found.append(TaskResult.of(task, before, after, next(marks), next(marks), exam.score))
    return found
