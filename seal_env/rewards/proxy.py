"""Proxies: they rate a self-edit in place of the reward, without an update and without questions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from seal_env.checks import brief, finite_number
from seal_env.edits import ParsedEdit
from seal_env.evaluation.graders.grader import each_once
from seal_env.registry import Registry, callable_problem
from seal_env.tasks import Document, Task


@dataclass(frozen=True)
class EditText:
    """The text of a self-edit, and the passage it is about; a proxy does not get the questions.

    Attributes:
        title: of the passage.
        context: the passage.
        segments: the texts that an update would train on, without the title and the passage; empty if there are none.
    """

    title: str
    context: str
    segments: tuple[str, ...]


@dataclass(frozen=True)
class Rating:
    """A proxy's rating of an edit; all numbers must be finite.

    Attributes:
        reward: takes the place of the reward.
        components: by name, the numbers that the reward was computed from; they are added to the info of the step.
    """

    reward: float
    components: Mapping[str, float] = field(default_factory=dict)


Proxy = Callable[[Sequence[EditText]], Sequence[Rating | None]]  # one rating per edit, in order; None: there is no rating

PROXIES: Registry[Any] = Registry("proxy", "seal_env.proxies", callable_problem)  # proxies, and classes of proxies
PROXIES.register(
    "coverage", "seal_env.rewards.coverage:Coverage", "the share of the passage's names and numbers that the edit restates"
)
PROXIES.register(
    "rubric", "seal_env.rewards.rubric:Rubric", "a language model scores length, diversity, quality and correctness"
)


def get_proxy(name: str | Proxy, options: Mapping[str, Any] | None = None) -> Proxy:
    """A proxy by name, by import path (``package.module:object``) or as it is, with its options.

    A class, such as :class:`~seal_env.rewards.coverage.Coverage`, is instantiated with the options. A function
    ``rate(edits)`` gets them as keywords.

    Raises:
        ValueError: there is no such proxy, or it has no such option; the closest is named.
    """
    return PROXIES.create(name, options)


def edit_text(edit: ParsedEdit, task: Task | Document) -> EditText:
    """The text of ``edit`` that an update on ``task`` would train on."""
    segments = (sequence.removeprefix(f"{task.title}\n") for sequence in edit.sequences)
    return EditText(task.title, task.context, tuple(segment for segment in segments if segment != task.context))


def rate(proxy: Proxy, edits: Iterable[EditText]) -> dict[EditText, Rating]:
    """The rating of every distinct edit, with Python numbers.

    Raises:
        ValueError: the proxy did not return one :class:`Rating` of finite numbers for each edit; the message names the proxy
            and the value.
        GradingError: the proxy returned None for some edits.
    """
    return each_once("proxy", proxy, edits, _rating, "rating of", "edits")


def _rating(value: object, _: EditText, returned: str) -> Rating:
    if not isinstance(value, Rating):
        raise ValueError(f"{returned} {brief(value)}; a proxy returns one seal_env.rewards.Rating per edit, or None")
    if not isinstance(value.components, Mapping) or not all(isinstance(name, str) for name in value.components):
        raise ValueError(f"{returned} a Rating whose components are {brief(value.components)}; they must be numbers by name")
    reward = float(finite_number(value.reward, f"{returned} a Rating whose reward is"))
    components = {
        name: finite_number(number, f"{returned} a Rating whose component {name!r} is")
        for name, number in value.components.items()
    }
    return Rating(reward, components)
