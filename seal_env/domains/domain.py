"""The interface of a domain, and the registry that domains are found in."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from seal_env.domains.config import EnvConfig, check_options
from seal_env.domains.render import render_text
from seal_env.registry import Registry

if TYPE_CHECKING:
    from seal_env.edits import ParsedEdit
    from seal_env.evaluation import Evaluator
    from seal_env.rewards import Proxy
    from seal_env.student import Student
    from seal_env.tasks import Task, TaskSource
    from seal_env.tasks.arc import Pair
    from seal_env.update import Update


class Domain(ABC):
    """One kind of task: its tasks, what an edit for them means, how a student is evaluated, and how a step is rendered.

    Everything that differs between domains is here, so that nothing else asks which domain an environment has. A subclass
    sets ``Config``, ``source`` and ``evaluator`` and defines :meth:`instruction` and :meth:`parse`; the rest has defaults.

    Args:
        config: of the environment, an instance of ``Config`` whose templates are resolved.
        student: for its tokenizer, and for domains in which the model writes questions.

    Attributes:
        Config: the keywords of the domain's environments.
        render_modes: what its environments render; ``rgb_array`` needs :meth:`image`.
        report_measures: what a report computes for an edit besides its score: ``coverage``, the share of gold answers that
            occur in it, and ``length``, its characters.
        context_is_edit: whether the context can itself be learnt as an edit, as the baseline ``passage_only`` does.
        source: the tasks.
        evaluator: how the student is questioned and graded.
        proxy: rates edits without an update; None: the student is updated.
        writes_questions: whether the model writes the questions, and may find none for some tasks.
    """

    Config: ClassVar[type[EnvConfig]]
    render_modes: ClassVar[tuple[str, ...]] = ("ansi", "human")
    report_measures: ClassVar[tuple[str, ...]] = ("length",)
    context_is_edit: ClassVar[bool] = True

    source: TaskSource
    evaluator: Evaluator
    proxy: Proxy | None = None
    writes_questions: bool = False

    @abstractmethod
    def __init__(self, config: Any, student: Student) -> None: ...

    @abstractmethod
    def instruction(self, task: Task) -> str:
        """The prompt that asks the policy for a self-edit."""

    @abstractmethod
    def parse(self, action: object, task: Task, seed: int) -> ParsedEdit:
        """Turn an action into an update. No action raises: what cannot be used is a status of the result."""

    def joint_update(self, sequences: tuple[str, ...], seed: int) -> Update:
        """One update on the sequences of several edits, where ``Config.modes`` has ``corpus``."""
        raise NotImplementedError(f"{type(self).__name__} has no joint update")

    def render(self, task: Task, info: Mapping[str, Any] | None, edit: object, brief: bool = False) -> str:
        """A step as text with ANSI colours.

        Args:
            task: that the step was about, or, before the first step, that the edit is for.
            info: of the step; None before the first one.
            edit: the action of the step.
            brief: whether to cut long parts.
        """
        return render_text(task, info, edit, brief)

    def image(self, task: Task, info: Mapping[str, Any] | None) -> NDArray[np.uint8]:
        """A step as an image ``(height, width, 3)``, where ``render_modes`` has ``rgb_array``."""
        raise NotImplementedError(f"{type(self).__name__} renders no images")

    @classmethod
    def oracle_problem(cls, config: Any) -> str:
        """Why :meth:`oracle_edit` has no edits for environments of this config; empty where it has."""
        return f"domain {config.domain!r} has no oracle"

    def oracle_edit(self, context: str, task_id: str, kind: str) -> str:
        """The edit of an oracle, which knows the answers.

        Args:
            context: of the task.
            task_id: of the task, as in the infos.
            kind: ``pairs`` or ``facts``: questions with their answers, or statements; for domains with edits of both kinds.
        """
        raise NotImplementedError(f"{type(self).__name__} has no oracle")

    @classmethod
    def tool_shape(cls, config: Any) -> tuple[int, int] | None:
        """Demonstrations, and rows and columns of a grid, that an array of a task has room for.

        None where an edit is no choice of tools (:mod:`seal_env.envs.tool_choices`).
        """
        return None

    def demonstrations(self, task: Task) -> Sequence[Pair]:
        """Input and output grids of a task, where :meth:`tool_shape` is not None."""
        raise NotImplementedError(f"{type(self).__name__} has no tasks on grids")


def _check_domain(target: Any) -> str:
    is_domain = isinstance(target, type) and issubclass(target, Domain)
    return "" if is_domain else f"must be a subclass of seal_env.domains.Domain, got {target!r}"


DOMAINS: Registry[type[Domain]] = Registry("domain", "seal_env.domains", _check_domain)
DOMAINS.register("knowledge", "seal_env.domains.knowledge:KnowledgeDomain", "passages and questions; an edit is text")
DOMAINS.register("arc", "seal_env.domains.arc:ArcDomain", "few-shot tasks on grids; an edit is a choice of tools")
DEFAULT_DOMAIN = "knowledge"


def domain_of(keywords: Mapping[str, Any]) -> type[Domain]:
    """The domain that an environment's keywords name.

    Raises:
        ValueError: there is no such domain.
    """
    return DOMAINS.get(keywords.get("domain", DEFAULT_DOMAIN))


def from_keywords(keywords: Mapping[str, Any]) -> EnvConfig:
    """The config of ``gym.make(id, **keywords)``.

    Raises:
        ValueError: a keyword is unknown, and the closest one is named, or a value is invalid.
    """
    config_class = domain_of(keywords).Config
    check_options("SEAL environments", keywords, config_class)
    return config_class(**{**keywords, "domain": DOMAINS.path_of(keywords.get("domain", DEFAULT_DOMAIN))})
