"""Jobs in, outcomes out: updates the student on each job's plan and asks it the task's questions.

This is the whole of a SEAL reward. An outcome is a function of its job, the base weights and the scorer's settings; jobs that
are scored together only save time. Answers before the update are the same for all edits of a task, so they are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from seal_env.grading import exact
from seal_env.plan import UpdatePlan
from seal_env.student import FitReport, FitStatus, Student
from seal_env.tasks import Task, question_prompt

Grader = Callable[[str, Sequence[str]], bool]


@dataclass(frozen=True)
class Job:
    """One self-edit to be scored.

    Attributes:
        task: asked about after the update.
        plan: what the edit turned into.
        start: adapter to go on from, ``(adapter_size,)``; a fresh one, seeded by the plan, by default.
    """

    task: Task
    plan: UpdatePlan
    start: Tensor | None = None


@dataclass(frozen=True)
class Outcome:
    """What came of a job.

    Attributes:
        score_before: share of the questions answered right before the update (by ``start``).
        score: share answered right after it.
        answers_before: to each question of the task, in order.
        answers: to each question after the update.
        correct_before: verdict on each of ``answers_before``.
        correct: verdict on each of ``answers``.
        fit: what happened in training; where nothing was trained, the score is the one before.
        adapter: after the update, ``(adapter_size,)``.
    """

    score_before: float
    score: float
    answers_before: tuple[str, ...]
    answers: tuple[str, ...]
    correct_before: tuple[bool, ...]
    correct: tuple[bool, ...]
    fit: FitReport
    adapter: Tensor

    @property
    def gain(self) -> float:
        """How much the update improved the score."""
        return self.score - self.score_before


class Scorer:
    """Scores jobs in this process.

    Args:
        student: updated and asked; its base may change between calls, but not by weights assigned from outside.
        grader: ``grader(answer, accepted answers)``: was this answer right?
        max_new_tokens: most tokens of an answer.
        stop: strings that end an answer.
    """

    def __init__(
        self, student: Student, grader: Grader = exact, *, max_new_tokens: int = 64, stop: Sequence[str] = ("\n",)
    ) -> None:
        self.student = student
        self.grader = grader
        self.max_new_tokens = max_new_tokens
        self.stop = tuple(stop)
        self._before: dict[Task, tuple[str, ...]] = {}
        self._base_version = student.base_version

    def score(self, jobs: Sequence[Job], *, progress: bool = False) -> list[Outcome]:
        """Update and ask; one outcome a job, in order."""
        jobs = list(jobs)
        if not jobs:
            return []
        fresh = self.student.fresh([job.plan.seed for job in jobs])
        start = torch.stack([row if job.start is None else job.start for job, row in zip(jobs, fresh)])
        fitted = self.student.fit([job.plan for job in jobs], start, progress=progress)
        before = self._answers_before(jobs)
        changed = [i for i, r in enumerate(fitted.reports) if r.status in (FitStatus.TRAINED, FitStatus.TRUNCATED)]
        asked = self.ask(fitted.adapters[changed], [jobs[i].task for i in changed])
        after = dict(zip(changed, asked))
        return [
            self._outcome(job, before[i], after.get(i, before[i]), fitted.reports[i], fitted.adapters[i])
            for i, job in enumerate(jobs)
        ]

    def _outcome(self, job: Job, before: tuple[str, ...], after: tuple[str, ...], fit: FitReport, adapter: Tensor) -> Outcome:
        correct_before, correct = (
            tuple(self.grader(answer, question.answers) for answer, question in zip(answers, job.task.questions))
            for answers in (before, after)
        )
        questions = max(1, len(correct))
        return Outcome(
            sum(correct_before) / questions, sum(correct) / questions, before, after, correct_before, correct, fit, adapter
        )

    def ask(self, adapters: Tensor, tasks: Sequence[Task]) -> list[tuple[str, ...]]:
        """Answers of each adapter ``(tasks, adapter_size)`` to its task's questions, closed-book."""
        prompts = [[question_prompt(task.title, q.question) for q in task.questions] for task in tasks]
        groups = self.student.answer(adapters, prompts, max_new_tokens=self.max_new_tokens, stop=self.stop)
        return [tuple(answer.text.strip() for answer in group) for group in groups]

    def _answers_before(self, jobs: list[Job]) -> list[tuple[str, ...]]:
        if self.student.base_version != self._base_version:
            self._before.clear()
            self._base_version = self.student.base_version
        unseen = list({job.task: None for job in jobs if job.start is None and job.task not in self._before})
        self._before.update(zip(unseen, self.ask(self.student.zero(len(unseen)), unseen)))
        started = [(job.start, job.task) for job in jobs if job.start is not None]
        if not started:
            return [self._before[job.task] for job in jobs]
        own = iter(self.ask(torch.stack([start for start, _ in started]), [task for _, task in started]))
        return [self._before[job.task] if job.start is None else next(own) for job in jobs]
