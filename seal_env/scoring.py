"""Jobs in, outcomes out: updates the student on each job's plan and asks it the tasks' questions.

This is the whole of a SEAL reward. An outcome is a function of its job, the base weights and the scorer's settings; scoring
jobs together only saves time. What an un-updated student answers is the same for all edits of a task, so it is kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from seal_env.grading import Answered, Grader, Mark, by_text, exact, grade
from seal_env.plan import UpdatePlan
from seal_env.student import FitReport, Student
from seal_env.tasks import Task, question_prompt

Answers = tuple[str, ...]


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
    """

    task: Task
    answers_before: Answers
    answers: Answers
    correct_before: tuple[Mark, ...]
    correct: tuple[Mark, ...]

    @property
    def score_before(self) -> float:
        """Share of the questions answered right before the update."""
        return sum(self.correct_before) / len(self.correct_before)

    @property
    def score(self) -> float:
        """Share of the questions answered right after it."""
        return sum(self.correct) / len(self.correct)


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
        grader: was this answer right? See :mod:`seal_env.grading`; by default exact match.
        max_new_tokens: most tokens of an answer.
        stop: strings that end an answer.
    """

    def __init__(
        self, student: Student, grader: Grader | None = None, *, max_new_tokens: int = 64, stop: Sequence[str] = ("\n",)
    ) -> None:
        self.student = student
        self.grader = grader or by_text(exact)
        self.max_new_tokens = max_new_tokens
        self.stop = tuple(stop)
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
        verdicts = grade(
            self.grader, (one for group in groups for task, *both in group for texts in both for one in answered(task, texts))
        )
        return [
            Outcome(tuple(graded(verdicts, *part) for part in group), report, adapter)
            for group, report, adapter in zip(groups, fitted.reports, fitted.adapters)
        ]

    def ask(self, adapters: Tensor, tasks: Sequence[Sequence[Task]]) -> list[list[Answers]]:
        """Closed-book answers of each adapter ``(n, adapter_size)`` to its own tasks' questions."""
        prompts = [[question_prompt(task.title, q.question) for task in group for q in task.questions] for group in tasks]
        texts_of = self.student.answer(adapters, prompts, max_new_tokens=self.max_new_tokens, stop=self.stop)
        found = []
        for group, answers in zip(tasks, texts_of):
            texts = iter([answer.text.strip() for answer in answers])
            found.append([tuple(next(texts) for _ in task.questions) for task in group])
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


def answered(task: Task, answers: Answers) -> list[Answered]:
    """What a grader is shown of the answers to a task's questions."""
    return [Answered(one.question, answer, tuple(one.answers)) for one, answer in zip(task.questions, answers)]


def graded(verdicts: Mapping[Answered, Mark], task: Task, before: Answers, after: Answers) -> TaskResult:
    """A task's result by verdicts that a grader gave on its answers."""
    correct_before, correct = (tuple(verdicts[one] for one in answered(task, answers)) for answers in (before, after))
    return TaskResult(task, before, after, correct_before, correct)
