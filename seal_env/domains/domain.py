"""What tasks, self-edits and exams an environment is about: knowledge or few-shot tasks."""

from __future__ import annotations

from typing import Protocol

from seal_env.domains.arc import Arc
from seal_env.domains.config import ArcConfig, EnvConfig, KnowledgeConfig
from seal_env.domains.knowledge import Knowledge
from seal_env.edits import ParsedEdit
from seal_env.evaluation import Evaluator
from seal_env.rewards import Proxy
from seal_env.student import Student
from seal_env.tasks import Task, TaskSource
from seal_env.update import Update


class Domain(Protocol):
    """One kind of task and what is done with it.

    Attributes:
        source: the tasks.
        exam: how the student is asked.
        proxy: what rates edits without an update; None: they are learnt.
        writes_questions: whether a model writes the questions, and may find none for some tasks.
    """

    source: TaskSource
    evaluator: Evaluator
    proxy: Proxy | None
    writes_questions: bool

    def instruction(self, task: Task) -> str:
        """The prompt that asks for a self-edit."""

    def parse(self, action: object, task: Task, seed: int) -> ParsedEdit:
        """What an action means for a task; no action raises."""

    def joint_update(self, sequences: tuple[str, ...], seed: int) -> Update:
        """One update on the sequences of several edits (``mode="corpus"``)."""


def make_domain(config: EnvConfig, student: Student) -> Domain:
    """The domain that a configuration is of."""
    if isinstance(config, ArcConfig):
        return Arc(config, student)
    assert isinstance(config, KnowledgeConfig)
    return Knowledge(config, student)
