"""SQuAD's comparison of answers as text: exact match, containment and F1 after its normalization.

A prediction is compared with every accepted answer, and the best result counts.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(a|an|the)\b")


def normalize(text: str) -> str:
    """``text`` in lower case, without punctuation and English articles, with single spaces."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact(prediction: str, answers: Sequence[str]) -> bool:
    """Whether ``prediction`` equals any of ``answers`` after normalization."""
    given = normalize(prediction)
    return any(given == normalize(answer) for answer in checked(answers))


def contains(prediction: str, answers: Sequence[str]) -> bool:
    """Whether ``prediction`` contains any of ``answers`` as whole words after normalization.

    An answer that normalizes to an empty text only matches an empty prediction.
    """
    given = normalize(prediction)
    golds = [normalize(answer) for answer in checked(answers)]
    return any(f" {gold} " in f" {given} " if gold else not given for gold in golds)


def f1(prediction: str, answers: Sequence[str]) -> float:
    """The best F1 over ``answers`` between the bags of words, 0 to 1; 1 if both are empty."""
    return max(_f1(normalize(prediction).split(), normalize(answer).split()) for answer in checked(answers))


def _f1(given: list[str], gold: list[str]) -> float:
    if not given or not gold:
        return float(given == gold)
    common = (Counter(given) & Counter(gold)).total()
    return 2 * common / (len(given) + len(gold))


def checked(answers: Sequence[str]) -> Sequence[str]:
    """``answers``; raises an error unless there is at least one."""
    if isinstance(answers, str):
        raise TypeError(f"answers must be a sequence of strings, got the string {answers!r}")
    if not answers:
        raise ValueError("answers must hold at least one accepted answer, got none")
    return answers
