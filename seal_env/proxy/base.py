"""What a proxy is, and how one is found by name."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from seal_env.checks import check_names, imported
from seal_env.edits import ParsedEdit
from seal_env.grading import GradingError
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
    """What a proxy says of an edit.

    Attributes:
        marks: what the reward was made from, by name; they go into the info of the step.
    """

    reward: float
    marks: Mapping[str, float] = field(default_factory=dict)


Proxy = Callable[[Sequence[Written]], Sequence[Rating | None]]  # one an edit, in order; None: it cannot say

PROXIES = {  # where it is, and what it says
    "coverage": ("seal_env.proxy.coverage:Coverage", "the share of the passage's names and numbers that the edit says anew"),
    "rubric": ("seal_env.proxy.rubric:Rubric", "marks for length, diversity, quality and correctness by a language model"),
}


def get_proxy(name: str, options: Mapping[str, Any] | None = None) -> Proxy:
    """The proxy of this name with its ``options``, or the function at ``package.module:name``, which gets them as keywords.

    Raises:
        ValueError: there is none, or it has no such option; the closest is named.
    """
    options = options or {}
    if name not in PROXIES:
        return functools.partial(imported("proxy", name, list(PROXIES)), **options)
    make = imported("proxy", PROXIES[name][0], list(PROXIES))
    parameters = inspect.signature(make).parameters
    check_names(f"proxy {name!r}", options, list(parameters))
    for needed, parameter in parameters.items():
        if parameter.default is inspect.Parameter.empty and needed not in options:
            raise ValueError(f"proxy {name!r} needs {needed}: proxy_options={{{needed!r}: ...}}")
    return make(**options)


def written(edit: ParsedEdit, task: Task | Document) -> Written:
    """What of ``edit`` would be learnt about ``task``."""
    segments = (sequence.removeprefix(f"{task.title}\n") for sequence in edit.sequences)
    return Written(task.title, task.context, tuple(segment for segment in segments if segment != task.context))


def rate(proxy: Proxy, edits: Iterable[Written]) -> dict[Written, Rating]:
    """The rating of every different edit; each is asked for once.

    Raises:
        GradingError: the proxy could not say.
    """
    items = list(dict.fromkeys(edits))
    ratings = proxy(items)
    if len(ratings) != len(items) or not all(isinstance(one, Rating | None) for one in ratings):
        raise ValueError(f"a proxy gives one seal_env.proxy.Rating an edit, in order: got {ratings!r:.80} for {len(items)}")
    found = {item: rating for item, rating in zip(items, ratings) if rating is not None}
    if missing := len(items) - len(found):
        raise GradingError(f"no rating of {missing} of {len(items)} edits; the same call asks for these alone again")
    return found
