"""What a grader is, and how one is found by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from seal_env.checks import made
from seal_env.grading.text import contains, exact, f1

Mark = bool | float  # right or wrong, or from 0 to 1
Verdict = Mark | None  # None: the grader cannot say


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


def by_text(rule: Callable[[str, Sequence[str]], Mark]) -> Grader:
    """A grader that looks at each answer alone, without the question."""
    return lambda answered: [rule(one.prediction, one.answers) for one in answered]


GRADERS: dict[str, tuple[Callable[..., Grader] | str, str]] = {
    "exact": (lambda: by_text(exact), "equal to an accepted answer after SQuAD's normalization"),
    "contains": (lambda: by_text(contains), "holds an accepted answer as whole words, after the same normalization"),
    "f1": (lambda: by_text(f1), "SQuAD's F1 over words: a mark from 0 to 1"),
    "calibrated": (
        "seal_env.grading.calibrated:make_calibrated",
        "predicts the verdict of a careful judge from the words of question, accepted answer and answer",
    ),
    "judge": (
        "seal_env.grading.judge:Judge",
        "a model behind an OpenAI-compatible endpoint says whether it agrees with an accepted answer, as in SEAL",
    ),
    "local-judge": (
        "seal_env.grading.local_judge:LocalJudge",
        "the same by an instruct model on this machine: is yes likelier than no?",
    ),
}


def get_grader(name: str, options: Mapping[str, Any] | None = None) -> Grader:
    """The grader of this name with its ``options``, or the function at ``package.module:name``, which gets them as keywords.

    Raises:
        ValueError: there is none, or it has no such option; the closest is named.
    """
    return made("grader", name, {known: make for known, (make, _) in GRADERS.items()}, options)


class GradingError(RuntimeError):
    """Answers without a verdict; those that there were are kept where the grader keeps any."""


def grade(grader: Grader, answered: Iterable[Answered]) -> dict[Answered, Mark]:
    """The verdict on every different item; each is asked for once.

    Raises:
        GradingError: the grader could not say.
    """
    return each_once(grader, answered, "a grader gives one verdict", "verdict on", "answers")


def each_once(
    ask: Callable[[Sequence[Item]], Sequence[Found | None]], items: Iterable[Item], gives: str, nothing: str, about: str
) -> dict[Item, Found]:
    """What ``ask`` says of every different item, all of them asked about at once.

    Args:
        gives: what is to be given, for the error where something else comes back.
        nothing: what is missing where None comes back.
        about: the items.

    Raises:
        GradingError: there is nothing on some of them.
    """
    asked = list(dict.fromkeys(items))
    said = ask(asked)
    if len(said) != len(asked):
        raise ValueError(f"{gives} for each of the {about}, in order: got {said!r:.80} for {len(asked)}")
    found = {item: one for item, one in zip(asked, said) if one is not None}
    if missing := len(asked) - len(found):
        raise GradingError(f"no {nothing} {missing} of {len(asked)} {about}; the same call asks for these alone again")
    return found
