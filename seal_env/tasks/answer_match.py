"""Grading by the text alone, as SQuAD does: exact match, containment and F1 after its normalization.

No model is asked. An answer is held against every accepted form and the best one counts.
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
    """Whether ``prediction`` holds any of ``answers`` as whole words after normalization; one that normalizes to nothing counts
    only against nothing."""
    given = normalize(prediction)
    golds = [normalize(answer) for answer in checked(answers)]
    return any(f" {gold} " in f" {given} " if gold else not given for gold in golds)


def f1(prediction: str, answers: Sequence[str]) -> float:
    """The best F1 over ``answers`` between the bags of words, 0 to 1; nothing against nothing is 1."""
    return max(_f1(normalize(prediction).split(), normalize(answer).split()) for answer in checked(answers))


def _f1(given: list[str], gold: list[str]) -> float:
    if not given or not gold:
        return float(given == gold)
    common = (Counter(given) & Counter(gold)).total()
    return 2 * common / (len(given) + len(gold))


def checked(answers: Sequence[str]) -> Sequence[str]:
    """``answers``, of which there must be one at least."""
    if isinstance(answers, str):
        raise TypeError(f"answers must be a sequence of strings, got the string {answers!r}")
    if not answers:
        raise ValueError("answers must hold at least one accepted answer, got none")
    return answers
