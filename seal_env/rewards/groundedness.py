"""How much of an edit its passage supports: trained edits also invent names and numbers."""

from __future__ import annotations

import functools
import re

from seal_env.tasks.answer_match import normalize

_SENTENCE = re.compile(r"[.!?:]\s+|\n")
_WORD = re.compile(r"\w[\w.,'\u2019-]*")
# Of a line: bullets, numbering, "Question 1:" and "Answer:".
_OPENING = re.compile(r"^[ \t]*(?:[-*\u2022]|\d+[.)]|(?:question|answer)\b[ \d]*:)[ \t]*", re.IGNORECASE | re.MULTILINE)


def groundedness(edit: str, title: str, context: str) -> float | None:
    """The share of the names and numbers of ``edit`` that its passage has; None if the edit has none.

    Names are words with a capital that do not begin a sentence, where every word has one. Numbers are words with a digit.
    Words of the title, and numbers that count lines, are neither.
    """
    known = _words(title)
    mentions = [word for word in _mentions(edit) if word not in known]
    passage = _words(context)
    return sum(word in passage for word in mentions) / len(mentions) if mentions else None


def _mentions(text: str) -> list[str]:
    """Names and numbers, normalized, each as often as it occurs."""
    mentions = []
    for sentence in _SENTENCE.split(_OPENING.sub("", text)):
        for i, word in enumerate(_WORD.findall(sentence)):
            if any(map(str.isdigit, word)) or (i and word[0].isupper()):
                mentions.append(_normal(word))
    return [word for word in mentions if word]


@functools.lru_cache(maxsize=4096)
def _words(text: str) -> frozenset[str]:
    return frozenset(map(_normal, _WORD.findall(text)))


_normal = functools.lru_cache(1 << 16)(normalize)
