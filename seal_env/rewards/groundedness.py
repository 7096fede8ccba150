"""How much of an edit its passage supports: trained edits also invent names and numbers."""

from __future__ import annotations

import functools
import re

from seal_env.rewards.coverage import normalized_words

_SENTENCE = re.compile(r"[.!?:]\s+|\n")
# Of a line: bullets, numbering, "Question 1:" and "Answer:".
_OPENING = re.compile(r"^[ \t]*(?:[-*\u2022]|\d+[.)]|(?:question|answer)\b[ \d]*:)[ \t]*", re.IGNORECASE | re.MULTILINE)


def groundedness(edit: str, title: str, context: str) -> float | None:
    """The share of the names and numbers of ``edit`` that its passage has; None if the edit has none.

    Names are words with a capital that do not begin a sentence, where every word has one. Numbers are words with a digit.
    Words of the title, and numbers that count lines, are neither.
    """
    mentions = [word for word in _mentions(edit) if word not in _known(title)]
    passage = _known(context)
    return sum(word in passage for word in mentions) / len(mentions) if mentions else None


def _mentions(text: str) -> list[str]:
    """Names and numbers, normalized, each as often as it occurs."""
    return [
        normal
        for sentence in _SENTENCE.split(_OPENING.sub("", text))
        for i, (word, normal) in enumerate(normalized_words(sentence))
        if any(map(str.isdigit, word)) or (i and word[0].isupper())
    ]


@functools.lru_cache(maxsize=4096)
def _known(text: str) -> frozenset[str]:
    return frozenset(normal for _, normal in normalized_words(text))
