"""What a grader is, and how one is found by name."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeVar

from seal_env.checks import brief, finite_number, instantiate, name_of
from seal_env.errors import SealError
from seal_env.tasks.answer_match import contains, exact, f1

Score = bool | float  # right or wrong, or from 0 to 1


class Ungraded(Enum):
    """What a grader says of an answer that nobody will ever grade, such as one that a judge's endpoint refuses to read.

    Its question is left out of the score. For an answer that may be graded later a grader says None, which is an error.
    """

    UNGRADED = "ungraded"


UNGRADED = Ungraded.UNGRADED
Verdict = Score | Ungraded | None  # None: the grader cannot say


@dataclass(frozen=True)
class Answered:
    """A question and what was answered.

    Attributes:
        answers: that are accepted; any of them will do.
    """

    question: str
    prediction: str
    answers: tuple[str, ...]


Item = TypeVar("Item")
Found = TypeVar("Found")
Grader = Callable[[Sequence[Answered]], list[Verdict]]  # one verdict an item, in order


def by_text(rule: Callable[[str, Sequence[str]], Score]) -> Grader:
    """A grader that looks at each answer alone, without the question."""

    @functools.wraps(rule, updated=())
    def grader(answered: Sequence[Answered]) -> list[Verdict]:
        return [rule(one.prediction, one.answers) for one in answered]

    return grader


GRADERS: dict[str, tuple[Callable[..., Grader] | str, str]] = {
    "exact": (lambda: by_text(exact), "equal to an accepted answer after SQuAD's normalization"),
    "contains": (lambda: by_text(contains), "holds an accepted answer as whole words, after the same normalization"),
    "f1": (lambda: by_text(f1), "SQuAD's F1 over words: a mark from 0 to 1"),
    "calibrated": (
        "seal_env.evaluation.graders.calibrated:make_calibrated",
        "predicts the verdict of a careful judge from the words of question, accepted answer and answer",
    ),
    "judge": (
        "seal_env.evaluation.graders.judge:Judge",
        "a model behind an OpenAI-compatible endpoint says whether it agrees with an accepted answer, as in SEAL",
    ),
    "local-judge": (
        "seal_env.evaluation.graders.local_judge:LocalJudge",
        "the same by an instruct model on this machine: is yes likelier than no?",
    ),
}


def get_grader(name: str, options: Mapping[str, Any] | None = None) -> Grader:
    """The grader of this name with its ``options``, or the function at ``package.module:name``, which gets them as keywords.

    Raises:
        ValueError: there is none, or it has no such option; the closest is named.
    """
    return instantiate("grader", name, {known: make for known, (make, _) in GRADERS.items()}, options)


class GradingError(SealError):
    """Answers without a verdict; those that there were are kept where the grader keeps any."""


def grade(grader: Grader, answered: Iterable[Answered]) -> dict[Answered, Score | None]:
    """The verdict on every different item, as a Python bool or float; each is asked for once.

    None stands for :data:`UNGRADED`: the item has no verdict and will not get one, and is to be left out of any score.

    Raises:
        ValueError: the grader returned something other than one verdict for each item; it is named, and what it returned.
        GradingError: the grader could not say.
    """
    return each_once("grader", grader, answered, _mark, "verdict on", "answers")


def _mark(value: object, item: Answered, returned: str) -> Score | None:
    if value is UNGRADED:
        return None
    wanted = "a verdict is True, False, a number from 0 to 1, or None where the grader cannot say"
    wanted += f"; this one was about the answer {item.prediction!r:.60} to {item.question!r:.60}"
    mark = finite_number(value, returned, wanted, 0, 1)
    return mark if isinstance(mark, bool) else float(mark)


def each_once(
    what: str,
    function: Callable[[Sequence[Item]], Sequence[object]],
    items: Iterable[Item],
    read: Callable[[Any, Item, str], Found],
    missing: str,
    about: str,
) -> dict[Item, Found]:
    """What a user's function says of every different item, all of them given to it at once.

    Args:
        what: the function is; errors call it so, by its name.
        read: checks what was returned for an item; the third argument is how an error begins: ``grader 'own:g' returned``.
        missing: what there is none of where the function returned None.
        about: the items.

    Raises:
        ValueError: the function returned something other than a list as long as the items, or ``read`` refused what is in it.
        GradingError: None was returned for some of the items.
    """
    asked = list(dict.fromkeys(items))
    returned = f"{what} {name_of(function)!r} returned"
    values = _listed(given := function(asked))
    if values is None or len(values) != len(asked):
        raise ValueError(
            f"{returned} {brief(given)} for {len(asked)} {about}; it must return a list, one entry for each in order"
        )
    found = {item: read(value, item, returned) for item, value in zip(asked, values) if value is not None}
    if none := len(asked) - len(found):
        raise GradingError(f"no {missing} {none} of {len(asked)} {about}; the same call asks for these alone again")
    return found


def _listed(given: Any) -> list[Any] | None:
    """The entries of a list, tuple, array or the like; None for what has no entries, no order or no length."""
    if isinstance(given, (str, bytes, Mapping, AbstractSet)) or not hasattr(given, "__len__"):
        return None
    try:
        return list(given)
    except TypeError:  # an array without dimensions
        return None
