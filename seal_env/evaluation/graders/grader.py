"""Graders: from questions and answers to verdicts."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeVar

from seal_env.checks import brief, finite_number
from seal_env.errors import SealError
from seal_env.registry import Registry, callable_problem, name_of
from seal_env.tasks.answer_match import contains, exact, f1

Score = bool | float  # right or wrong, or from 0 to 1


class Ungraded(Enum):
    """The verdict on an answer that cannot be graded, such as one that a judge's endpoint refuses to read.

    Its question is left out of the score. None, in contrast, means that there is no verdict yet, which is an error.
    """

    UNGRADED = "ungraded"


UNGRADED = Ungraded.UNGRADED
Verdict = Score | Ungraded | None  # None: there is no verdict


@dataclass(frozen=True)
class Answered:
    """A question with the answer to grade.

    Attributes:
        question: its text.
        prediction: the answer to grade.
        answers: the accepted answers; ``prediction`` has to agree with one of them.
    """

    question: str
    prediction: str
    answers: tuple[str, ...]


Item = TypeVar("Item")
Result = TypeVar("Result")
Grader = Callable[[Sequence[Answered]], list[Verdict]]  # one verdict per item, in order


def by_text(rule: Callable[[str, Sequence[str]], Score]) -> Grader:
    """A grader that applies ``rule(prediction, answers)`` to each item, without the question."""

    @functools.wraps(rule, updated=())
    def grader(answered: Sequence[Answered]) -> list[Verdict]:
        return [rule(item.prediction, item.answers) for item in answered]

    return grader


_GRADERS = "seal_env.evaluation.graders"
GRADERS: Registry[Any] = Registry("grader", "seal_env.graders", callable_problem)  # graders, and classes of graders
GRADERS.register("exact", by_text(exact), "equal to an accepted answer after SQuAD's normalization")
GRADERS.register("contains", by_text(contains), "contains an accepted answer as whole words, after the same normalization")
GRADERS.register("f1", by_text(f1), "SQuAD's F1 over words: a score from 0 to 1")
GRADERS.register("calibrated", f"{_GRADERS}.calibrated:Calibrated", "a local model that was fitted to GPT-4.1's verdicts")
GRADERS.register("judge", f"{_GRADERS}.judge:Judge", "a model behind an OpenAI-compatible endpoint, with SEAL's rule")
GRADERS.register("local-judge", f"{_GRADERS}.local_judge:LocalJudge", "an instruct model on this machine, with the same rule")


def get_grader(name: str | Grader, options: Mapping[str, Any] | None = None) -> Grader:
    """A grader by name, by import path (``package.module:object``) or as it is, with its options.

    A class, such as that of the ``judge``, is instantiated with the options. A function ``grade(answered)`` gets them as
    keywords.

    Raises:
        ValueError: there is no such grader, or it has no such option; the closest is named.
    """
    return GRADERS.create(name, options)


class GradingError(SealError):
    """Some answers have no verdict; a grader with a cache keeps the other verdicts."""


def grade(grader: Grader, answered: Iterable[Answered]) -> dict[Answered, Score | None]:
    """The verdict on every distinct item, as a Python bool or float, or None for :data:`UNGRADED`.

    Raises:
        ValueError: the grader did not return one verdict for each item; the message names the grader and the value.
        GradingError: the grader returned None for some items.
    """
    return each_once("grader", grader, answered, _score, "verdict on", "answers")


def _score(value: object, item: Answered, returned: str) -> Score | None:
    if value is UNGRADED:
        return None
    expected = "a verdict is True, False, a number from 0 to 1, or None if there is none"
    expected += f"; this is the verdict on the answer {item.prediction!r:.60} to {item.question!r:.60}"
    score = finite_number(value, returned, expected, 0, 1)
    return score if isinstance(score, bool) else float(score)


def each_once(
    kind: str,
    function: Callable[[Sequence[Item]], Sequence[object]],
    items: Iterable[Item],
    read: Callable[[Any, Item, str], Result],
    missing: str,
    about: str,
) -> dict[Item, Result]:
    """The results of a user's function for every distinct item, from one call.

    Args:
        kind: of the function, for errors.
        read: validates the value of an item; its third argument is the beginning of errors: ``grader 'own:g' returned``.
        missing: the result in errors, such as ``verdict on``.
        about: the items in errors.

    Raises:
        ValueError: the function did not return a list as long as the items, or ``read`` raised it for a value.
        GradingError: the function returned None for some items.
    """
    distinct = list(dict.fromkeys(items))
    returned = f"{kind} {name_of(function)!r} returned"
    values = _as_list(output := function(distinct))
    if values is None or len(values) != len(distinct):
        raise ValueError(
            f"{returned} {brief(output)} for {len(distinct)} {about}; it must return a list, one entry for each in order"
        )
    results = {item: read(value, item, returned) for item, value in zip(distinct, values) if value is not None}
    if none := len(distinct) - len(results):
        raise GradingError(f"no {missing} {none} of {len(distinct)} {about}; the same call asks for these alone again")
    return results


def _as_list(given: Any) -> list[Any] | None:
    """The entries of a list, tuple, array or the like; None for a value without entries, order or length."""
    if isinstance(given, (str, bytes, Mapping, AbstractSet)) or not hasattr(given, "__len__"):
        return None
    try:
        return list(given)
    except TypeError:  # an array without dimensions
        return None
