"""Jobs in, outcomes out: updates the student on each job's plan and asks it the tasks' questions.

This is the whole of a SEAL reward. An outcome is a function of its job, the base weights and the scorer's settings: scoring
jobs together, or elsewhere, only saves time. What an un-updated student answers is the same for all edits of a task, so it is
kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from seal_env.exams import Answers, Exam, Marks, Verdicts, mean
from seal_env.plan import UpdatePlan
from seal_env.student import FitReport, Student
from seal_env.tasks import Task
from seal_env.work import Asking, Done, Work, carry_out, tensor


class CarryOut(Protocol):
    """Whoever has work done: see :func:`seal_env.work.carry_out`."""

    def __call__(self, student: Student, works: Sequence[Work], asking: Asking, *, progress: bool = False) -> list[Done]: ...


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
        score: Callable[[Marks], float] = mean,
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
        carry_out: where plans are learnt and prompts answered: by ``student`` itself, in this process, or by workers that each
            hold its like (:class:`seal_env.spread.Spread`).
        adapters: whether outcomes hold the adapters, which can be large.
    """

    def __init__(self, student: Student, exam: Exam, carry_out: CarryOut = carry_out, *, adapters: bool = True) -> None:
        self.student = student
        self.exam = exam
        self._carry_out = carry_out
        self._asking = Asking(exam.max_new_tokens, tuple(exam.stop), adapters)
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
        prompts = {task: self.exam.prompts(task) for task in dict.fromkeys(task for job in jobs for task in job.tasks)}

        def work(tasks: Sequence[Task], plan: UpdatePlan | None = None, start: Tensor | None = None) -> Work:
            asked = tuple(prompt for task in tasks for prompt in prompts[task])
            return Work(asked, plan, None if start is None else start.numpy())

        def answers(tasks: Sequence[Task], done: Done) -> list[Answers]:
            texts = iter(done.texts or ())
            return [self.exam.answers(task, [next(texts) for _ in prompts[task]]) for task in tasks]

        works = [
            *(work((task,)) for task in unseen),
            *(work(job.tasks, None, job.start) for job in started),
            *(work(job.tasks, job.plan, job.start) for job in jobs),
        ]
        done = iter(self._carry_out(self.student, works, self._asking, progress=progress))
        for task in unseen:
            (self._before[task],) = answers((task,), next(done))
        own = {(id(job.start), job.tasks): answers(job.tasks, next(done)) for job in started}
        groups, rest = list[list[tuple[Task, Answers, Answers]]](), list(done)
        for job, one in zip(jobs, rest):
            before = own.get((id(job.start), job.tasks)) or [self._before[task] for task in job.tasks]
            after = before if one.texts is None else answers(job.tasks, one)
            groups.append(list(zip(job.tasks, before, after)))
        results = iter(examined(self.exam, [part for group in groups for part in group]))
        return [
            Outcome(tuple(next(results) for _ in group), one.report, None if one.adapter is None else tensor(one.adapter))
            for group, one in zip(groups, rest)
            if one.report is not None
        ]


def examined(exam: Exam, parts: Sequence[tuple[Task, Answers, Answers]]) -> list[TaskResult]:
    """The results of tasks with the answers before and after an update.

    Raises:
        ValueError: the grader returned something other than a verdict.
        GradingError: the grader could not say of every answer whether it is right.
    """
    marks = iter(exam.marks([(task, answers) for task, *both in parts for answers in both]))
    found = []
    for task, before, after in parts:
        found.append(TaskResult.of(task, before, after, next(marks), next(marks), exam.score))
    return found
