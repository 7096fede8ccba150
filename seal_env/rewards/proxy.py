"""What a proxy is, and how one is found by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from seal_env.checks import brief, finite_number, instantiate
from seal_env.edits import ParsedEdit
from seal_env.evaluation.graders.grader import each_once
from seal_env.tasks import Document, Task


@dataclass(frozen=True)
class Written:
    """A self-edit and the passage that it was written for; the questions about it are not shown.

    Attributes:
        segments: what of the edit would be learnt, without title and passage; none where that is nothing.
    """

    title: str
    context: str
    segments: tuple[str, ...]


@dataclass(frozen=True)
class Rating:
    """What a proxy says of an edit; all numbers must be finite.

    Attributes:
        marks: what the reward was made from, by name; they go into the info of the step.
    """

    reward: float
    marks: Mapping[str, float] = field(default_factory=dict)


Proxy = Callable[[Sequence[Written]], Sequence[Rating | None]]  # one an edit, in order; None: it cannot say

PROXIES = {  # where it is, and what it says
    "coverage": ("seal_env.rewards.coverage:Coverage", "the share of the passage's names and numbers that the edit says anew"),
    "rubric": ("seal_env.rewards.rubric:Rubric", "marks for length, diversity, quality and correctness by a language model"),
}


def get_proxy(name: str, options: Mapping[str, Any] | None = None) -> Proxy:
    """The proxy of this name with its ``options``, or the function at ``package.module:name``, which gets them as keywords.

    Raises:
        ValueError: there is none, or it has no such option; the closest is named.
    """
    return instantiate("proxy", name, {known: where for known, (where, _) in PROXIES.items()}, options)


def written(edit: ParsedEdit, task: Task | Document) -> Written:
    """What of ``edit`` would be learnt about ``task``."""
    segments = (sequence.removeprefix(f"{task.title}\n") for sequence in edit.sequences)
    return Written(task.title, task.context, tuple(segment for segment in segments if segment != task.context))


def rate(proxy: Proxy, edits: Iterable[Written]) -> dict[Written, Rating]:
    """The rating of every different edit, its numbers as Python numbers; each is asked for once.

    Raises:
        ValueError: the proxy returned something other than one :class:`Rating` of finite numbers for each edit; it is named,
            and what it returned.
        GradingError: the proxy could not say.
    """
    return each_once("proxy", proxy, edits, _rating, "rating of", "edits")


def _rating(value: object, _: Written, returned: str) -> Rating:
    if not isinstance(value, Rating):
        raise ValueError(f"{returned} {brief(value)}; a proxy gives one seal_env.rewards.Rating an edit, or None")
    if not isinstance(value.marks, Mapping) or not all(isinstance(name, str) for name in value.marks):
        raise ValueError(f"{returned} a Rating whose marks are {brief(value.marks)}; they must be numbers by name")
    reward = float(finite_number(value.reward, f"{returned} a Rating whose reward is"))
    marks = {name: finite_number(mark, f"{returned} a Rating whose mark {name!r} is") for name, mark in value.marks.items()}
    return Rating(reward, marks)
